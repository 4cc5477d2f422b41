"""Right and wrong marks on search results, as training takes them: photos that join a label, and pairs that are to meet.

Marks are must-link and cannot-link constraints (K. Wagstaff et al., "Constrained K-means Clustering with Background Knowledge",
ICML 2001): what is linked by right marks, directly or through others, is one thing. docs/feedback.md tells the rules once.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hdml.data import LabelledPhotos, Photo
from hdml.run import FEEDBACK, FEEDBACK_USED, write_lists
from hdml.splits import Split
from indexing.errors import HdmlError

_DIGEST = 20  # bytes
UNREADABLE = "a photo cannot be read"
HELD_OUT = "a photo is held out, or its label is"
TWO_LABELS = "marked right across two labels"
ONE_LABEL = "marked wrong within one label"
BOTH = "a photo of it is marked right and wrong for one label"
NO_LABEL = "no label of the training photos is known of it"
ALONE = "a label has a single photo, which no batch holds"


class MarkedPhoto(NamedTuple):
    """A photo that somebody marked, or marked a result of.

    Attributes:
        name: by which it is told.
        file: where it lies; below the run's folder if it was sent and kept.
        label: that the index knows.
        size, digest: bytes and hash of what was marked; None to be taken from the file.
        content: of a photo that was sent, a JPEG file to be kept in the run; None of any other.
    """

    name: str
    file: Path
    label: str | None = None
    size: int | None = None
    digest: str | None = None
    content: bytes | None = None


class Mark(NamedTuple):
    """Whether an item is a right answer to a query."""

    query: MarkedPhoto
    item: MarkedPhoto
    right: bool


class LeftOut(NamedTuple):
    """A mark that nothing is learned from, and why."""

    mark: Mark
    reason: str


@dataclass(frozen=True)
class Lesson:
    """What marks come to beside a split.

    Attributes:
        joined: photos that are no training photos yet, each with the label that it joins.
        apart: pairs of training photos, joined ones included, of two labels, marked as different things.
        left_out: the other marks.
    """

    joined: tuple[tuple[MarkedPhoto, str], ...]
    apart: tuple[tuple[Photo, Photo], ...]
    left_out: tuple[LeftOut, ...]


def keep_marks(run: Path, marks: Sequence[Mark]) -> None:
    """Write marks into a run, with the photos that were sent, so that it goes on with the same ones whatever is marked later."""

    def kept(photo: MarkedPhoto) -> dict[str, Any]:
        about = photo if photo.digest is not None else _examined(photo)
        if photo.content is not None:
            (run / photo.file).parent.mkdir(parents=True, exist_ok=True)
            (run / photo.file).write_bytes(photo.content)
        return {name: str(value) if name == "file" else value for name, value in about._asdict().items() if name != "content"}

    run.mkdir(parents=True, exist_ok=True)
    listed = [{"query": kept(mark.query), "item": kept(mark.item), "right": mark.right} for mark in marks]
    write_lists(run / FEEDBACK, {"marks": listed})


def read_marks(run: Path) -> list[Mark]:
    """The marks that a run began with; none of a run without.

    Raises:
        HdmlError: the file is damaged, or a marked photo has changed since the run began.
    """
    file = run / FEEDBACK
    if not file.exists():
        return []

    def photo(fields: Mapping[str, Any]) -> MarkedPhoto:
        return MarkedPhoto(**{**fields, "file": run.resolve() / fields["file"]})

    try:
        listed = json.loads(file.read_text(encoding="utf-8"))["marks"]
        marks = [Mark(photo(mark["query"]), photo(mark["item"]), bool(mark["right"])) for mark in listed]
    except (ValueError, TypeError, KeyError) as error:
        raise HdmlError(f"{file} should hold the marks of a run but cannot be read ({error}); start a new run.") from error
    for photo_ in {photo for mark in marks for photo in mark[:2]}:
        _check_unchanged(run, photo_)
    return marks


def _examined(photo: MarkedPhoto) -> MarkedPhoto:
    """With size and hash of its file; without them where that cannot be read."""
    try:
        content = photo.file.read_bytes()
    except OSError:
        return photo
    return photo._replace(size=len(content), digest=_digest(content))


def _check_unchanged(run: Path, photo: MarkedPhoto) -> None:
    if photo.digest is None or photo.file.is_relative_to(run.resolve()):
        return
    if _examined(photo._replace(size=None, digest=None)).digest != photo.digest:
        raise HdmlError(
            f"A run goes on with the photos it began with, but {photo.file}, a marked one, has changed; start a new run."
        )


def twins_of(photos: LabelledPhotos, marks: Iterable[Mark]) -> dict[MarkedPhoto, list[Photo]]:
    """The labelled photos whose files have the same bytes as each marked photo, however they are named, linked or copied."""
    marked = {photo for mark in marks for photo in mark[:2]}
    sizes = {photo.size for photo in marked}
    by_digest: dict[str, list[Photo]] = {}
    for photo in photos.photos:
        file = photos.root / photo.path
        if file.stat().st_size in sizes:
            by_digest.setdefault(_digest(file.read_bytes()), []).append(photo)
    return {photo: by_digest.get(photo.digest or "", []) for photo in marked}


def learn(
    marks: Sequence[Mark],
    split: Split,
    twins: Mapping[MarkedPhoto, Sequence[Photo]],
    *,
    unreadable: Collection[Path] = (),
) -> Lesson:
    """What marks come to, as a function of them and of the split alone.

    Args:
        split: of the readable photos.
        twins: of every marked photo, as :func:`twins_of` gives them.
        unreadable: files of marked photos that cannot be decoded.
    """
    standing = _Standing(split, twins, unreadable)
    doubted: set[MarkedPhoto] = set()
    while True:
        labels, left_out = _linked(marks, standing, doubted)
        pairs, doubts, wrong_left_out = _separated(marks, standing, labels, doubted)
        if doubts <= doubted:
            break
        doubted |= doubts
    joined = tuple((photo, label) for photo, label in labels.items() if not twins[photo])
    sizes = np.bincount(split.photos.labels[list(split.train)], minlength=len(split.photos.classes))
    members = {name: int(size) for name, size in zip(split.photos.classes, sizes, strict=True)}
    for _, label in joined:
        members[label] += 1
    apart: dict[frozenset[Photo], tuple[Photo, Photo]] = {}
    for mark, photos in pairs:
        if any(members[labels[photo]] < 2 for photo in mark[:2]):
            wrong_left_out.append(LeftOut(mark, ALONE))
        else:
            apart.setdefault(frozenset(photos), photos)
    return Lesson(joined, tuple(apart.values()), (*left_out, *wrong_left_out))


def with_lesson(split: Split, lesson: Lesson) -> Split:
    """A split that learns from the photos that joined too, and knows the pairs that are to meet."""
    photos, count = split.photos, len(split.photos.paths)
    position = {name: label for label, name in enumerate(photos.classes)}
    extra = len(lesson.joined)
    enlarged = replace(
        photos,
        paths=photos.paths + tuple(photo.file for photo, _ in lesson.joined),
        labels=np.concatenate([photos.labels, np.array([position[label] for _, label in lesson.joined], np.int64)]),
        boxes=photos.boxes and (*photos.boxes, *[None] * extra),
        groups=photos.groups and (*photos.groups, *[None] * extra),
        parts=photos.parts and (*photos.parts, *["train"] * extra),
    )
    return replace(split, photos=enlarged, train=(*split.train, *range(count, count + extra)), apart=lesson.apart)


def tell_lesson(lesson: Lesson, marks: Sequence[Mark], run: Path) -> str:
    """What a person should know of it, in a sentence."""
    right = sum(mark.right for mark in marks)
    told = (
        f"Marks: {right} right, {len(marks) - right} wrong. Photos that join a label by them: {len(lesson.joined)}; "
        f"pairs of two labels that are to meet in batches: {len(lesson.apart)}."
    )
    if not lesson.left_out:
        return told
    counts: dict[str, int] = {}
    for _, reason in lesson.left_out:
        counts[reason] = counts.get(reason, 0) + 1
    return f"{told} Left out, listed in {run / FEEDBACK_USED}: {'; '.join(f'{count}: {why}' for why, count in counts.items())}."


def write_lesson(run: Path, lesson: Lesson) -> None:
    """List what marks came to in the run's folder."""
    joined = [{"photo": str(photo.file), "label": label} for photo, label in lesson.joined]
    left_out = [
        {"query": mark.query.name, "item": mark.item.name, "right": mark.right, "reason": why} for mark, why in lesson.left_out
    ]
    apart = [[str(photo) for photo in pair] for pair in lesson.apart]
    write_lists(run / FEEDBACK_USED, {"joined": joined, "apart": apart, "left_out": left_out})


