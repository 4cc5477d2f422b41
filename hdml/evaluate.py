"""Retrieval measures of embeddings: Recall@K, MAP@R, R-precision, NMI and F1, as the papers define them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECALL_AT = (1, 2, 4, 8, 10)
DISTRACTOR = -1
"""Label of a photo that can be found, always wrongly, but asks nothing and belongs to no class."""
_BLOCK_SCORES = 1 << 24
"""Scores held at once, in float32: 67 MB whatever the number of photos."""


@dataclass(frozen=True)
class QueryOutcomes:
    """What became of each query; row i of every array is query i. To compare two networks query by query.

    Attributes:
        queries: [q] positions of those that asked, among the photos given as queries.
        nearest: [q] position in the gallery of the best answer.
        hit_at_k: for every K of RECALL_AT, [q] whether a photo of the query's class is among the K nearest.
        average_precision_at_r: [q], 0–1.
        r_precision: [q], 0–1.
    """

    queries: NDArray[np.int64]
    nearest: NDArray[np.int64]
    hit_at_k: dict[int, NDArray[np.bool_]]
    average_precision_at_r: NDArray[np.float64]
    r_precision: NDArray[np.float64]

    @property
    def hit_at_1(self) -> NDArray[np.bool_]:
        """[q] whether the best answer is of the query's class."""
        return self.hit_at_k[1]


@dataclass(frozen=True)
class Evaluation:
    """Measures of one set of photos, or of queries to a gallery; all in 0–1.

    Attributes:
        recall_at_k: share of queries with a photo of their class among the K nearest.
        map_at_r: mean average precision at R, R being the number of photos of the query's class that it can find.
        r_precision: mean share of the query's class among its R nearest.
        nmi: normalised mutual information of k-means clusters (K = number of classes) and classes.
        f1: of pairs of photos, as one class and as one of the same clusters.
        queries: photos that have another one of their class to find; the others ask nothing.
        classes: number of classes, without distractors.
        outcomes: what became of each query, from the same ranking as the means.
    """

    recall_at_k: dict[int, float]
    map_at_r: float
    r_precision: float
    nmi: float
    f1: float
    queries: int
    classes: int
    outcomes: QueryOutcomes = field(repr=False, compare=False)

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


def evaluate_embeddings(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], *, seed: int = 0, device: str = "cpu"
) -> Evaluation:
    """All measures of one set of photos, each querying all the others.

    Args:
        embeddings: [n, D], L2-normalised.
        labels: [n], 0 and up, or DISTRACTOR.
        seed: of k-means.
        device: torch's name of where to rank and to cluster: ``cpu`` or ``cuda``.

    Raises:
        ValueError: no class has two photos, so that nothing can be asked.
    """
    outcomes = _outcomes(embeddings, labels, embeddings, labels, within_one_set=True, device=device)
    if len(outcomes.queries) == 0:
        raise ValueError("evaluation needs a class with at least 2 photos")
    return _summary(outcomes, embeddings, labels, seed=seed, device=device)


def evaluate_retrieval(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int64],
    gallery: NDArray[np.float32],
    gallery_labels: NDArray[np.int64],
    *,
    seed: int = 0,
    device: str = "cpu",
) -> Evaluation:
    """All measures of queries to a gallery that they are no part of, as DeepFashion In-Shop is measured.

    R is the number of the gallery's photos of the query's class; a query that has none there asks nothing. NMI and F1 are of
    the queries and the gallery together.

    Args:
        queries, gallery: [q, D] and [g, D], L2-normalised.
        query_labels, gallery_labels: [q] and [g], 0 and up, the same number for the same class; or DISTRACTOR.
        seed: of k-means.
        device: torch's name of where to rank and to cluster: ``cpu`` or ``cuda``.

    Raises:
        ValueError: no query has a photo of its class in the gallery.
    """
    outcomes = _outcomes(queries, query_labels, gallery, gallery_labels, within_one_set=False, device=device)
    if len(outcomes.queries) == 0:
        raise ValueError("evaluation needs a query whose class has a photo in the gallery")
    everything, labels = np.concatenate([queries, gallery]), np.concatenate([query_labels, gallery_labels])
    return _summary(outcomes, everything, labels, seed=seed, device=device)


