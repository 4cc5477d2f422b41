"""The photos of an index as the hardness lens sees them: their vectors in the space of the synthesizer, and their maps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from indexing.items import Item
from indexing.projection import Projection, principal_plane, trustworthiness
from indexing.search import OpenIndex
from indexing.synthesizer import Vectors
from indexing.tsne import Tsne

MAPPED = 2000  # photos of a map

Point = tuple[float, float]


@dataclass(frozen=True)
class Photos:
    """Items by id with their embeddings, as of one sequence number of the catalogue.

    Attributes:
        units: [N, D].
        vectors: [N, D] in the synthesizer's space; those of units themselves on the sphere.
    """

    sequence: int
    items: list[Item]
    units: Vectors
    vectors: Vectors

    @cached_property
    def models(self) -> set[str]:
        return {item.model for item in self.items}

    @cached_property
    def positions(self) -> dict[int, int]:
        return {item.id: i for i, item in enumerate(self.items)}

    @cached_property
    def labels(self) -> list[str]:
        """All labels, sorted."""
        return sorted({item.label for item in self.items if item.label is not None})

    @cached_property
    def label_numbers(self) -> NDArray[np.int64]:
        """[N] of each photo the position of its label in labels; −1 for those without one."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        return np.array([-1 if item.label is None else numbers[item.label] for item in self.items], np.int64)

    @cached_property
    def mapped(self) -> list[int]:
        """Positions of the photos that the map is made of and shows."""
        count = len(self.items)
        return [i * count // min(count, MAPPED) for i in range(min(count, MAPPED))]

    @cached_property
    def plane(self) -> Projection:
        return principal_plane(self.vectors[self.mapped])

    @cached_property
    def trustworthiness(self) -> float | None:
        points = self.vectors[self.mapped]
        return trustworthiness(points, self.plane.place(points))

    @cached_property
    def tsne(self) -> Tsne:
        return Tsne(self.units[self.mapped])

    @cached_property
    def tsne_trustworthiness(self) -> float | None:
        return trustworthiness(self.units[self.mapped], self.tsne.placed)

    def places(self, rows: Sequence[int], plane: Projection | Tsne) -> list[Point]:
        """Where the photos at some positions lie on a map; those that a t-SNE map is made of lie where it has them."""
        placed = dict(zip(self.mapped, plane.placed, strict=True)) if isinstance(plane, Tsne) else {}
        if new := [row for row in rows if row not in placed]:
            placed |= zip(new, plane.place(self.vectors[new]), strict=True)
        return [(float(x), float(y)) for x, y in (placed[row] for row in rows)]

    def search(self, vectors: Vectors, k: int) -> list[list[tuple[int, float]]]:
        """Positions and scores of the k photos nearest to each vector [M, D] by cosine similarity, all compared with all."""
        import faiss

        wanted = np.ascontiguousarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)
        scores, rows = faiss.knn(wanted, self.units, min(k, len(self.units)), metric=faiss.METRIC_INNER_PRODUCT)
        return [list(zip(map(int, row), map(float, of), strict=True)) for row, of in zip(rows, scores, strict=True)]

    def items_of(self, ids: Iterable[int]) -> list[Item]:
        return [self.items[self.positions[each]] for each in sorted(set(ids))]


def read_photos(opened: OpenIndex, sequence: int, *, unit: bool) -> Photos | None:
    """All photos of an index; None where there is none.

    Args:
        sequence: of the catalogue, read before.
        unit: whether the synthesizer's space is that of the unit vectors.
    """
    items = opened.catalogue.items()
    if not items:
        return None
    units = np.stack([item.vector for item in items])
    norms = np.array([item.norm for item in items], np.float32)
    return Photos(sequence, items, units, units if unit else units * norms[:, None])
