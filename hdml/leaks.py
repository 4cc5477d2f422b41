"""Copies among the photos: of one that is learned from, among those measured on; and of one photo under two classes.

A copy among the measured photos is found by whoever remembers, so that figures flatter. Copies are told and listed; no training
is refused. Exact copies are files of the same bytes. Near copies are photos that were written anew: another size, format or
quality (:mod:`indexing.copies`).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hdml.data import LabelledPhotos, Photo
from hdml.splits import Split
from indexing.copies import SIDE, close_hashes, difference, hashes, tolerance


@dataclass(frozen=True)
class Look:
    """What is remembered of a photo to tell copies: the digest of its file, and a small picture [16, 16, 3] of what it shows."""

    digest: bytes
    picture: NDArray[np.uint8]


@dataclass(frozen=True)
class Leaks:
    """Copies that were found; the first photo of a pair is learned from, the second is measured on.

    Attributes:
        exact: the same bytes.
        near: written anew, each measured photo with the closest of those learned from.
        labels: the same bytes under two classes, wherever they are.
        held_out: number of photos that are measured on.
    """

    exact: tuple[tuple[Photo, Photo], ...]
    near: tuple[tuple[Photo, Photo], ...]
    labels: tuple[tuple[Photo, Photo], ...]
    held_out: int

    def to_json(self) -> dict[str, list[list[str]]]:
        """The pairs of each kind, as leaks.json lists them."""
        kinds = {"exact": self.exact, "near": self.near, "two_classes": self.labels}
        return {name: [[str(first), str(second)] for first, second in pairs] for name, pairs in kinds.items()}


class Looks:
    """Looks at photos while they are decoded, from several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.of: dict[Photo, Look] = {}

    def look(self, photo: Photo, pixels: NDArray[np.uint8]) -> None:
        """Remember a photo [height, width, 3] and its file."""
        with (self._root / photo.path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        self.of[photo] = Look(digest, np.asarray(small))

    def sha256(self, photos: LabelledPhotos) -> str:
        """Of every photo's path, box, class and bytes, in order: a hash of the data themselves."""
        whole = hashlib.sha256()
        for photo, label in zip(photos.photos, photos.labels, strict=True):
            whole.update(f"{photo}\n{photos.classes[label]}\n".encode("utf-8", "surrogateescape"))
            whole.update(self.of[photo].digest)
        return whole.hexdigest()


def find_leaks(split: Split, looks: Looks) -> Leaks:
    """Copies between the training part and all others, and one photo in two classes."""
    photos = split.photos.photos
    learned = [photos[index] for index in split.train]
    measured = [photos[index] for index in sorted({*split.validation, *split.test, *split.gallery, *split.seen})]
    exact = _exact(learned, measured, looks)
    known = {second for _, second in exact}
    near = _near(learned, [photo for photo in measured if photo not in known], looks) if learned else ()
    return Leaks(tuple(exact), tuple(near), tuple(_two_classes(split.photos, looks)), len(measured))


def tell_leaks(leaks: Leaks, listed_in: Path) -> Iterator[str]:
    """What a person should know of them, in a sentence or two."""
    if leaks.exact or leaks.near:
        yield (
            f"Leak check: of {leaks.held_out} photos measured on, {len(leaks.exact)} are exact copies and {len(leaks.near)} near "
            f"copies of photos learned from, which flatters the figures; {listed_in} lists them."
        )
    else:
        yield f"Leak check: none of {leaks.held_out} photos measured on is a copy of one learned from."
    if leaks.labels:
        first, second = leaks.labels[0]
        yield (
            f"Photos that are in two classes, byte for byte: {len(leaks.labels)} pairs, such as {first} and {second}; "
            f"{listed_in} lists them."
        )


def _exact(learned: Sequence[Photo], measured: Sequence[Photo], looks: Looks) -> list[tuple[Photo, Photo]]:
    first: dict[Any, Photo] = {}
    for photo in learned:
        first.setdefault(_content(photo, looks), photo)
    return [(first[_content(photo, looks)], photo) for photo in measured if _content(photo, looks) in first]


def _two_classes(photos: LabelledPhotos, looks: Looks) -> Iterator[tuple[Photo, Photo]]:
    """Each photo whose bytes an earlier one of another class has, with that one."""
    first: dict[Any, tuple[Photo, int]] = {}
    for photo, label in zip(photos.photos, photos.labels.tolist(), strict=True):
        original, its_label = first.setdefault(_content(photo, looks), (photo, label))
        if its_label != label:
            yield original, photo


def _content(photo: Photo, looks: Looks) -> Any:
    """Two boxes of one file are two photos."""
    return looks.of[photo].digest, photo.box


def _near(learned: Sequence[Photo], measured: Sequence[Photo], looks: Looks) -> list[tuple[Photo, Photo]]:
    if not measured:
        return []
    mine, theirs = (np.stack([looks.of[photo].picture for photo in part]) for part in (measured, learned))
    pairs = []
    for row, candidates in enumerate(close_hashes(hashes(mine), hashes(theirs))):
        if len(candidates) == 0:
            continue
        differences = difference(mine[row], theirs[candidates])
        best = int(differences.argmin())
        if differences[best] <= tolerance(mine[row]):
            pairs.append((learned[candidates[best]], measured[row]))
    return pairs
