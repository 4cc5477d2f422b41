"""The kinds of base, which of them is taken, and how well it does: measured against exact search when it is built.

Exact search compares with every vector. ``ivf`` looks into the nearest of many lists and compares with what it finds there, by
sixteen bits a dimension or, where memory is short, by eight, and then once more, the best of it, by the whole vectors, which are
in the catalogue. ``hnsw`` walks a graph.

One bit a dimension and a second look at what comes out first (RaBitQ; J. Gao and C. Long, SIGMOD 2024) is no quicker and takes
twice the memory: see docs/decisions/kinds.md.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from indexing.errors import HdmlError
from indexing.vectors import Look, Vectors

logger = logging.getLogger(__name__)

KINDS = ("exact", "ivf", "hnsw")
NEIGHBOURS = 10
_EXACT_VALUES = 50_000_000  # that one thread compares with in about 10 ms
_FEW = 100
_QUERIES = 2000  # of the gallery; a half to tune by, a half to report on
_TIMED = 200
_NOISE = 0.2  # length that is added to every other query, to unit vectors
_LEAST_OF_A_LIST = 16
_TRAINED_ON = 64  # vectors a list
_CLUSTERING_ROUNDS = 4  # with ten, as many lists have to be probed
_SHORT = "SQ8"  # the code where memory is short
_HNSW_LINKS = 32
_EF_CONSTRUCTION = 40
_SCORE_ROUNDING = 1e-6


@dataclass(frozen=True)
class Plan:
    """What is asked of an index's bases.

    Attributes:
        kind: one of :data:`KINDS`; None chooses.
        target: share of the true ten nearest that a search is to find.
        memory: bytes that a base may take; None for no bound.
    """

    kind: str | None = None
    target: float = 0.99
    memory: int | None = None


@dataclass(frozen=True)
class Settings:
    """How hard a search looks.

    Attributes:
        nprobe: lists probed, of ``ivf``.
        ef: nodes kept in view, of ``hnsw``.
        refine: whether the best that are found are compared with a second time, by their whole vectors.
    """

    nprobe: int = 0
    ef: int = 0
    refine: bool = False


@dataclass(frozen=True)
class Manifest:
    """What a base is, and what was measured of it when it was built.

    Attributes:
        kind: of KINDS.
        items, dim: number and length of its vectors.
        lists: of ``ivf``.
        settings: with which it is searched.
        target: that was asked for.
        overlap_at_10: share of the exact ten nearest that a search finds, the query itself left out; mean over ``queries`` of the
            gallery's own vectors, every other one disturbed, that were not tuned by.
        overlap_low, overlap_high: its 95 % interval.
        p50_ms, p95_ms: of one search, on one thread.
        bytes_per_vector: of the file; None before there is one.
        build_s: seconds, measuring included.
        model: fingerprint of the encoder that gave the vectors.
    """

    kind: str
    items: int
    dim: int
    lists: int
    settings: Settings
    target: float
    overlap_at_10: float
    overlap_low: float
    overlap_high: float
    queries: int
    p50_ms: float
    p95_ms: float
    bytes_per_vector: float | None
    build_s: float
    model: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        return cls(**{**found, "settings": Settings(**found["settings"])})


def build_base(vectors: Vectors, plan: Plan, *, seed: int = 0) -> tuple[Any, Manifest]:
    """A faiss index of item ids over unit vectors, searched by inner product, tuned to the plan's target, and its manifest.

    No more than a page of vectors is held besides the index, what it is trained on, and the queries.

    Raises:
        HdmlError: the plan's memory is too small for any kind.
    """
    import faiss

    began = time.perf_counter()
    random = np.random.default_rng(seed)
    kind = choose_kind(plan, vectors.count, vectors.dimension)
    lists = _lists(vectors.count) if kind == "ivf" else 0
    code = _code(plan, vectors.count, vectors.dimension) if kind == "ivf" else ""
    index = faiss.IndexIDMap(_empty(kind, lists, code, vectors))
    if kind == "ivf":
        index.train(sample_vectors(vectors, _TRAINED_ON * lists, random)[1])
    queries = _Queries.drawn(vectors, random) if kind != "exact" else None
    tried = _Tried(index, kind, lists, vectors.some)
    for ids, page in vectors.pages():
        index.add_with_ids(page, ids)
        if queries is not None:
            queries.compare(ids, page)
    settings, overlaps = Settings(), np.ones(0)
    if queries is not None:
        settings, overlaps = _tune(tried, queries, plan.target, refine=code == _SHORT)
    timed = queries.vectors if queries is not None else sample_vectors(vectors, _TIMED, random)[1]
    milliseconds = _time(lambda query: tried.search(query, NEIGHBOURS + 1, settings), timed[:_TIMED])
    mean, half = _mean_and_half(overlaps)
    manifest = Manifest(
        kind=kind,
        items=vectors.count,
        dim=vectors.dimension,
        lists=lists,
        settings=settings,
        target=plan.target,
        overlap_at_10=mean,
        overlap_low=max(0.0, mean - half),
        overlap_high=min(1.0, mean + half),
        queries=len(overlaps),
        p50_ms=float(np.percentile(milliseconds, 50)),
        p95_ms=float(np.percentile(milliseconds, 95)),
        bytes_per_vector=None,
        build_s=time.perf_counter() - began,
        model=vectors.model,
    )
    if mean < plan.target:
        logger.warning(
            "The %s base of %d items finds %.3f of the ten nearest, not the %.3f asked for; allow more --memory, or --kind exact",
            *(kind, vectors.count, mean, plan.target),
        )
    return index, manifest


def choose_kind(plan: Plan, items: int, dimension: int) -> str:
    """The kind that a plan means: exact search while that is fast and fits into the memory, then ``ivf``.

    Whatever is asked for, a few items are compared with one by one: nothing can be tuned by them.
    """
    if items < _FEW:
        return "exact"
    if plan.kind is not None:
        return plan.kind
    whole = 4 * dimension * items
    return "exact" if items * dimension <= _EXACT_VALUES and whole <= (plan.memory or math.inf) else "ivf"


def check_plan(plan: Plan, items: int, dimension: int) -> None:
    """Raise HdmlError when a plan's memory is too small for any kind."""
    if choose_kind(plan, items, dimension) == "ivf":
        _code(plan, items, dimension)


