"""Retrieval measures of embeddings: Recall@K, MAP@R, R-precision, NMI and F1, as the papers define them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECALL_AT = (1, 2, 4, 8, 10)
DISTRACTOR = -1
"""Label of a photo that can be found, always wrongly, but asks nothing and belongs to no class."""
_BLOCK_SCORES = 1 << 24
"""Scores held at once: with their ranking, 0.2 GB whatever the number of photos."""


@dataclass(frozen=True)
class Evaluation:
    """Measures of one set of photos, each querying all the others; all in 0–1.

    Attributes:
        recall_at_k: share of queries with a photo of their class among the K nearest.
        map_at_r: mean average precision at R, R being the number of other photos of the query's class.
        r_precision: mean share of the query's class among its R nearest.
        nmi: normalised mutual information of k-means clusters (K = number of classes) and classes.
        f1: of pairs of photos, as one class and as one of the same clusters.
        queries: photos that have another one of their class; the others stay in the gallery but ask nothing.
        classes: number of classes, without distractors.
    """

    recall_at_k: dict[int, float]
    map_at_r: float
    r_precision: float
    nmi: float
    f1: float
    queries: int
    classes: int

    def to_json(self) -> dict[str, Any]:
        """The JSON object that ``hdml eval --json`` prints."""
        return {
            "recall_at_k": {str(k): value for k, value in self.recall_at_k.items()},
            "map_at_r": self.map_at_r,
            "r_precision": self.r_precision,
            "nmi": self.nmi,
            "f1": self.f1,
            "queries": self.queries,
            "classes": self.classes,
        }


def evaluate_embeddings(embeddings: NDArray[np.float32], labels: NDArray[np.int64], *, seed: int = 0) -> Evaluation:
    """All measures of L2-normalised embeddings [n, D] with labels [n], which may be DISTRACTOR.

    Raises:
        ValueError: no class has two photos, so that nothing can be asked.
    """
    labelled = labels != DISTRACTOR
    others = np.where(labelled, np.bincount(labels[labelled], minlength=1)[labels] - 1, 0)
    queries = np.flatnonzero(others > 0)
    if len(queries) == 0:
        raise ValueError("evaluation needs a class with at least 2 photos")
    recall = np.zeros(len(RECALL_AT))
    average_precision = precision = 0.0
    depth = min(max(int(others.max()), *RECALL_AT), len(labels) - 1)
    rows = max(1, _BLOCK_SCORES // len(labels))
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        hits = labels[_neighbors(embeddings, block, depth)] == labels[block, None]
        recall += [hits[:, :k].any(1).sum() for k in RECALL_AT]
        within = hits & (np.arange(depth) < others[block, None])
        average_precision += _average_precision_at_r(within, others[block]).sum()
        precision += (within.sum(1) / others[block]).sum()
    classes = len(np.unique(labels[labelled]))
    clusters = cluster(embeddings[labelled], classes, seed=seed)
    return Evaluation(
        recall_at_k={k: float(value) / len(queries) for k, value in zip(RECALL_AT, recall, strict=True)},
        map_at_r=float(average_precision) / len(queries),
        r_precision=float(precision) / len(queries),
        nmi=nmi(clusters, labels[labelled]),
        f1=pair_f1(clusters, labels[labelled]),
        queries=len(queries),
        classes=classes,
    )


def _neighbors(embeddings: NDArray[np.float32], queries: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """[len(queries), depth] nearest others of each query, best first; equal scores by position."""
    scores = embeddings[queries] @ embeddings.T
    scores[np.arange(len(queries)), queries] = -np.inf
    candidates = np.sort(np.argpartition(-scores, depth - 1, axis=1)[:, :depth], axis=1)
    order = np.argsort(-np.take_along_axis(scores, candidates, 1), axis=1, kind="stable")
    nearest: NDArray[np.int64] = np.take_along_axis(candidates, order, 1)
    return nearest


def _average_precision_at_r(hits: NDArray[np.bool_], relevant: NDArray[np.int64]) -> NDArray[np.float64]:
    """K. Musgrave et al., "A Metric Learning Reality Check" (ECCV 2020), equation 8.

    Args:
        hits: [n, depth], whether each rank is of the query's class; False beyond rank R.
        relevant: [n], R.
    """
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    average: NDArray[np.float64] = (precision * hits).sum(1) / relevant
    return average


def cluster(embeddings: NDArray[np.float32], clusters: int, *, seed: int) -> NDArray[np.int64]:
    """K-means assignment [n] of embeddings [n, D]."""
    import faiss  # an evaluation's need alone: training starts without it

    kmeans = faiss.Kmeans(
        embeddings.shape[1], clusters, niter=20, seed=seed, min_points_per_centroid=1, max_points_per_centroid=10**9
    )
    kmeans.train(np.ascontiguousarray(embeddings))
    assignment: NDArray[np.int64] = kmeans.index.search(np.ascontiguousarray(embeddings), 1)[1][:, 0]
    return assignment


def nmi(clusters: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Normalised mutual information: 2·I(clusters; labels) / (H(clusters) + H(labels)), both [n] of integers."""
    h_clusters, h_labels, h_joint = map(_entropy, _counts(clusters, labels))
    if h_clusters + h_labels == 0:
        return 1.0
    return 2 * (h_clusters + h_labels - h_joint) / (h_clusters + h_labels)


def pair_f1(clusters: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """F1 of the pairs of photos in one cluster against those in one class, both [n] of integers.

    H. Oh Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding" (CVPR 2016), section 5; 0 when no cluster
    holds a pair of one class.
    """
    in_cluster, in_class, in_both = map(_pairs, _counts(clusters, labels))
    return 2 * in_both / (in_cluster + in_class) if in_both else 0.0


def _counts(
    clusters: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Photos of each cluster, of each class, and of each of both together that has any.

    Not as a table: that of the 11,316 classes of Stanford Online Products would take 1 GB.
    """
    _, label_of, in_class = np.unique(labels, return_inverse=True, return_counts=True)
    _, in_cluster = np.unique(clusters, return_counts=True)
    _, in_both = np.unique(clusters * len(in_class) + label_of, return_counts=True)
    return in_cluster, in_class, in_both


def _entropy(counts: NDArray[np.int64]) -> float:
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _pairs(counts: NDArray[np.int64]) -> int:
    return int((counts * (counts - 1)).sum()) // 2
