"""Arms of a comparison that do not train: the starting weights' own features, as they are or whitened."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hdml.arms import Frozen
from hdml.config import TrainConfig
from hdml.data import LabelledPhotos
from hdml.device import peak_memory
from hdml.measure import embed_with_encoder, embed_with_network, evaluate_parts, measured_photos
from hdml.model import EncoderNetwork
from hdml.outcomes import write_outcomes
from hdml.run import SPLIT, read_record, write_lists, write_record
from hdml.run_photos import check_leaks, read_run_photos
from hdml.splits import EvaluationSet
from hdml.trainee import starting_backbone
from hdml.watcher import Watcher
from indexing.errors import HdmlError

_LEAST_VARIANCE = 1e-6  # of the first component's: below it is noise, which whitening would blow up


def measure_frozen(run: Path, frozen: Frozen, *, device: torch.device, watcher: Watcher) -> None:
    """Measure a planned run as it begins, and record that as its end: ``after``, outcomes, seconds.

    Whitened, features are rotated and scaled so that those of the training photos have unit variance along their principal
    components, the first D of them; nothing is learned from labels.

    Raises:
        HdmlError: the encoder embeds no images, or has no embedding for some photo that the other arms embed.
    """
    record = read_record(run)
    config = TrainConfig(**record["config"])
    split, _, looks = read_run_photos(run, record, config, watcher)
    if looks is not None:
        record |= check_leaks(run, record, split, looks, watcher)
    began = time.monotonic()
    embed = _by_encoder(frozen.encoder, device, watcher) if frozen.encoder else _by_weights(config, device)
    whitening = Whitening(embed(split.train_set), config.dimension) if frozen.whiten else None
    measured_on, photos = measured_photos(split)
    embedded = [embed(part) for part in photos.parts]
    if whitening is not None:
        embedded = [whitening(rows) for rows in embedded]
    evaluation = evaluate_parts(embedded, photos, str(device))
    write_outcomes(run, evaluation.outcomes, photos)
    write_lists(run / SPLIT, split.to_json())
    record |= {"after": evaluation.to_json(), "measured_on": measured_on, "classes": asdict(split.classes)}
    if frozen == Frozen(whiten=False):  # what other runs call before
        record["before"] = record["after"]
    record |= {"seconds": time.monotonic() - began, "peak_memory": peak_memory(device)}
    write_record(run, record | {"status": "finished", "method": "untrained"})


def _by_weights(config: TrainConfig, device: torch.device) -> Callable[[LabelledPhotos], NDArray[np.float32]]:
    network = EncoderNetwork(starting_backbone(config), None)
    return lambda photos: embed_with_network(network, photos, config.image_size, device)


def _by_encoder(encoder: Path, device: torch.device, watcher: Watcher) -> Callable[[LabelledPhotos], NDArray[np.float32]]:
    def embed(photos: LabelledPhotos) -> NDArray[np.float32]:
        vectors, failed = embed_with_encoder(encoder, EvaluationSet(photos), device=device.type, on_progress=watcher.read)
        if failed:  # by this network: what no arm can read is left out before
            photo, reason = next(iter(failed.items()))
            raise HdmlError(
                f"Arms are compared on the same photos, but with {encoder} {photo} fails ({reason}); take the photo away, or "
                "compare without this arm."
            )
        return vectors

    return embed


class Whitening:
    """Principal components of unit features [n, F], each scaled to unit variance; at most ``dimension`` of them.

    H. Jégou and O. Chum, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening", ECCV 2012.
    """

    def __init__(self, features: NDArray[np.float32], dimension: int) -> None:
        self._mean = features.mean(0)
        _, sizes, axes = np.linalg.svd(features - self._mean, full_matrices=False)
        variances = np.square(sizes) / max(1, len(features) - 1)
        kept = min(dimension, int((variances > _LEAST_VARIANCE * variances[0]).sum()))
        self._rotation = (axes[:kept] / np.sqrt(variances[:kept])[:, None]).T

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit vectors [n, kept] of features [n, F]."""
        whitened = (features - self._mean) @ self._rotation
        lengths = np.linalg.norm(whitened, axis=1, keepdims=True)
        return np.asarray(whitened / np.maximum(lengths, np.finfo(np.float32).eps), np.float32)
