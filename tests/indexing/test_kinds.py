"""The kinds of base: which is taken, that its figures are what a search by hand finds, and that what is masked stays out."""

import importlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from indexing.catalogue import Catalogue
from indexing.errors import HdmlError
from indexing.gallery import PhotoFile
from indexing.generation import Base, Dead, Generation, Some, next_generation, open_generation
from indexing.index import save_cache
from indexing.kinds import Manifest, Plan, Settings, build_base, choose_kind, faiss_search, search_params, second_look
from indexing.recording import EmbeddedPhoto
from indexing.vectors import Vectors

DIMENSION = 32


def clustered(count: int, *, seed: int = 0) -> np.ndarray:
    """[count, D] unit vectors around a few dozen centres, far enough apart for lists to miss some neighbours."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((40, DIMENSION))[random.integers(0, 40, count)] + random.standard_normal((count, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


NOTHING = Dead(np.empty(0, np.int64))


def as_vectors(vectors: np.ndarray, *, page: int = 500) -> Vectors:
    ids = np.arange(len(vectors), dtype=np.int64) * 2 + 7

    def pages() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(vectors), page):
            yield ids[start : start + page], vectors[start : start + page]

    def some(wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return wanted, vectors[(wanted - 7) // 2]

    return Vectors(1, vectors.shape[1], len(vectors), pages, some)


def overlap_by_hand(index: Any, manifest: Manifest, vectors: np.ndarray) -> float:
    """Of undisturbed queries, one after the other."""
    base, shares = Base(index, manifest, 1, "cpu", as_vectors(vectors).some), []
    for row in range(0, len(vectors), 7):
        scores = vectors @ vectors[row]
        scores[row] = -2
        truth = set((np.argsort(-scores)[:10] * 2 + 7).tolist())
        ids, _ = base.nearest(vectors[row], 11, NOTHING)
        shares.append(len(truth & set(ids.tolist()) - {row * 2 + 7}) / 10)
    return float(np.mean(shares))


@pytest.mark.parametrize("plan", [Plan("ivf", 0.9), Plan("ivf", 0.99), Plan("hnsw", 0.95), Plan("ivf", 0.8, 80 * 3000)])
def test_what_the_manifest_tells_is_what_searches_find(plan: Plan) -> None:
    vectors = clustered(3000)
    index, manifest = build_base(as_vectors(vectors), plan)
    assert (manifest.kind, manifest.items, manifest.dim, manifest.target) == (plan.kind, 3000, DIMENSION, plan.target)
    assert manifest.overlap_low <= manifest.overlap_at_10 <= manifest.overlap_high
    assert manifest.overlap_at_10 > plan.target - 0.02
    assert manifest.queries == 1000
    assert 0 < manifest.p50_ms <= manifest.p95_ms
    assert overlap_by_hand(index, manifest, vectors) == pytest.approx(manifest.overlap_at_10, abs=0.03)


def test_it_searches_beside_pytorch_metric_learning_too() -> None:
    """Its inference module lets faiss take tensors, whereby faiss's own ``search`` of arrays loses its parameters."""
    importlib.import_module("faiss.contrib.torch_utils")
    vectors = clustered(3000)
    index, manifest = build_base(as_vectors(vectors), Plan("ivf", 0.9))
    assert overlap_by_hand(index, manifest, vectors) > 0.85


def test_one_query_is_searched_by_the_calling_thread_alone() -> None:
    """And faiss has its threads back for many, also after a search that fails."""
    seen = []

    class Index:
        def search(self, queries: np.ndarray, k: int, *, params: Any) -> tuple[np.ndarray, np.ndarray]:
            seen.append((len(queries), faiss.omp_get_max_threads()))
            if k == 0:
                raise RuntimeError
            return np.zeros((1, k)), np.zeros((1, k))

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        faiss_search(Index(), np.zeros((1, 4), np.float32), 1)
        with pytest.raises(RuntimeError):
            faiss_search(Index(), np.zeros((1, 4), np.float32), 0)
        faiss_search(Index(), np.zeros((2, 4), np.float32), 1)
    finally:
        faiss.omp_set_num_threads(before)
    assert seen == [(1, 1), (1, 1), (2, 3)]


