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
        apart: pairs of photos of two classes that can be drawn; every batch holds one, each as often as the others.

    Raises:
        ValueError: fewer than two classes have two photos.
    """

    def __init__(
        self,
        labels: Sequence[int],
        *,
        classes_per_batch: int,
        seed: int,
        photos_per_class: int = 2,
        apart: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._photos = _classes_with_pairs(labels)
        self._labels = np.asarray(labels)
        self._apart = apart
        self._classes = np.array(list(self._photos))
        self.classes_per_batch = min(classes_per_batch, len(self._classes))
        self.photos_per_class = photos_per_class
        self._seed = seed

    def batch(self, step: int) -> Batch:
        """The batch of a step (from 0)."""
        random = np.random.default_rng((self._seed, step))
        labels = random.choice(self._classes, self.classes_per_batch, replace=False)
        if pair := self.pair_apart(step):
            labels = np.concatenate([self._labels[list(pair)], labels[~np.isin(labels, self._labels[list(pair)])]])[: len(labels)]
        photos = np.array([self._of_class(label, random) for label in labels])
        if pair:
            _put(photos[0], pair[0], at=0)
            _put(photos[1], pair[1], at=1)
        return Batch(photos.T.flatten(), np.tile(labels, self.photos_per_class))

    def pair_apart(self, step: int) -> tuple[int, int] | None:
        """The pair that meets in the batch of a step, in either order in turn: the first is an anchor, the second its negative.

        The first is the first photo of the batch's first class, the second the second one of its second class.
        """
        if not self._apart:
            return None
        passed, place = divmod(step, len(self._apart))
        # A stream of its own: the rest of a batch is what a run without such pairs sees.
        order = np.random.default_rng((self._seed, passed, 2)).permutation(len(self._apart))
        first, second = self._apart[order[place]]
        return (second, first) if passed % 2 else (first, second)

    def _of_class(self, label: int, random: np.random.Generator) -> NDArray[np.int64]:
        photos = self._photos[label]
        enough = min(len(photos), self.photos_per_class)
        drawn = random.choice(photos, enough, replace=False)
        return np.resize(drawn, self.photos_per_class)


class TripletSampler:
    """N disjoint triplets in thirds: anchors of N different classes, their positives, and negatives of other classes.

    As in the authors' batches of 40 triplets (wzzheng/HDML); arguments and errors as of :class:`ClassSampler`.
    """

    def __init__(
        self, labels: Sequence[int], *, classes_per_batch: int, seed: int, apart: Sequence[tuple[int, int]] = ()
    ) -> None:
        self._pairs = ClassSampler(labels, classes_per_batch=classes_per_batch, seed=seed, apart=apart)
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
        if pair := self._pairs.pair_apart(step):
            negatives[0] = pair[1]
        return Batch(np.concatenate([pairs.photos, negatives]), np.concatenate([pairs.labels, self._labels[negatives]]))


def _put(photos: NDArray[np.int64], photo: int, *, at: int) -> None:
    """Have a photo of a class in a place among those that are drawn of it, which differ as much as before."""
    found = np.flatnonzero(photos == photo)
    if len(found):
        photos[found[0]] = photos[at]
    photos[at] = photo


def _classes_with_pairs(labels: Sequence[int]) -> dict[int, NDArray[np.int64]]:
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        by_class.setdefault(label, []).append(index)
    paired = {label: np.array(photos) for label, photos in sorted(by_class.items()) if len(photos) > 1}
    if len(paired) < 2:
        raise ValueError(f"pairs need at least 2 classes with 2 photos each, got {len(paired)}")
    return paired
