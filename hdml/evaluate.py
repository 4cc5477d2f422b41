"""Retrieval measures of embeddings: Recall@K, MAP@R and NMI, as the papers define them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECALL_AT = (1, 2, 4, 8, 10)
DISTRACTOR = -1
"""Label of a photo that can be found, always wrongly, but asks nothing and belongs to no class."""
_QUERY_BLOCK = 1024


@dataclass(frozen=True)
class Evaluation:
    """Measures of one set of photos, each querying all the others; all in 0–1.

    Attributes:
        recall_at_k: share of queries with a photo of their class among the K nearest.
        map_at_r: mean average precision at R, R being the number of other photos of the query's class.
        nmi: normalised mutual information of k-means clusters (K = number of classes) and classes.
        queries: photos that have another one of their class; the others stay in the gallery but ask nothing.
        classes: number of classes, without distractors.
    """

    recall_at_k: dict[int, float]
    map_at_r: float
    nmi: float
    queries: int
    classes: int

    def to_json(self) -> dict[str, Any]:
        """The JSON object that ``hdml eval --json`` prints."""
        return {
            "recall_at_k": {str(k): value for k, value in self.recall_at_k.items()},
            "map_at_r": self.map_at_r,
            "nmi": self.nmi,
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
    precision_sum = 0.0
    depth = min(max(int(others.max()), *RECALL_AT), len(labels) - 1)
    for start in range(0, len(queries), _QUERY_BLOCK):
        block = queries[start : start + _QUERY_BLOCK]
        hits = labels[_neighbors(embeddings, block, depth)] == labels[block, None]
        recall += [hits[:, :k].any(1).sum() for k in RECALL_AT]
        precision_sum += _average_precision_at_r(hits, others[block]).sum()
    classes = len(np.unique(labels[labelled]))
    return Evaluation(
        recall_at_k={k: float(value) / len(queries) for k, value in zip(RECALL_AT, recall, strict=True)},
        map_at_r=float(precision_sum) / len(queries),
        nmi=nmi(cluster(embeddings[labelled], classes, seed=seed), labels[labelled]),
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
    """K. Musgrave et al., "A Metric Learning Reality Check" (ECCV 2020), equation 8; hits [n, depth], relevant R [n]."""
    ranks = np.arange(1, hits.shape[1] + 1)
    precision = np.cumsum(hits, axis=1) / ranks
    within = ranks <= relevant[:, None]
    average: NDArray[np.float64] = (precision * hits * within).sum(1) / relevant
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
    _, cluster_of = np.unique(clusters, return_inverse=True)
    _, label_of = np.unique(labels, return_inverse=True)
    joint = np.zeros((cluster_of.max() + 1, label_of.max() + 1))
    np.add.at(joint, (cluster_of, label_of), 1 / len(labels))
    h_clusters, h_labels, h_joint = _entropy(joint.sum(1)), _entropy(joint.sum(0)), _entropy(joint.ravel())
    if h_clusters + h_labels == 0:
        return 1.0
    return 2 * (h_clusters + h_labels - h_joint) / (h_clusters + h_labels)


def _entropy(probabilities: NDArray[np.float64]) -> float:
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())