def test_a_higher_target_looks_harder() -> None:
    vectors = as_vectors(clustered(3000))
    low, high = (build_base(vectors, Plan("ivf", target))[1].settings for target in (0.7, 0.995))
    assert low.nprobe < high.nprobe


def test_eight_bits_and_a_second_look_find_what_whole_vectors_do() -> None:
    """All lists are looked into, so that only the bits can lose anything; without the second look they do."""
    vectors = clustered(3000)
    stored = as_vectors(vectors)
    index, found = build_base(stored, Plan("ivf", 0.9, 80 * 3000))
    assert found.settings.refine
    everywhere = replace(found, settings=Settings(nprobe=found.lists, refine=True))
    base = Base(index, everywhere, 1, "cpu", stored.some)
    generation = Generation(1, base, NOTHING, NOTHING.ids, vectors[:0])
    once = replace(everywhere, settings=Settings(nprobe=found.lists))
    looked_once = Generation(1, Base(index, once, 1, "cpu", stored.some), NOTHING, NOTHING.ids, vectors[:0])
    lost = 0
    for row in range(0, 3000, 100):
        scores = vectors @ vectors[row]
        truth = np.argsort(-scores, kind="stable")[:10]
        ids, exact = generation.search(vectors[row], 10)
        assert ids == (truth * 2 + 7).tolist()
        assert exact == pytest.approx(scores[truth], abs=1e-6)
        lost += len(set(ids) - set(looked_once.search(vectors[row], 10)[0]))
        many, of_many = generation.search_many(vectors[row : row + 1], 10)
        assert (many[0].tolist(), of_many[0].tolist()) == (ids, exact)
    assert lost > 0