def search_params(manifest: Manifest, k: int, *, chosen: Any = None, passed: int | None = None) -> Any:
    """faiss's parameters of a search for k items; None where the defaults do.

    Args:
        chosen: a selector of the ids that may be found.
        passed: number of items that the selector lets through, where it is a part of them: the fewer there are in a list, the
            more lists, or nodes of the graph, it takes to find the nearest of them.
    """
    settings, share = manifest.settings, 1.0 if not passed else passed / manifest.items
    harder = replace(settings, nprobe=math.ceil(settings.nprobe / share), ef=math.ceil(settings.ef / share))
    return _params(manifest.kind, manifest.lists, passed or manifest.items, harder, k, chosen)


def candidates(settings: Settings, k: int) -> int:
    """Number of items to find for k results: by eight bits a dimension, the best ten are among the best twenty."""
    return 2 * k + 10 if settings.refine else k


def second_look(
    queries: NDArray[np.float32], ids: NDArray[np.int64], scores: NDArray[np.float32], look: Look
) -> NDArray[np.float32]:
    """Scores of what was found, by whole vectors.

    Args:
        queries: [q, D] unit vectors.
        ids, scores: [q, c] of the items found for each, −1 where there is none.
        look: gives whole vectors; an item that it does not have keeps its score.

    Returns:
        Scores [q, c].
    """
    import faiss

    known, vectors = look(np.unique(ids[ids >= 0]))
    if not len(known):
        return scores
    places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    there, found = known[places] == ids, scores.copy()
    for row in range(len(queries)):
        compared = vectors[places[row, there[row]]]
        # By faiss as well: equal vectors must have equal scores, however they are found.
        with one_thread():
            exact, order = faiss.knn(queries[row : row + 1], compared, len(compared), metric=faiss.METRIC_INNER_PRODUCT)
        found[row, np.flatnonzero(there[row])[order[0]]] = exact[0]
    return found


