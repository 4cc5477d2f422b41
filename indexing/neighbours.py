"""The nearest photos of every photo of an index, and the photos that a search does not find by their own vectors."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexing.catalogue import Catalogue
from indexing.generation import Generation

Progress = Callable[[str, int, int], None]

_ROUNDING = 1e-5  # between scores of equal vectors, alone and in a batch


@dataclass(frozen=True)
class Neighbours:
    """Of every photo, in the order of the ids that were asked about.

    Attributes:
        places: [n, k] positions of the nearest others, the nearest first; −1 where there are no more.
        scores: [n, k] their cosine similarities, −∞ where there are no more.
        lost: [n] whether a search by a photo's own vector finds neither it nor its equal first.
    """

    places: NDArray[np.int64]
    scores: NDArray[np.float32]
    lost: NDArray[np.bool_]


def find_neighbours(
    ids: NDArray[np.int64], generation: Generation, catalogue: Catalogue, k: int, progress: Progress
) -> Neighbours:
    """Search by every photo's own vector, as any search does.

    Args:
        ids: [n] of the photos, ascending; others that are found are passed over.
    """
    places = np.full((len(ids), k), -1, np.int64)
    scores = np.full((len(ids), k), -np.inf, np.float32)
    suspects: list[tuple[int, NDArray[np.float32]]] = []
    done = 0
    with catalogue.vectors() as vectors:
        for page_ids, page in vectors.pages():
            known = np.isin(page_ids, ids)
            asked, page = page_ids[known], page[known]
            rows = np.searchsorted(ids, asked)
            found, likeness = generation.search_many(page, k + 1)
            own = found == asked[:, None]
            first = likeness[:, 0] - np.where(own, likeness, -np.inf).max(1, initial=-np.inf) > _ROUNDING
            suspects += [(int(row), page[at]) for at, row in enumerate(rows) if first[at]]
            likeness = np.where(own | (found < 0) | ~np.isin(found, ids), -np.inf, likeness)
            best = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
            scores[rows] = np.take_along_axis(likeness, best, 1)
            nearest = np.searchsorted(ids, np.take_along_axis(found, best, 1))
            places[rows] = np.where(np.isneginf(scores[rows]), -1, nearest)
            done += len(page_ids)
            progress("Searching by every photo", done, vectors.count)
    lost = np.zeros(len(ids), bool)
    for row, vector in suspects:
        lost[row] = _is_lost(int(ids[row]), vector, generation, catalogue)
    return Neighbours(places, scores, lost)


def _is_lost(item_id: int, vector: NDArray[np.float32], generation: Generation, catalogue: Catalogue) -> bool:
    """Whether a search by an item's own vector puts another first that is not equal; one that changes meanwhile is not lost."""
    (found,), _ = generation.search(vector, 1)
    if found == item_id or catalogue.sequence() != generation.sequence:
        return False
    return not np.array_equal(catalogue.item(found).vector, vector)