def count_lesson(run: Path) -> dict[str, int]:
    """Numbers of what :func:`write_lesson` listed."""
    listed = json.loads((run / FEEDBACK_USED).read_text(encoding="utf-8"))
    return {name: len(entries) for name, entries in listed.items()}


class _Standing:
    """What is known of a marked photo by itself."""

    def __init__(self, split: Split, twins: Mapping[MarkedPhoto, Sequence[Photo]], unreadable: Collection[Path]) -> None:
        photos = split.photos
        self._twins, self._unreadable = twins, set(unreadable)
        self._train: dict[Photo, str] = {photos.photos[index]: photos.classes[photos.labels[index]] for index in split.train}
        self._labels = set(self._train.values())
        self._held_out = set(photos.classes) - self._labels

    def reason(self, photo: MarkedPhoto) -> str | None:
        """Why nothing can be learned from it; None where something can."""
        if photo.digest is None or photo.file in self._unreadable:
            return UNREADABLE
        if any(twin not in self._train for twin in self._twins[photo]):
            return HELD_OUT
        if not self._twins[photo] and photo.label in self._held_out:
            return HELD_OUT
        return TWO_LABELS if len({self._train[twin] for twin in self._twins[photo]}) > 1 else None

    def label(self, photo: MarkedPhoto) -> str | None:
        """The training label of a photo without a reason: that of the same photo there, else the index's if it is one."""
        if self._twins[photo]:
            return self._train[self._twins[photo][0]]
        return photo.label if photo.label in self._labels else None

    def name(self, photo: MarkedPhoto) -> str | None:
        """Its label, ``HELD_OUT`` where that is not to be learned, or None where it has none."""
        if (why := self.reason(photo)) is not None:
            return HELD_OUT if why == HELD_OUT else None
        return self.label(photo)

    def is_new(self, photo: MarkedPhoto) -> bool:
        """Whether it is none of the training photos yet."""
        return not self._twins[photo]

    def photo(self, photo: MarkedPhoto) -> Photo:
        """As training knows it."""
        return self._twins[photo][0] if self._twins[photo] else Photo(photo.file)


