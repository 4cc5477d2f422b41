"""What a run is warned of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdml.advice import reporting, say_batches
from hdml.config import TrainConfig
from hdml.data import LabelledPhotos
from hdml.diagnostics import Spread, StepFigures
from hdml.sampling import ClassSampler
from hdml.train import TrainProgress


class Notes:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.steps: list[int] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def read(self, done: int, total: int) -> None:
        raise AssertionError("nothing is read here")

    def step(self, progress: TrainProgress) -> None:
        self.steps.append(progress.step)


def batches(sizes: list[int], **settings: Any) -> list[str]:
    """What is said of classes with these numbers of photos."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    paths = tuple(Path(f"{label}/{index}.jpg") for index, label in enumerate(labels))
    learned = LabelledPhotos(Path(), paths, labels, tuple(map(str, range(len(sizes)))))
    config = TrainConfig("resnet18", "none", 32, "plain", "npair", "none", 1, **settings)
    sampler = ClassSampler(labels.tolist(), classes_per_batch=config.classes_per_batch, seed=0)
    notes = Notes()
    say_batches(config, sampler, learned, notes)
    return notes.sentences


def test_nothing_is_said_of_batches_as_asked() -> None:
    assert batches([4] * 12, classes_per_batch=12, photos_per_class=4) == []


def test_few_classes_and_few_photos_are_said_with_their_numbers() -> None:
    smaller, few, twice = batches([5, 3, 2, 1], classes_per_batch=8, photos_per_class=4)
    assert smaller == "A batch holds 3 classes instead of 8: there are no more with 2 photos."
    assert few.startswith("With 4 classes to learn from, little is learned")
    assert twice == "2 classes have fewer than 4 photos and give some of them twice to a batch."


@pytest.mark.parametrize(("similarity", "rank", "told"), [(0.95, 9.0, True), (0.1, 1.2, True), (0.1, 9.0, False)])
def test_collapse_is_said_once_with_its_figures(similarity: float, rank: float, told: bool) -> None:
    notes = Notes()
    report = reporting(notes)
    for step, spread in enumerate([None, Spread(0.0, 20.0), Spread(similarity, rank), Spread(similarity, rank)]):
        report(TrainProgress(step, 4, StepFigures(1.0), 1.0, 1.0, None, spread))
    assert notes.steps == [0, 1, 2, 3]
    assert len(notes.sentences) == told
    for sentence in notes.sentences:
        assert sentence.startswith("Step 2: the embeddings are collapsing")
        assert f"{similarity:.2f}, effective rank {rank:.1f}" in sentence
