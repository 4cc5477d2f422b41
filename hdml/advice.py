"""What a run is warned of: batches that cannot be as asked, and embeddings that collapse."""

from collections.abc import Callable

import numpy as np

from hdml.config import TrainConfig
from hdml.data import LabelledPhotos
from hdml.sampling import Sampler
from hdml.train import TrainProgress
from hdml.watcher import Watcher

FEW_CLASSES = 10


def say_batches(config: TrainConfig, sampler: Sampler, learned: LabelledPhotos, watcher: Watcher) -> None:
    """Tell what the classes and photos to learn from make of the batches that were asked for."""
    if sampler.classes_per_batch < config.classes_per_batch:
        watcher.say(
            f"A batch holds {sampler.classes_per_batch} classes instead of {config.classes_per_batch}: there are no more with "
            "2 photos."
        )
    if len(learned.classes) < FEW_CLASSES:
        watcher.say(
            f"With {len(learned.classes)} classes to learn from, little is learned that holds for classes never seen; the more "
            "classes, the better, even with few photos each."
        )
    sizes = np.bincount(learned.labels, minlength=len(learned.classes))
    short = int(((sizes > 1) & (sizes < config.photos_per_class)).sum())
    if short:
        watcher.say(f"{short} classes have fewer than {config.photos_per_class} photos and give some of them twice to a batch.")


def reporting(watcher: Watcher) -> Callable[[TrainProgress], None]:
    """Passes steps on to the watcher, and says once when the embeddings of a batch collapse."""
    warned = False

    def report(progress: TrainProgress) -> None:
        nonlocal warned
        watcher.step(progress)
        spread = progress.spread
        if spread is not None and spread.collapsing and not warned:
            warned = True
            watcher.say(
                f"Step {progress.step}: the embeddings are collapsing, all photos look alike to the model (mean cosine of two "
                f"photos {spread.similarity:.2f}, effective rank {spread.effective_rank:.1f}); if it goes on, start again with a "
                "lower --lr."
            )

    return report