def faiss_search(
    index: Any, queries: NDArray[np.float32], k: int, params: Any = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """faiss's ``index.search``; one query on one thread.

    It takes parameters also where ``faiss.contrib.torch_utils`` has replaced it: that module, which pytorch-metric-learning
    imports, puts a ``search`` without parameters over the one of NumPy arrays.
    """
    search = getattr(index, "search_numpy", index.search)
    with one_thread() if len(queries) == 1 else nullcontext():
        scores, ids = search(queries, k, params=params)
    return scores, ids


@contextmanager
def one_thread() -> Iterator[None]:
    """Let faiss work on the calling thread alone: beside other work, to wait for a second takes longer than a search does."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _params(kind: str, lists: int, items: int, settings: Settings, k: int, chosen: Any) -> Any:
    import faiss as typed

    faiss: Any = typed  # its stubs lack what is needed here
    if kind == "exact" and chosen is None:
        return None
    if kind == "exact":
        params = faiss.SearchParameters()
    elif kind == "hnsw":
        params = faiss.SearchParametersHNSW()
        params.efSearch = max(settings.ef, 2 * k)
    else:
        params = faiss.SearchParametersIVF()
        # The lists that are looked into hold a few times what is asked for.
        params.nprobe = min(lists, max(settings.nprobe, math.ceil(4 * k * lists / max(1, items))))
    if chosen is not None:
        params.sel = chosen
    return params


def _empty(kind: str, lists: int, code: str, vectors: Vectors) -> Any:
    import faiss as typed

    faiss: Any = typed
    if kind == "exact":
        return faiss.IndexFlatIP(vectors.dimension)
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(vectors.dimension, _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = _EF_CONSTRUCTION
        return graph
    index = faiss.index_factory(vectors.dimension, f"IVF{lists},{code}", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid, index.cp.niter = 1, _CLUSTERING_ROUNDS
    index.set_direct_map_type(faiss.DirectMap.Array)  # to compare with items one by one, as a filter asks for few
    return index


def _code(plan: Plan, items: int, dimension: int) -> str:
    """Sixteen bits a dimension where there is room for them, else eight."""
    if plan.memory is None or _ivf_bytes(dimension, 2) * items <= plan.memory:
        return "SQfp16"
    least = _ivf_bytes(dimension, 1) * items
    if least > plan.memory:
        raise HdmlError(
            f"--memory must be at least {math.ceil(least / 1e6)} MB for {items} items in {dimension} dimensions, not "
            f"{plan.memory / 1e6:g} MB"
        )
    return _SHORT


def _ivf_bytes(dimension: int, bytes_a_value: int) -> float:
    """A vector's code, its number in its list, the list's, and its id."""
    return bytes_a_value * dimension + 3 * 8


def _lists(items: int) -> int:
    return max(1, min(round(4 * math.sqrt(items)), items // _LEAST_OF_A_LIST))


def sample_vectors(vectors: Vectors, size: int, random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Some of the vectors, or all if there are fewer, in the order of their ids."""
    places = np.sort(random.choice(vectors.count, min(size, vectors.count), replace=False))
    found_ids, found, start = [np.empty(0, np.int64)], [np.empty((0, vectors.dimension), np.float32)], 0
    for ids, page in vectors.pages():
        here = places[(places >= start) & (places < start + len(ids))] - start
        found_ids.append(ids[here])
        found.append(page[here])
        start += len(ids)
    return np.concatenate(found_ids), np.concatenate(found)


@dataclass
class _Queries:
    """Vectors of the gallery, every other one disturbed, and their true neighbours among the vectors compared so far.

    Attributes:
        ids: [q] the items that they are, which do not count as their own neighbours.
        vectors: [q, D] of unit length.
        nearest, scores: [q, 10] ids and scores; −1 where there are fewer.
    """

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    nearest: NDArray[np.int64]
    scores: NDArray[np.float32]

    @classmethod
    def drawn(cls, vectors: Vectors, random: np.random.Generator) -> Self:
        ids, drawn = sample_vectors(vectors, _QUERIES, random)
        order = random.permutation(len(ids))
        ids, drawn = ids[order], drawn[order]
        noise = random.standard_normal(drawn[1::2].shape, np.float32) * np.float32(_NOISE / math.sqrt(vectors.dimension))
        drawn[1::2] += noise
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        count = len(ids)
        return cls(ids, drawn, np.full((count, NEIGHBOURS), -1), np.full((count, NEIGHBOURS), -np.inf, np.float32))

    def compare(self, ids: NDArray[np.int64], page: NDArray[np.float32]) -> None:
        """Take more of the gallery's vectors into account."""
        import faiss

        scores, places = faiss.knn(self.vectors, page, min(NEIGHBOURS + 1, len(page)), metric=faiss.METRIC_INNER_PRODUCT)
        found = np.where(places >= 0, ids[places], -1)
        scores = np.where((found == self.ids[:, None]) | (found < 0), -np.inf, scores)
        both, every = np.concatenate([self.scores, scores], 1), np.concatenate([self.nearest, found], 1)
        order = np.argsort(-both, axis=1, kind="stable")[:, :NEIGHBOURS]
        self.scores, self.nearest = np.take_along_axis(both, order, 1), np.take_along_axis(every, order, 1)

    def overlaps(self, ids: NDArray[np.int64], scores: NDArray[np.float32], rows: slice) -> NDArray[np.float64]:
        """Share of their true neighbours [q] that searches for one more found; one as near as the last of them counts as one."""
        own, truth, true_scores = self.ids[rows], self.nearest[rows], self.scores[rows]
        shares = np.empty(len(own))
        for row, (found, found_scores) in enumerate(zip(ids, scores, strict=True)):
            real = truth[row][np.isfinite(true_scores[row])]
            others = (found != own[row]) & (found >= 0)
            found, found_scores = found[others][: len(real)], found_scores[others][: len(real)]
            hit = np.isin(found, real) | (
                found_scores >= true_scores[row][len(real) - 1] - _SCORE_ROUNDING if len(real) else False
            )
            shares[row] = hit.sum() / len(real) if len(real) else 1.0
        return shares


def _tune(tried: "_Tried", queries: _Queries, target: float, *, refine: bool) -> tuple[Settings, NDArray[np.float64]]:
    """The least hard settings that reach the target on the first half of the queries, and their overlaps on the second.

    Where none reaches it, the hardest.
    """
    half = len(queries.ids) // 2
    tuning, reporting = slice(0, half), slice(half, None)

    def overlaps(settings: Settings, rows: slice) -> NDArray[np.float64]:
        scores, ids = tried.search(queries.vectors[rows], NEIGHBOURS + 1, settings)
        return queries.overlaps(ids, scores, rows)

    def reaches(settings: Settings) -> bool:
        mean, _ = _mean_and_half(found := overlaps(settings, tuning))
        # Half of the time one that has the target just so would miss it on the other queries.
        return mean - float(found.std() / math.sqrt(max(1, len(found)))) >= target

    if tried.kind == "hnsw":
        steps = [Settings(ef=ef) for ef in (16, 24, 32, 48, 64, 96, 128, 192, 256, 512)]
    else:
        probes = sorted({min(tried.lists, round(2 ** (step / 8))) for step in range(8 * tried.lists.bit_length() + 1)})
        steps = [Settings(nprobe=nprobe, refine=refine) for nprobe in probes]
    best = _first(steps, reaches)
    return best, overlaps(best, reporting)


def _first(steps: list[Settings], reaches: Callable[[Settings], bool]) -> Settings:
    """The first of ever harder settings that reaches; the last when none does."""
    low, high = 0, len(steps) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(steps[middle]) else (middle + 1, high)
    return steps[high]


@dataclass(frozen=True)
class _Tried:
    """An index that settings are tried on, searched as a base is."""

    index: Any
    kind: str
    lists: int
    look: Look

    def search(self, queries: NDArray[np.float32], k: int, settings: Settings) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and ids [q, k], the highest score first."""
        wanted = min(candidates(settings, k), max(1, self.index.ntotal))
        params = _params(self.kind, self.lists, self.index.ntotal, settings, wanted, None)
        scores, ids = faiss_search(self.index, queries, wanted, params)
        if settings.refine:
            scores = second_look(queries, ids, scores, self.look)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            scores, ids = np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
        return scores, ids


def _time(search: Callable[[NDArray[np.float32]], object], queries: NDArray[np.float32]) -> list[float]:
    """Milliseconds of every query by itself, after one to warm up."""
    if not len(queries):
        return [0.0]
    search(queries[:1])
    milliseconds = []
    for row in range(len(queries)):
        began = time.perf_counter()
        search(queries[row : row + 1])
        milliseconds.append(1000 * (time.perf_counter() - began))
    return milliseconds


def _mean_and_half(overlaps: NDArray[np.float64]) -> tuple[float, float]:
    """The mean and half of its 95 % interval; exact search, of which nothing is measured, has all."""
    if not len(overlaps):
        return 1.0, 0.0
    return float(overlaps.mean()), 1.96 * float(overlaps.std() / math.sqrt(len(overlaps)))
