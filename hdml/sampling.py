"""Batches of classes and their photos, drawn from the seed and the step alone, so that a resumed run sees the same ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Batch:
    """Indices of photos [B] and their classes [B]."""

    photos: NDArray[np.int64]
    labels: NDArray[np.int64]


class Sampler(Protocol):
    """Draws the batch of any step without knowing the ones before."""

    classes_per_batch: int

    def batch(self, step: int) -> Batch:
        """The batch of a step (from 0)."""


class ClassSampler:
    """N different classes with m photos of each: first one photo of every class, then the second of every class, and so on.

    The photos of a class differ as long as it has m; one that has fewer gives some of them twice, but never one photo alone.

    Args:
        labels: class of each photo; classes with fewer than two photos are never drawn.
        classes_per_batch: N, lowered to the number of classes that can be drawn.
        photos_per_class: m ≥ 2.
        seed: of the whole run.

    Raises:
        ValueError: fewer than two classes have two photos.
    """

    def __init__(self, labels: Sequence[int], *, classes_per_batch: int, seed: int, photos_per_class: int = 2) -> None:
        self._photos = _classes_with_pairs(labels)
        self._classes = np.array(list(self._photos))
        self.classes_per_batch = min(classes_per_batch, len(self._classes))
        self.photos_per_class = photos_per_class
        self._seed = seed

    def batch(self, step: int) -> Batch:
        """The batch of a step (from 0)."""
        random = np.random.default_rng((self._seed, step))
        labels = random.choice(self._classes, self.classes_per_batch, replace=False)
        photos = np.array([self._of_class(label, random) for label in labels])
        return Batch(photos.T.flatten(), np.tile(labels, self.photos_per_class))

    def _of_class(self, label: int, random: np.random.Generator) -> NDArray[np.int64]:
        photos = self._photos[label]
        enough = min(len(photos), self.photos_per_class)
        drawn = random.choice(photos, enough, replace=False)
        return np.resize(drawn, self.photos_per_class)


class TripletSampler:
    """N disjoint triplets in thirds: anchors of N different classes, their positives, and negatives of other classes.

    As in the authors' batches of 40 triplets (wzzheng/HDML); arguments and errors as of :class:`ClassSampler`.
    """

    def __init__(self, labels: Sequence[int], *, classes_per_batch: int, seed: int) -> None:
        self._pairs = ClassSampler(labels, classes_per_batch=classes_per_batch, seed=seed)
        self.classes_per_batch = self._pairs.classes_per_batch
        self._labels = np.asarray(labels)
        self._seed = seed

    def batch(self, step: int) -> Batch:
        """The batch of a step (from 0)."""
        pairs = self._pairs.batch(step)
        # A stream of its own: the pairs are those that an N-pair run of this seed sees.
        random = np.random.default_rng((self._seed, step, 1))
        anchors = pairs.labels[: self.classes_per_batch]
        negatives = np.array([random.choice(np.flatnonzero(self._labels != label)) for label in anchors])
        return Batch(np.concatenate([pairs.photos, negatives]), np.concatenate([pairs.labels, self._labels[negatives]]))


def _classes_with_pairs(labels: Sequence[int]) -> dict[int, NDArray[np.int64]]:
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        by_class.setdefault(label, []).append(index)
    paired = {label: np.array(photos) for label, photos in sorted(by_class.items()) if len(photos) > 1}
    if len(paired) < 2:
        raise ValueError(f"pairs need at least 2 classes with 2 photos each, got {len(paired)}")
    return paired
