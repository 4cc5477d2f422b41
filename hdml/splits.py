"""Which photos are learned from, which choose the checkpoint and which are measured (docs/data.md defines each part once)."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hdml.class_split import (
    PUBLISHED,
    VALIDATION_SHARE,
    ClassSplit,
    absolute_rule,
    check_learnable,
    class_sizes,
    split_classes,
    validation_classes,
)
from hdml.data import LabelledPhotos, Photo
from hdml.evaluate import DISTRACTOR
from indexing.errors import HdmlError
from indexing.preprocess import Box

HOLD_OUT = 0.2
"""Share of the photos, or of the groups, that is held out where the split asks for some and nobody says how many."""
_MIN_GROUPS_FOR_VALIDATION = 6
_DISTRACTORS = 2  # per photo of a validation class


@dataclass(frozen=True)
class SplitRule:
    """How to split.

    Attributes:
        by: ``class``: the test classes are never seen in training; ``group``: the test groups are not; ``seen``: only photos of
            the training classes are held out.
        test_classes: ``published``, or as :func:`split_classes` takes it.
        hold_out: share of the photos of the training classes, or of the groups, that is held out; 0 for none.
    """

    by: str
    test_classes: str
    hold_out: float


@dataclass(frozen=True)
class EvaluationSet:
    """What retrieval is measured on: photos that ask, and those that they search; None where each searches all the others."""

    queries: LabelledPhotos
    gallery: LabelledPhotos | None = None

    @property
    def parts(self) -> list[LabelledPhotos]:
        """The queries, and the gallery if it is apart."""
        return [self.queries] if self.gallery is None else [self.queries, self.gallery]

    @property
    def files(self) -> list[Path]:
        return [file for part in self.parts for file in part.files]

    @property
    def size(self) -> int:
        """Number of photos."""
        return sum(len(part.paths) for part in self.parts)

    def without(self, failed: Collection[Photo]) -> "EvaluationSet":
        """The same less some photos."""

        def left(photos: LabelledPhotos) -> LabelledPhotos:
            return photos.select([index for index, photo in enumerate(photos.photos) if photo not in failed])

        return EvaluationSet(left(self.queries), left(self.gallery) if self.gallery else None)


@dataclass(frozen=True)
class Split:
    """Positions of the photos of each part; no photo is in two of them.

    Attributes:
        photos: all of them; those in no part are left aside.
        train: learned from.
        validation: choose the checkpoint.
        test: ask, at the end.
        gallery: searched by ``test``; empty where test photos search one another.
        seen: photos of training classes, held out to search those learned from.
        apart: pairs of photos learned from, of two classes, that are to meet in batches.
    """

    photos: LabelledPhotos
    train: tuple[int, ...]
    validation: tuple[int, ...] = ()
    test: tuple[int, ...] = ()
    gallery: tuple[int, ...] = ()
    seen: tuple[int, ...] = ()
    apart: tuple[tuple[Photo, Photo], ...] = ()

    @property
    def classes(self) -> ClassSplit:
        names = self.photos.classes
        parts = (self.train, self.validation, self.test + self.gallery)
        return ClassSplit(*(tuple(names[label] for label in np.unique(self.photos.labels[list(part)])) for part in parts))

    @cached_property
    def train_set(self) -> LabelledPhotos:
        return self.photos.select(self.train).compact()

    @cached_property
    def validation_set(self) -> LabelledPhotos | None:
        return self.photos.select(self.validation).compact() if self.validation else None

    @cached_property
    def test_set(self) -> EvaluationSet | None:
        return self._set(self.test, self.gallery) if self.test else None

    @cached_property
    def seen_set(self) -> EvaluationSet | None:
        return self._set(self.seen, self.train) if self.seen else None

    def _set(self, queries: Sequence[int], gallery: Sequence[int]) -> EvaluationSet:
        if not gallery:
            return EvaluationSet(self.photos.select(queries).compact())
        both = self.photos.select([*queries, *gallery]).compact()  # so that one label is one class in both
        count = len(queries)
        return EvaluationSet(both.select(range(count)), both.select(range(count, count + len(gallery))))

    def to_json(self) -> dict[str, list[Any]]:
        """The photos of each part, by path, or by path and box."""
        return {name: [_named(self.photos.photos[index]) for index in getattr(self, name)] for name in _PART_NAMES}

    @classmethod
    def from_json(cls, photos: LabelledPhotos, parts: Mapping[str, Iterable[Any]]) -> "Split":
        """What :meth:`to_json` wrote, less the photos that are no more there."""
        at = {photo: index for index, photo in enumerate(photos.photos)}
        listed = {name: map(_photo, parts.get(name, ())) for name in _PART_NAMES}
        found = {name: tuple(at[photo] for photo in its if photo in at) for name, its in listed.items()}
        return cls(photos, found["train"], found["validation"], found["test"], found["gallery"], found["seen"])

    @classmethod
    def of_classes(cls, photos: LabelledPhotos, classes: ClassSplit) -> "Split":
        """All photos of the classes of each part."""
        return cls(
            photos,
            train=_of(photos, classes.train),
            validation=_of(photos, classes.validation),
            test=_of(photos, classes.test),
        )


_PART_NAMES = ("train", "validation", "test", "gallery", "seen")


def make_rule(photos: LabelledPhotos, *, split: str, test_classes: str | None, hold_out: float | None) -> SplitRule:
    """The rule that is meant by what was given of it.

    Args:
        photos: all of them.
        split: ``class``, ``group`` or ``seen``.
        test_classes: as :class:`SplitRule` has it; None takes the parts that the data state, if they do, and else none.
        hold_out: a share; None takes none by class and ``HOLD_OUT`` otherwise.

    Raises:
        HdmlError: two of them exclude each other, or the data lack what the rule needs.
    """
    if hold_out is not None and not 0 < hold_out < 1:
        raise HdmlError(f"--hold-out must be a share between 0 and 1, got {hold_out:g}; leave it away to hold out nothing.")
    if split == "class":
        by_data = PUBLISHED if photos.parts else "none"
        return SplitRule(split, absolute_rule(by_data if test_classes is None else test_classes), hold_out or 0.0)
    if test_classes not in (None, "none"):
        raise HdmlError(
            f"--test-classes needs --split class, but got {test_classes} with --split {split}; for figures of unseen classes and "
            "of seen ones, say --test-classes and --hold-out."
        )
    if split == "group" and not photos.groups:
        raise HdmlError(f"--split group needs groups, but {photos.root} has none; give a manifest with the column group.")
    return SplitRule(split, "none", hold_out or HOLD_OUT)


def split_photos(photos: LabelledPhotos, rule: SplitRule) -> Split:
    """Split the photos; a function of their names and of the rule alone, so that runs of every seed learn from the same ones.

    Raises:
        HdmlError: the rule cannot be read, names unknown classes, or leaves too little to learn from or to test on.
    """
    if rule.by == "group":
        return _split_by_group(photos, rule.hold_out)
    if rule.test_classes == PUBLISHED:
        split = _published_split(photos)
    else:
        split = Split.of_classes(photos, split_classes(photos, rule.test_classes))
    return _with_seen(split, rule.hold_out) if rule.hold_out else split


def published_test(photos: LabelledPhotos) -> EvaluationSet | None:
    """The photos that the data themselves give to be tested on; None where they give none."""
    return Split(photos, (), test=_part(photos, "test", "query"), gallery=_part(photos, "gallery")).test_set


def validation_photos(asked: LabelledPhotos, learned: LabelledPhotos) -> LabelledPhotos:
    """What chooses the checkpoint: the validation photos among distractors.

    A handful of classes by themselves is soon told apart without a fault, and then any checkpoint is as good as another. The
    distractors are photos that are learned from, from all over them, of classes that are not asked for.
    """
    wanted = set(asked.classes)
    others = [index for index, label in enumerate(learned.labels.tolist()) if learned.classes[label] not in wanted]
    count = min(len(others), _DISTRACTORS * len(asked.paths))
    among = learned.select([others[index * len(others) // count] for index in range(count)])
    return LabelledPhotos(
        asked.root,
        asked.paths + among.paths,
        np.concatenate([asked.labels, np.full(count, DISTRACTOR)]),
        asked.classes,
        boxes=asked.boxes + among.boxes,
    )


def groups_on_both_sides(split: Split) -> list[str]:
    """Names of the groups with photos both learned from and measured on."""
    groups = split.photos.groups
    if not groups:
        return []
    measured = {groups[index] for index in (*split.test, *split.gallery, *split.seen)}
    return sorted(name for name in {groups[index] for index in split.train} & measured if name is not None)


def _published_split(photos: LabelledPhotos) -> Split:
    """The parts that the data state; without a validation part, validation classes are taken from the training part."""
    if not photos.parts:
        raise HdmlError(f"--test-classes published needs data that state their parts, but {photos.root} states none.")
    train, validation = _part(photos, "train"), _part(photos, "validation")
    asked, gallery = _part(photos, "test", "query"), _part(photos, "gallery")
    stated = set(photos.parts)
    if {"query", "gallery"} & stated and ("test" in stated or not {"query", "gallery"} <= stated):
        listed = ", ".join(sorted(stated))
        raise HdmlError(f"Parts must be test, or query and gallery, but those of {photos.root} are {listed}; name them so.")
    sizes = class_sizes(photos, train)
    chosen = validation_classes(photos, sizes, "give more photos the part train")
    if not validation:
        names = set(chosen)
        validation = tuple(index for index in train if photos.classes[photos.labels[index]] in names)
        train = tuple(index for index in train if photos.classes[photos.labels[index]] not in names)
    split = Split(photos, train, validation, asked, gallery)
    if asked:
        _check_testable(split, "the data's own parts")
    return split


def _split_by_group(photos: LabelledPhotos, share: float) -> Split:
    """Whole groups for the test, and of the others for validation; a photo without a group is one by itself."""
    members = _members(photos, range(len(photos.paths)))
    names = sorted(members, key=_drawn)
    tested = max(1, round(share * len(names)))
    left = len(names) - tested
    chosen = max(2, round(VALIDATION_SHARE * left)) if left >= _MIN_GROUPS_FOR_VALIDATION else 0
    ends = (names[:tested], names[tested : tested + chosen], names[tested + chosen :])
    test, validation, train = (tuple(sorted(index for name in part for index in members[name])) for part in ends)
    check_learnable(photos, class_sizes(photos, train), "lower --hold-out")
    if not any(size > 1 for size in class_sizes(photos, validation).values()):
        train, validation = tuple(sorted(train + validation)), ()
    split = Split(photos, train, validation, test)
    _check_testable(split, f"--hold-out {share:g}")
    return split


def _with_seen(split: Split, share: float) -> Split:
    """Hold out photos of the training classes, whole groups where they are known; every class keeps 2 to learn from.

    From every class about its share is taken, in an order drawn from the names of the groups (or photos) alone.
    """
    photos = split.photos
    members = _members(photos, split.train)
    left = class_sizes(photos, split.train)
    wanted = {name: round(share * size) for name, size in left.items()}
    held: set[int] = set()
    for name in sorted(members, key=_drawn):
        taken = class_sizes(photos, members[name])
        if any(wanted[label] > 0 for label in taken) and all(left[label] - count >= 2 for label, count in taken.items()):
            held.update(members[name])
            for label, count in taken.items():
                left[label] -= count
                wanted[label] -= count
    if not held:
        raise HdmlError(
            f"--hold-out {share:g} needs training classes that keep 2 photos when some are held out, but {photos.root} has none; "
            "add photos or leave it away."
        )
    train = tuple(index for index in split.train if index not in held)
    return Split(photos, train, split.validation, split.test, split.gallery, tuple(sorted(held)))


def _members(photos: LabelledPhotos, indices: Iterable[int]) -> dict[str, list[int]]:
    """Positions of the photos of each group; a photo without one goes by its own name."""
    members: dict[str, list[int]] = {}
    for index in indices:
        group = photos.groups[index] if photos.groups else None
        members.setdefault(f"group {group}" if group is not None else f"photo {photos.photos[index]}", []).append(index)
    return members


def _drawn(name: str) -> str:
    """Sorts names in an order that has nothing to do with them."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def _of(photos: LabelledPhotos, names: Collection[str]) -> tuple[int, ...]:
    wanted = set(names)
    labels = [label for label, name in enumerate(photos.classes) if name in wanted]
    return tuple(np.flatnonzero(np.isin(photos.labels, labels)).tolist())


def _part(photos: LabelledPhotos, *names: str) -> tuple[int, ...]:
    return tuple(index for index, part in enumerate(photos.parts) if part in names)


def _check_testable(split: Split, rule: str) -> None:
    searched = class_sizes(split.photos, split.gallery or split.test)
    least = 1 if split.gallery else 2
    if len(searched) < 2 or not any(searched.get(name, 0) >= least for name in class_sizes(split.photos, split.test)):
        raise HdmlError(
            "Testing needs photos of at least 2 classes to search, one of them to be found by a photo that asks, since among "
            f"photos of one class no answer is wrong; {rule} gives {len(searched)} classes of {split.photos.root}."
        )


def _named(photo: Photo) -> Any:
    return photo.path.as_posix() if photo.box is None else {"path": photo.path.as_posix(), "box": list(photo.box)}


def _photo(named: Any) -> Photo:
    return Photo(Path(named)) if isinstance(named, str) else Photo(Path(named["path"]), Box(*named["box"]))
