"""Copies of one photo among the results of a search, shown once."""

from dataclasses import dataclass

import numpy as np

from indexing.duplicates import find_duplicates
from indexing.search import OpenIndex, Result


@dataclass(frozen=True)
class Copy:
    """A result that stands behind another: its item and path, and what kind of copy it is, by :mod:`indexing.duplicates`."""

    id: int
    path: str
    kind: str


def group_copies(opened: OpenIndex, results: list[Result], k: int) -> tuple[list[Result], dict[int, list[Copy]]]:
    """The k best results without copies of better ones, and by their ids the copies that each stands for.

    Copies are of the same bytes, or of the same picture written anew or mirrored, which is seen on the photos themselves; a photo
    that is not there as it was indexed is a copy of none.

    Args:
        results: best first; twice as many as are wanted leave enough where there are copies.
    """
    records = {record.id: record for record in opened.catalogue.photo_records([result.id for result in results])}
    ranked = [result for result in results if result.id in records]
    no_crops = np.empty((len(ranked), 0), np.int64)  # looking for these takes longer than a search may
    photos = [records[result.id] for result in ranked]
    groups, _ = find_duplicates(photos, opened.gallery, no_crops, lambda *_: None)
    copies: dict[int, list[Copy]] = {}
    behind = set()
    for group in groups:
        kinds = {copy.place: copy.kind for copy in group.copies}
        first, *others = sorted({group.keep, *kinds})
        # Of the one that the group is of, the kind is that of the one which now stands for it.
        copies[ranked[first].id] = [
            Copy(ranked[place].id, ranked[place].path, kinds.get(place, kinds.get(first, ""))) for place in others
        ]
        behind |= {ranked[place].id for place in others}
    return [result for result in results if result.id not in behind][:k], copies