def test_what_the_second_look_cannot_see_keeps_its_score() -> None:
    queries = clustered(2)
    ids, scores = np.array([[7, 9, -1], [9, 11, 7]]), np.array([[0.5, 0.4, -np.inf], [0.3, 0.2, 0.1]], np.float32)
    vectors = {7: queries[1], 11: queries[0]}

    def look(wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        known = np.array([each for each in wanted.tolist() if each in vectors], np.int64)
        return known, np.array([vectors[each] for each in known.tolist()], np.float32).reshape(-1, DIMENSION)

    cross = float(queries[0] @ queries[1])
    seen = second_look(queries, ids, scores, look)
    assert seen == pytest.approx(np.array([[cross, 0.4, -np.inf], [0.3, cross, 1.0]]), abs=1e-6)
    assert second_look(queries, ids, scores, lambda wanted: look(wanted[:0])).tolist() == scores.tolist()


def test_a_target_that_cannot_be_reached_is_said_with_what_was(caplog: pytest.LogCaptureFixture) -> None:
    """Eight bits a dimension do not tell the nearest of very near ones apart."""
    vectors = clustered(1) + 1e-3 * np.random.default_rng(0).standard_normal((2000, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with caplog.at_level(logging.WARNING):
        _, manifest = build_base(as_vectors(vectors), Plan("ivf", 0.999, 80 * 2000))
    assert manifest.overlap_at_10 < 0.999
    assert f"finds {manifest.overlap_at_10:.3f} of the ten nearest, not the 0.999 asked for" in caplog.text


def test_exact_search_has_all_of_them() -> None:
    _, manifest = build_base(as_vectors(clustered(500)), Plan())
    assert (manifest.kind, manifest.overlap_at_10, manifest.overlap_low, manifest.queries) == ("exact", 1.0, 1.0, 0)


@pytest.mark.parametrize("kind", ["exact", "ivf", "hnsw"])
@pytest.mark.parametrize("count", [0, 1, 2, 12])
def test_few_items_are_all_found(kind: str, count: int) -> None:
    vectors = clustered(count) if count else np.empty((0, DIMENSION), np.float32)
    index, manifest = build_base(as_vectors(vectors), Plan(kind))
    assert (manifest.kind, manifest.items) == ("exact", count)
    for row in range(count):
        _, ids = faiss_search(index, vectors[row : row + 1], count, search_params(manifest, count))
        assert sorted(ids[0].tolist()) == [2 * place + 7 for place in range(count)]


@pytest.mark.parametrize("kind", ["exact", "ivf", "hnsw"])
def test_photos_that_are_all_the_same_count_as_found(kind: str) -> None:
    """Any ten of them are the ten nearest."""
    _, manifest = build_base(as_vectors(np.repeat(clustered(1), 600, axis=0)), Plan(kind))
    assert manifest.overlap_at_10 == 1.0


@pytest.mark.parametrize(
    ("plan", "items", "kind"),
    [
        (Plan(), 100_000, "exact"),
        (Plan(), 1_000_000, "ivf"),
        (Plan(memory=10_000_000), 100_000, "ivf"),
        (Plan("hnsw"), 100, "hnsw"),
        (Plan("hnsw"), 99, "exact"),
    ],
)
def test_kind_follows_from_size_and_memory(plan: Plan, items: int, kind: str) -> None:
    assert choose_kind(plan, items, 128) == kind


def test_memory_that_suffices_for_nothing_is_said() -> None:
    with pytest.raises(HdmlError, match=r"--memory must be at least 1 MB for 3000 items in 32 dimensions, not 0.003 MB"):
        build_base(as_vectors(clustered(3000)), Plan("ivf", 0.9, 3000))


@pytest.mark.parametrize("plan", [Plan("ivf", 0.9), Plan("ivf", 0.9, 80 * 1200), Plan("hnsw", 0.9)])
def test_what_is_gone_or_changed_since_the_base_is_never_found_in_it(plan: Plan, tmp_path: Path) -> None:
    vectors, others = clustered(1200), clustered(1200, seed=1)

    def photo(number: int, mtime: int = 1) -> PhotoFile:
        return PhotoFile(f"{number:04}.jpg", None, 1, mtime)

    def embedded(number: int, vector: np.ndarray) -> tuple[str, EmbeddedPhoto]:
        digest = vector.tobytes()[:20]
        return photo(number).path, EmbeddedPhoto(Path("unused"), digest, vector, norm=1.0, width=1, height=1)

    with Catalogue.create(tmp_path, gallery=tmp_path, fingerprint="f00d", dimension=DIMENSION) as catalogue:
        catalogue.set_plan(plan)
        catalogue.compare(photo(number) for number in range(1200))
        catalogue.record([embedded(number, vectors[number]) for number in range(1200)])
        with catalogue.vectors() as found:
            save_cache(*build_base(found, plan), tmp_path, found.sequence)
        before = open_generation(tmp_path, catalogue, "cpu")
        assert before.base.manifest.kind == plan.kind
        assert before.base.manifest.settings.refine == (plan.memory is not None)
        catalogue.compare([*(photo(number) for number in range(20, 1180)), *(photo(number, 2) for number in range(1180, 1200))])
        catalogue.settle()
        catalogue.record([embedded(number, others[number]) for number in range(1180, 1200)])
        after = next_generation(before, tmp_path, catalogue, "cpu")
        assert (after.size, len(after.dead.ids), len(after.added)) == (1180, 40, 20)
        assert not found_by(after, vectors[:20]) & set(range(1, 21))
        assert found_by(before, vectors[:20]) >= set(range(1, 21))  # of its own moment, after changes as well
        by_old = found_by(after, vectors[1180:])
        assert found_by(after, others[1180:]) >= set(range(1181, 1201))
        assert not by_old & set(range(1, 21))


GPU_PLANS = [Plan("exact"), Plan("ivf", 0.95), Plan("ivf", 0.95, 80 * 1200)]


@pytest.mark.parametrize("plan", GPU_PLANS)
def test_a_device_without_selectors_passes_over_what_is_gone(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU is used, but on the CPU: more are asked for, and what is gone is left out afterwards."""
    vectors = clustered(1200)
    stored = as_vectors(vectors)
    index, manifest = build_base(stored, plan)
    by_cpu = Base(index, manifest, 1, "cpu", stored.some)
    monkeypatch.setattr("indexing.generation.to_device", lambda index, _: (index, "cuda"))
    compare_with_cpu(Base(index, manifest, 1, "cuda", stored.some), by_cpu, vectors)
    monkeypatch.setattr("indexing.generation.MAX_GPU_RESULTS", 50)
    with pytest.raises(HdmlError, match="10 results beside 400 that are gone would take more than 50 candidates or lists"):
        Base(index, manifest, 1, "cuda", stored.some).nearest(vectors[0], 10, Dead(by_cpu.ids[::3]))


@pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="needs a GPU that faiss reports")
@pytest.mark.parametrize("plan", GPU_PLANS)
def test_a_gpu_finds_what_the_cpu_does_in_the_same_base(plan: Plan) -> None:
    vectors = clustered(1200)
    stored = as_vectors(vectors)
    index, manifest = build_base(stored, plan)
    compare_with_cpu(Base(index, manifest, 1, "cuda", stored.some), Base(index, manifest, 1, "cpu", stored.some), vectors)


def compare_with_cpu(by_device: Base, by_cpu: Base, vectors: np.ndarray) -> None:
    gone = Dead(by_cpu.ids[::3])
    same = []
    for query in vectors[::60]:
        found, by_hand = (dict(zip(*base.nearest(query, 10, gone), strict=True)) for base in (by_device, by_cpu))
        assert not found.keys() & set(gone.ids)
        both = found.keys() & by_hand.keys()
        assert [found[each] for each in both] == pytest.approx([by_hand[each] for each in both], abs=1e-3)
        same.append(len(both) / 10)
    assert np.mean(same) > 0.9


def test_a_graph_is_not_searched_on_a_gpu() -> None:
    stored = as_vectors(clustered(300))
    index, manifest = build_base(stored, Plan("hnsw"))
    with pytest.raises(HdmlError, match="use --device cpu, or --kind ivf or exact"):
        Base(index, manifest, 1, "cuda", stored.some)


@pytest.mark.parametrize("plan", [Plan("exact"), Plan("ivf", 0.95), Plan("ivf", 0.95, 80 * 4000), Plan("hnsw", 0.95)])
@pytest.mark.parametrize("one_by_one", [0, 10_000])
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_among_some_items_the_nearest_of_them_are_found(
    plan: Plan, one_by_one: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they are few enough to be compared with, or the index is searched; the target holds at every share."""
    monkeypatch.setattr("indexing.generation._ONE_BY_ONE", one_by_one)
    vectors = clustered(4000)
    stored = as_vectors(vectors)
    base = Base(*build_base(stored, plan), 1, "cpu", stored.some)
    nothing = np.empty(0, np.int64)
    gone = base.ids[::3]
    generation = Generation(2, base, Dead(gone), nothing, np.empty((0, DIMENSION), np.float32))
    random = np.random.default_rng(1)
    among = np.sort(random.choice(base.ids, round(share * len(base.ids)), replace=False))
    allowed = np.setdiff1d(among, gone)
    rows = (allowed - 7) // 2
    some = Some(generation, among)
    shares = []
    for query in vectors[::40]:
        ids, _ = generation.search(query, 10, among=some)
        assert set(ids) <= set(allowed.tolist())
        truth = allowed[np.argsort(-(vectors[rows] @ query))[:10]]
        assert len(ids) == len(truth)
        shares.append(len(set(ids) & set(truth.tolist())) / 10)
    least = {"exact": 1.0, "ivf": 0.99 if one_by_one else 0.95, "hnsw": 1.0 if one_by_one else 0.95}  # ivf has fewer bits
    assert np.mean(shares) >= least[base.manifest.kind]


def found_by(generation: Generation, queries: np.ndarray) -> set[int]:
    return {item_id for query in queries for item_id in generation.search(query, 10)[0]}