def _linked(
    marks: Sequence[Mark], standing: _Standing, doubted: Collection[MarkedPhoto]
) -> tuple[dict[MarkedPhoto, str], list[LeftOut]]:
    """Labels of the photos that are marked right, and the right marks that are left out.

    Photos without a label are linked with one another; what has a label links nothing, so that one contradiction spoils no other.
    """
    left_out: list[LeftOut] = []
    links: list[Mark] = []
    groups: dict[MarkedPhoto, set[MarkedPhoto]] = {}
    for mark in filter(lambda mark: mark.right, marks):
        names = [standing.name(photo) for photo in mark[:2]]
        reasons = [why for photo in mark[:2] if (why := standing.reason(photo)) not in (None, HELD_OUT)]
        if any(photo in doubted for photo in mark[:2]):
            left_out.append(LeftOut(mark, BOTH))
        elif reasons:
            left_out.append(LeftOut(mark, reasons[0]))
        elif None not in names and (names[0] != names[1] or HELD_OUT in names):
            left_out.append(LeftOut(mark, HELD_OUT if HELD_OUT in names else TWO_LABELS))
        else:
            links.append(mark)
            free = [photo for photo, name in zip(mark[:2], names, strict=True) if name is None]
            group = set(free).union(*(groups.get(photo, ()) for photo in free))
            groups |= dict.fromkeys(group, group)
    fates = _fates(links, standing, groups)
    found: dict[MarkedPhoto, str] = {}
    for mark in links:
        name = next((fates[id(groups[photo])] for photo in mark[:2] if photo in groups), standing.name(mark.query))
        if name in (HELD_OUT, TWO_LABELS, NO_LABEL):
            left_out.append(LeftOut(mark, name))
        else:
            assert name is not None
            found |= dict.fromkeys(mark[:2], name)
    return found, left_out


def _fates(links: Sequence[Mark], standing: _Standing, groups: Mapping[MarkedPhoto, set[MarkedPhoto]]) -> dict[int, str]:
    """The label that each group of linked photos gets, by the group's identity, or the reason why it gets none."""
    names: dict[int, set[str]] = {id(group): set() for group in groups.values()}
    for mark in links:
        known = {name for photo in mark[:2] if (name := standing.name(photo)) is not None}
        for photo in mark[:2]:
            if photo in groups:
                names[id(groups[photo])] |= known

    def fate(found: set[str]) -> str:
        if HELD_OUT in found or not found:
            return HELD_OUT if found else NO_LABEL
        return TWO_LABELS if len(found) > 1 else next(iter(found))

    return {group: fate(found) for group, found in names.items()}


def _separated(
    marks: Sequence[Mark], standing: _Standing, labels: dict[MarkedPhoto, str], doubted: Collection[MarkedPhoto]
) -> tuple[list[tuple[Mark, tuple[Photo, Photo]]], set[MarkedPhoto], list[LeftOut]]:
    """Pairs marked wrong of two labels, photos that are marked right and wrong for one, and the wrong marks that are left out.

    A photo that is only marked wrong joins the training label that the index knows of it: ``labels`` gains it.
    """
    pairs: list[tuple[Mark, tuple[Photo, Photo]]] = []
    doubts: set[MarkedPhoto] = set()
    left_out: list[LeftOut] = []
    for mark in marks:
        if mark.right:
            continue
        both = mark[:2]
        if why := next(filter(None, map(standing.reason, both)), None):
            left_out.append(LeftOut(mark, why))
            continue
        if any(photo in doubted for photo in both):
            left_out.append(LeftOut(mark, BOTH))
            continue
        own = [labels.get(photo) or standing.label(photo) for photo in both]
        if own[0] is None or own[1] is None:
            left_out.append(LeftOut(mark, NO_LABEL))
        elif own[0] == own[1]:
            left_out.append(LeftOut(mark, ONE_LABEL))
            doubts |= {photo for photo in both if standing.is_new(photo)}
        else:
            labels |= dict(zip(both, (own[0], own[1]), strict=True))
            pairs.append((mark, (standing.photo(mark.query), standing.photo(mark.item))))
    return pairs, doubts, left_out


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=_DIGEST).hexdigest()