def _summary(
    outcomes: QueryOutcomes, embeddings: NDArray[np.float32], labels: NDArray[np.int64], *, seed: int, device: str
) -> Evaluation:
    """Means of the outcomes, and the measures of clusters of embeddings [n, D] with labels [n]."""
    labelled = labels != DISTRACTOR
    classes = len(np.unique(labels[labelled]))
    clusters = cluster(embeddings[labelled], classes, seed=seed, device=device)
    return Evaluation(
        recall_at_k={k: float(hits.mean()) for k, hits in outcomes.hit_at_k.items()},
        map_at_r=float(outcomes.average_precision_at_r.mean()),
        r_precision=float(outcomes.r_precision.mean()),
        nmi=nmi(clusters, labels[labelled]),
        f1=pair_f1(clusters, labels[labelled]),
        queries=len(outcomes.queries),
        classes=classes,
        outcomes=outcomes,
    )


def _outcomes(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int64],
    gallery: NDArray[np.float32],
    gallery_labels: NDArray[np.int64],
    *,
    within_one_set: bool,
    device: str,
) -> QueryOutcomes:
    """Rank the gallery for every query that has something to find, a block of queries at a time.

    Args:
        within_one_set: queries and gallery are the same photos, and none answers itself.
    """
    can_ask = query_labels != DISTRACTOR
    in_gallery = np.bincount(gallery_labels[gallery_labels != DISTRACTOR], minlength=int(query_labels.max(initial=0)) + 1)
    relevant = np.where(can_ask, in_gallery[query_labels] - within_one_set, 0)
    asking = np.flatnonzero(relevant > 0)
    depth = min(max(int(relevant.max(initial=0)), *RECALL_AT), len(gallery_labels) - within_one_set)
    nearest = np.empty(len(asking), np.int64)
    hit_at_k = {k: np.empty(len(asking), np.bool_) for k in RECALL_AT}
    average_precision, precision = np.empty(len(asking)), np.empty(len(asking))
    rows = max(1, _BLOCK_SCORES // max(1, len(gallery_labels)))
    ranking = _ranking(queries, gallery, asking, rows=rows, depth=depth, within_one_set=within_one_set, device=device)
    for block, ranked in ranking:
        hits = gallery_labels[ranked] == query_labels[asking[block], None]
        of_class = relevant[asking[block]]
        within = hits & (np.arange(depth) < of_class[:, None])
        nearest[block] = ranked[:, 0]
        for k, found in hit_at_k.items():
            found[block] = hits[:, :k].any(1)
        average_precision[block] = _average_precision_at_r(within, of_class)
        precision[block] = within.sum(1) / of_class
    return QueryOutcomes(asking, nearest, hit_at_k, average_precision, precision)


def _ranking(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    asking: NDArray[np.int64],
    *,
    rows: int,
    depth: int,
    within_one_set: bool,
    device: str,
) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Slices of ``asking`` and the [rows, depth] nearest of the gallery of its queries, best first.

    Equal scores go by position, apart from those that tie for the last place.
    """
    import torch  # not on importing this module: DISTRACTOR and the measures are wanted without it

    searched = torch.from_numpy(np.ascontiguousarray(gallery)).to(device)
    for start in range(0, len(asking), rows):
        block = slice(start, min(start + rows, len(asking)))
        scores = torch.from_numpy(queries[asking[block]]).to(device) @ searched.T
        if within_one_set:
            own = torch.from_numpy(asking[block]).to(device)
            scores[torch.arange(len(own), device=device), own] = -torch.inf
        candidates = scores.topk(depth, dim=1, sorted=False).indices.sort(dim=1).values
        order = scores.gather(1, candidates).sort(dim=1, descending=True, stable=True).indices
        yield block, candidates.gather(1, order).cpu().numpy()


def _average_precision_at_r(hits: NDArray[np.bool_], relevant: NDArray[np.int64]) -> NDArray[np.float64]:
    """K. Musgrave et al., "A Metric Learning Reality Check" (ECCV 2020), equation 8.

    Args:
        hits: [n, depth], whether each rank is of the query's class; False beyond rank R.
        relevant: [n], R.
    """
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    average: NDArray[np.float64] = (precision * hits).sum(1) / relevant
    return average


def cluster(embeddings: NDArray[np.float32], clusters: int, *, seed: int, device: str = "cpu") -> NDArray[np.int64]:
    """K-means assignment [n] of embeddings [n, D]; on the GPU when ``device`` is one and faiss can use it."""
    import faiss  # an evaluation's need alone: training starts without it

    points = np.ascontiguousarray(embeddings)
    kmeans = faiss.Kmeans(
        points.shape[1],
        clusters,
        niter=20,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=10**9,
        gpu=1 if device.startswith("cuda") and faiss.get_num_gpus() else False,
    )
    kmeans.train(points)
    assignment: NDArray[np.int64] = kmeans.index.search(points, 1)[1][:, 0]
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
