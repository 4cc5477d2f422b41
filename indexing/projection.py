"""A flat map of many-dimensional points: principal components, and how far neighbourhoods on it can be trusted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRUSTED_NEIGHBORS = 10
_RANKED_AT_A_TIME = 256  # rows of the matrix of ranks


@dataclass(frozen=True)
class Projection:
    """The plane of the two directions in which points vary most (principal component analysis).

    Attributes:
        mean: [D] of the points.
        axes: [2, D], of unit length and at right angles, each with its largest coordinate positive; the second is zero in one
            dimension.
        share: part of the points' variance, 0..1, that lies in the plane.
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    share: float

    def place(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points [..., D] → [..., 2]. Straight lines stay straight."""
        return np.asarray((points - self.mean) @ self.axes.T, np.float32)


def principal_plane(points: NDArray[np.float32]) -> Projection:
    """The projection of points [N, D], N ≥ 1."""
    mean = points.mean(axis=0)
    _, sizes, rows = np.linalg.svd(points - mean, full_matrices=False)
    axes = np.zeros((2, points.shape[1]), np.float32)
    axes[: len(rows[:2])] = rows[:2]
    # The sign of a component is arbitrary, and another run of the same data should not mirror the map.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
    axes *= np.where(largest < 0, -1, 1)
    variation = np.square(sizes, dtype=np.float64)
    total = float(variation.sum())
    return Projection(mean, axes, float(variation[:2].sum()) / total if total > 0 else 1.0)


def trustworthiness(points: NDArray[np.float32], placed: NDArray[np.float32], *, k: int = TRUSTED_NEIGHBORS) -> float | None:
    """How far the nearest neighbours on a map are near in truth, 0..1.

    1 − 2/(nk(2n − 3k − 1)) · Σ_i Σ_{j near i on the map alone} (r(i, j) − k), r the rank of j by its true distance from i
    (J. Venna and S. Kaski, "Neighborhood preservation in nonlinear projection methods", ICANN 2001, equation 1).

    Args:
        points: [n, D].
        placed: [n, 2], the same on the map.
        k: neighbours looked at.

    Returns:
        None for fewer than 2k + 1 points, for which it is not defined.
    """
    count = len(points)
    if k >= count / 2:
        return None
    wrong = 0.0
    for start in range(0, count, _RANKED_AT_A_TIME):
        rows = np.arange(start, min(start + _RANKED_AT_A_TIME, count))
        order = np.argsort(_others(points, rows), axis=1, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(1, count + 1)[None], axis=1)
        near = np.argsort(_others(placed, rows), axis=1, kind="stable")[:, :k]
        wrong += float(np.maximum(np.take_along_axis(ranks, near, axis=1) - k, 0).sum())
    return 1.0 - 2.0 / (count * k * (2 * count - 3 * k - 1)) * wrong


def _others(points: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Squared distances of some rows to all; of a row to itself infinite."""
    wide = np.asarray(points - points.mean(axis=0), np.float64)
    squares = np.square(wide).sum(1)
    distances = squares[rows, None] + squares[None] - 2 * wide[rows] @ wide.T
    distances[np.arange(len(rows)), rows] = np.inf
    return np.asarray(distances)
