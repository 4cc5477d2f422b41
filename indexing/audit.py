"""What is in a gallery: duplicates, probable label errors, outliers, photos that searches miss, small classes, unreadable files.

It reads an index and the photos; it changes neither.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexing.catalogue import About, Catalogue
from indexing.duplicates import Group, find_duplicates
from indexing.errors import HdmlError
from indexing.gallery import Failure
from indexing.generation import open_generation
from indexing.items import PhotoRecord
from indexing.labelling import distinct_neighbours, find_label_errors
from indexing.neighbours import find_neighbours
from indexing.outliers import find_outliers

Progress = Callable[[str, int, int], None]

FEW = 5  # photos; a class of fewer is told
_NEIGHBOURS = 20


@dataclass(frozen=True)
class Photo:
    """A photo as a report shows it: path relative to the gallery, width and height in pixels, size in bytes."""

    id: int
    path: str
    label: str | None
    width: int
    height: int
    size: int


@dataclass(frozen=True)
class Copy:
    """A duplicate, and what kind of copy it is of the photo to keep."""

    photo: Photo
    kind: str


@dataclass(frozen=True)
class DuplicateGroup:
    """A photo to keep, and its duplicates."""

    keep: Photo
    copies: tuple[Copy, ...]

    @property
    def labels(self) -> set[str | None]:
        """Classes that the same picture is in."""
        return {self.keep.label, *(copy.photo.label for copy in self.copies)}


@dataclass(frozen=True)
class LabelError:
    """A label that is probably wrong, with the nearest photos of the suggested class and of the given one; doubt is 0..1."""

    photo: Photo
    suggested: str
    doubt: float
    like_suggested: tuple[Photo, ...]
    like_given: tuple[Photo, ...]


@dataclass(frozen=True)
class Outlier:
    """A photo far from all others, in robust standard deviations beyond the median, with the nearest."""

    photo: Photo
    deviations: float
    nearest: tuple[Photo, ...]


@dataclass(frozen=True)
class Audit:
    """What was found in a gallery.

    Attributes:
        index: its name.
        gallery: folder of the photos.
        model: fingerprint of the encoder.
        updated: when the index was last brought up to date, ISO 8601.
        photos: number of photos looked at.
        classes: number of classes with photos.
        duplicates: groups, the largest first.
        label_errors: the most doubtful first.
        outliers: the farthest first.
        lost: photos that a search by their own vectors does not put first.
        small_classes: class → number of photos, of classes with fewer than FEW; 0 for folders without any that can be read.
        unreadable: files that could not be indexed.
        changed: photos that are not there any more, or not as they were indexed.
    """

    index: str
    gallery: str
    model: str
    updated: str
    photos: int
    classes: int
    duplicates: tuple[DuplicateGroup, ...]
    label_errors: tuple[LabelError, ...]
    outliers: tuple[Outlier, ...]
    lost: tuple[Photo, ...]
    small_classes: dict[str, int]
    unreadable: tuple[Failure, ...]
    changed: tuple[Failure, ...]

    def summary(self) -> dict[str, Any]:
        """Numbers of findings, as JSON."""
        kinds = Counter(copy.kind for group in self.duplicates for copy in group.copies)
        return {
            "index": self.index,
            "photos": self.photos,
            "classes": self.classes,
            "duplicate_groups": len(self.duplicates),
            "duplicates": {"in_all": sum(kinds.values()), **dict(sorted(kinds.items()))},
            "duplicate_bytes": sum(copy.photo.size for group in self.duplicates for copy in group.copies),
            "duplicates_across_classes": sum(len(group.labels) > 1 for group in self.duplicates),
            "label_errors": len(self.label_errors),
            "outliers": len(self.outliers),
            "cannot_find_themselves": len(self.lost),
            "empty_classes": sum(count == 0 for count in self.small_classes.values()),
            "small_classes": sum(count > 0 for count in self.small_classes.values()),
            "unreadable": len(self.unreadable),
            "changed_since_indexing": len(self.changed),
        }

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "summary": self.summary()}


def audit_index(index_dir: Path, progress: Progress) -> Audit:
    """Look for all that may be wrong with a gallery.

    Args:
        progress: told what is being done, and how many of how many are.

    Raises:
        HdmlError: there is no index, it cannot be read, or it holds no photo.
    """
    with Catalogue(index_dir) as catalogue:
        about, unreadable, records = catalogue.about(), catalogue.failures(), catalogue.photo_records()
        if not records:
            raise HdmlError(
                f'the index {index_dir.resolve().name} must hold photos, but has none that can be read; run "hdml index" again'
            )
        generation = open_generation(index_dir, catalogue, "cpu")
        ids = np.array([record.id for record in records], np.int64)
        near = find_neighbours(ids, generation, catalogue, _NEIGHBOURS, progress)
        groups, changed = find_duplicates(records, about.gallery, near.places, progress)
        contents = _contents(len(records), groups)
        distinct = distinct_neighbours(near.places, contents)
        outliers = find_outliers(distinct, near.scores)
        names = sorted({record.label for record in records if record.label is not None})
        labels = _numbered(records, names, without={place for place, _ in outliers})

        def pages() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
            with catalogue.vectors() as vectors:
                for page_ids, page in vectors.pages():
                    known = np.isin(page_ids, ids)
                    yield np.searchsorted(ids, page_ids[known]), page[known]

        progress("Doubting labels", 0, len(records))
        errors = find_label_errors(labels, contents, near.places, near.scores, pages)
        progress("Doubting labels", len(records), len(records))
    photos = [Photo(each.id, each.path, each.label, each.width, each.height, each.size) for each in records]

    def shown(places: tuple[int, ...]) -> tuple[Photo, ...]:
        return tuple(photos[place] for place in places)

    return Audit(
        index=index_dir.resolve().name,
        gallery=str(about.gallery),
        model=about.fingerprint,
        updated=about.updated,
        photos=len(records),
        classes=len(names),
        duplicates=tuple(
            DuplicateGroup(photos[group.keep], tuple(Copy(photos[copy.place], copy.kind) for copy in group.copies))
            for group in groups
        ),
        label_errors=tuple(
            LabelError(photos[each.place], names[each.suggested], each.doubt, shown(each.for_suggested), shown(each.for_given))
            for each in errors
        ),
        outliers=tuple(
            Outlier(photos[place], out, shown(tuple(other for other in distinct[place].tolist() if other >= 0)[:3]))
            for place, out in outliers
        ),
        lost=shown(tuple(np.flatnonzero(near.lost).tolist())),
        small_classes=_small_classes(about, records),
        unreadable=tuple(unreadable),
        changed=tuple(changed),
    )


def _contents(count: int, groups: list[Group]) -> NDArray[np.int64]:
    """[n] equal for photos of one group."""
    contents = np.arange(count)
    for group in groups:
        contents[[copy.place for copy in group.copies]] = group.keep
    return contents


def _numbered(records: list[PhotoRecord], names: list[str], without: set[int]) -> NDArray[np.int64]:
    """[n] number of each photo's class, −1 for none: an outlier is no example of its class."""
    number = {name: at for at, name in enumerate(names)}
    found = [-1 if record.label is None or place in without else number[record.label] for place, record in enumerate(records)]
    return np.array(found, np.int64)


def _small_classes(about: About, records: list[PhotoRecord]) -> dict[str, int]:
    """Classes of few photos, and folders of the gallery without any, by number of photos."""
    counts = Counter(record.label for record in records if record.label is not None)
    try:
        folders = [entry.name for entry in os.scandir(about.gallery) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:  # the gallery is gone, which every photo of it says
        folders = []
    found = {name: counts[name] for name in {*counts, *folders} if counts[name] < FEW}
    return dict(sorted(found.items(), key=lambda one: (one[1], one[0])))
