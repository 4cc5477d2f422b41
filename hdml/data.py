"""Labelled photos: what is known of each, and the labelled folder, the simplest place to find them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexing.errors import HdmlError
from indexing.gallery import check_gallery, walk_gallery
from indexing.preprocess import Box

PARTS = ("train", "validation", "test", "query", "gallery")
"""What a data set may say that a photo is for; :mod:`hdml.splits` defines each."""


class Photo(NamedTuple):
    """What is looked at: a file, or a part of one, so that one file may be several photos."""

    path: Path
    box: Box | None = None

    def __str__(self) -> str:
        return self.path.as_posix() + (f" [{self.box}]" if self.box else "")


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos and what is known of each; no photo is there twice.

    Attributes:
        root: the folder.
        paths: [n] paths of the photos below it (whole paths elsewhere), sorted; those that joined by marks come last.
        labels: [n] index into ``classes``, or :data:`hdml.evaluate.DISTRACTOR`.
        classes: names, sorted.
        boxes: [n] the part of each file that is the photo, None for all of it; empty where no photo has a box.
        groups: [n] name of what belongs together, such as a visit to a shop; empty where none is known.
        parts: [n] what the data say that each photo is for, out of ``PARTS``; empty where they say nothing.
        left_out: path, or line of a manifest, and reason of what is known to be unreadable without opening it.
    """

    root: Path
    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    boxes: tuple[Box | None, ...] = ()
    groups: tuple[str | None, ...] = ()
    parts: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    @cached_property
    def photos(self) -> tuple[Photo, ...]:
        """[n] what a photo is known by."""
        return tuple(map(Photo, self.paths, self.boxes or [None] * len(self.paths)))

    @property
    def files(self) -> list[Path]:
        return [self.root / path for path in self.paths]

    def select(self, indices: Sequence[int]) -> "LabelledPhotos":
        """Some of the photos, in the order of the indices, with the classes and labels as they are."""
        return replace(
            self,
            paths=tuple(self.paths[index] for index in indices),
            labels=self.labels[np.asarray(indices, np.int64)],
            boxes=tuple(self.boxes[index] for index in indices if self.boxes),
            groups=tuple(self.groups[index] for index in indices if self.groups),
            parts=tuple(self.parts[index] for index in indices if self.parts),
        )

    def of_classes(self, names: Collection[str]) -> "LabelledPhotos":
        """The photos of some of the classes, with labels counted anew."""
        wanted = set(names)
        chosen = {label for label, name in enumerate(self.classes) if name in wanted}
        return self.select([index for index, label in enumerate(self.labels.tolist()) if label in chosen])._counted_anew(chosen)

    def without(self, failed: Collection[Photo]) -> "LabelledPhotos":
        """The same photos less some of them; classes that lose all their photos go."""
        gone = set(failed)
        return self.select([index for index, photo in enumerate(self.photos) if photo not in gone]).compact()

    def compact(self) -> "LabelledPhotos":
        """The same photos, without the classes that none of them is of."""
        return self._counted_anew(set(self.labels.tolist()))

    def _counted_anew(self, kept: Collection[int]) -> "LabelledPhotos":
        old = sorted(kept)
        new_label = np.full(len(self.classes), -1, np.int64)
        new_label[old] = np.arange(len(old))
        return replace(self, labels=new_label[self.labels], classes=tuple(self.classes[label] for label in old))


def read_labelled_folder(root: Path) -> LabelledPhotos:
    """The photos of a folder with one sub-folder per class; photos may lie deeper below their class's folder.

    Raises:
        HdmlError: no such folder, no photos in it, or fewer than two classes.
    """
    if not root.is_dir():
        raise HdmlError(f"Labelled photos need a folder with one sub-folder per class, but there is no folder {root}.")
    check_gallery(root)
    found = list(walk_gallery(root))
    paths = sorted(path for path in (Path(photo.path) for photo in found if photo.reason is None) if len(path.parts) > 1)
    names = [path.parts[0] for path in paths]
    classes = sorted(set(names))
    if len(classes) < 2:
        has = f"photos of one class only ({classes[0]})" if classes else "no sub-folder with photos"
        raise HdmlError(f"Labelled photos need at least 2 classes, one sub-folder each, but {root} has {has}.")
    left_out = tuple((photo.path, photo.reason) for photo in found if photo.reason is not None)
    return replace(label_photos(root, [Photo(path) for path in paths], names), left_out=left_out)


def label_photos(
    root: Path,
    photos: Sequence[Photo],
    names: Sequence[str],
    *,
    groups: Sequence[str | None] | None = None,
    parts: Sequence[str] | None = None,
) -> LabelledPhotos:
    """Photos with the name of each one's class, sorted by path, and whatever else is known of them."""
    order = sorted(range(len(photos)), key=lambda index: (photos[index].path, photos[index].box or ()))
    classes = tuple(sorted(set(names)))
    position = {name: label for label, name in enumerate(classes)}
    has_boxes = any(photo.box is not None for photo in photos)
    return LabelledPhotos(
        root,
        tuple(photos[index].path for index in order),
        np.array([position[names[index]] for index in order], np.int64),
        classes,
        boxes=tuple(photos[index].box for index in order) if has_boxes else (),
        groups=tuple(groups[index] for index in order) if groups and any(groups) else (),
        parts=tuple(parts[index] for index in order) if parts else (),
    )
