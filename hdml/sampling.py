"""Batches of pairs: N classes, two different photos of each, drawn from the seed and the step alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PairBatch:
    """Indices of photos: pair i is one class, and its two photos differ.

    Attributes:
        anchors, positives: [N] photo indices.
        labels: [N] class of each pair; all different.
    """

    anchors: NDArray[np.int64]
    positives: NDArray[np.int64]
    labels: NDArray[np.int64]


class PairSampler:
    """Draws the batch of any step without knowing the ones before, so that a resumed run sees the same batches.

    Args:
        labels: class of each photo; classes with fewer than two photos are never drawn.
        classes_per_batch: N, lowered to the number of classes that can be drawn.
        seed: of the whole run.

    Raises:
        ValueError: fewer than two classes have two photos.
    """

    def __init__(self, labels: Sequence[int], *, classes_per_batch: int, seed: int) -> None:
        by_class: dict[int, list[int]] = {}
        for index, label in enumerate(labels):
            by_class.setdefault(label, []).append(index)
        self._photos = {label: np.array(photos) for label, photos in sorted(by_class.items()) if len(photos) > 1}
        if len(self._photos) < 2:
            raise ValueError(f"pairs need at least 2 classes with 2 photos each, got {len(self._photos)}")
        self._classes = np.array(list(self._photos))
        self.classes_per_batch = min(classes_per_batch, len(self._classes))
        self._seed = seed

    def batch(self, step: int) -> PairBatch:
        """The batch of a step (from 0)."""
        random = np.random.default_rng((self._seed, step))
        labels = random.choice(self._classes, self.classes_per_batch, replace=False)
        pairs = np.array([random.choice(self._photos[label], 2, replace=False) for label in labels])
        return PairBatch(pairs[:, 0], pairs[:, 1], labels)
