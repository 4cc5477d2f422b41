"""A map that keeps neighbours together: t-SNE, from the optional package openTSNE, which places new points among fixed ones."""

import threading
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from indexing.errors import HdmlError

PERPLEXITY = 30.0  # about how many neighbours a point has, where there are three times as many points
NEW_PERPLEXITY = 5.0  # of a new point, as openTSNE has it by default: its place follows its nearest neighbours
_LEAST = 4  # points, below which openTSNE finds no perplexity


class NoTsne(HdmlError):
    """There can be no such map here; the message says why and what to do."""


def has_tsne() -> bool:
    """Whether openTSNE is installed; does not import it."""
    return find_spec("openTSNE") is not None


class Tsne:
    """Points on a plane by t-distributed stochastic neighbour embedding of their directions.

    L. van der Maaten and G. Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008. New points are placed one by one among the old
    ones, which stay (P. Poličar, M. Stražar, B. Zupan, "Embedding to reference t-SNE space addresses batch effects in single-cell
    classification", Machine Learning 112, 2023): neighbours stay together, but straight lines do not stay straight, and a
    point far from all others is drawn among them. The same points have the same places whenever they are computed.

    Attributes:
        placed: [N, 2], of the old points.
    """

    def __init__(self, points: NDArray[np.float32]) -> None:
        """Place points [N, D] of any lengths; some seconds for thousands of them.

        Raises:
            NoTsne: openTSNE is not installed, or there are fewer than four points, or less than two dimensions.
        """
        count, dimension = points.shape
        if not has_tsne():
            raise NoTsne('the t-SNE map needs the package openTSNE, which is not installed; run: pip install "hdml[tsne]"')
        if count < _LEAST or dimension < 2:
            raise NoTsne(
                f"a t-SNE map needs at least {_LEAST} photos and 2 dimensions, but there are {count} photos of {dimension}; take "
                "the PCA map"
            )
        import openTSNE

        most = (count - 1) / 3
        self._perplexity = min(NEW_PERPLEXITY, most)
        self._embedding = openTSNE.TSNE(
            perplexity=min(PERPLEXITY, most),
            neighbors="exact",  # the approximate search differs from run to run
            negative_gradient_method="bh",  # faster than the other for thousands of points, and each new point is on its own
            random_state=0,
        ).fit(_unit(points))
        self._placing = threading.Lock()  # openTSNE centres the old points in place before it places new ones
        self.placed = np.asarray(self._embedding, np.float32)

    def place(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points [..., D] of any lengths → [..., 2]."""
        rows = _unit(points.reshape(-1, points.shape[-1]))
        with self._placing:
            placed = self._embedding.transform(rows, perplexity=self._perplexity)
        return np.asarray(placed, np.float32).reshape(*points.shape[:-1], 2)


def _unit(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(points / np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1e-12), np.float32)
