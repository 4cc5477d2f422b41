"""A query at a large size: what ``hdml index`` chooses, against the best of a full grid by hand, and against autofaiss's choice.

    python benchmarks/scale_query.py [--items N] [--hard] [--target SHARE] [--autofaiss PYTHON] [--keep FOLDER] [--json FILE]

Vectors of ``benchmarks/vectors.py`` go into an index by ``hdml index --from-npy``. Queries are vectors of the same kind that are
in no index; the ten nearest by exact search are the truth. All searches are one by one, on one thread, for ten results.

- ours: the base that the command built, with its settings;
- the grid: every kind, number of lists, number of lists probed and number of candidates below, each with the least probing that
  finds the target's share on these very queries, so that it is chosen with what ours does not see;
- autofaiss: the index that ``autofaiss build_index`` of another environment builds from the same file, PYTHON being that
  environment's interpreter (``benchmarks/peers/autofaiss-requirements.txt``), with the memory that ours takes, tuned as it does
  by itself: to its bound on the time of a query.

Ours, the fastest of the grid and autofaiss's then take turns; what counts is the ratio of the medians.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import faiss as typed
import numpy as np
from numpy.typing import NDArray
from vectors import write_set

from indexing.index import cached_sequences, load_cache
from indexing.kinds import Manifest, search_params

faiss: Any = typed  # its stubs lack what is needed here
HDML = Path(sys.executable).with_name("hdml")
K = 10
PROBES = tuple(sorted({round(2 ** (step / 4)) for step in range(33)}))  # 1 to 256
K_FACTORS = (2, 4, 8, 16, 32)
LISTS = (0.5, 1, 2, 4)  # times the square root of the number of vectors
CODES = {"SQfp16": (0,), "Flat": (0,), "SQ8": (0,), "RaBitQfs,RFlat": K_FACTORS, "RaBitQfs,Refine(SQ8)": K_FACTORS}
EF = (10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 1024)
AUTOFAISS = """
import sys
from autofaiss import build_index
build_index(sys.argv[1], index_path=sys.argv[2], index_infos_path=sys.argv[2] + ".json", metric_type="ip",
            max_index_memory_usage=sys.argv[3], current_memory_available="8GB", nb_cores=2)
"""

Search = Callable[[NDArray[np.float32]], NDArray[np.int64]]


def pages(vectors: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in range(0, len(vectors), 65_536):
        yield start, np.ascontiguousarray(vectors[start : start + 65_536])


def exact(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rows [q, K] of the nearest."""
    heap = faiss.ResultHeap(len(queries), K, keep_max=True)
    for start, page in pages(vectors):
        scores, rows = faiss.knn(queries, page, K, metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(scores, rows + start)
    heap.finalize()
    found: NDArray[np.int64] = heap.I
    return found


def overlap(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    return float(np.mean([len(set(row) & set(wanted)) / K for row, wanted in zip(found.tolist(), truth.tolist(), strict=True)]))


def milliseconds(search: Search, queries: NDArray[np.float32]) -> float:
    """Median of one by one."""
    took = []
    for row in range(len(queries)):
        began = time.perf_counter()
        search(queries[row : row + 1])
        took.append(1000 * (time.perf_counter() - began))
    return median(took)


def least(steps: Sequence[Any], reaches: Callable[[Any], bool]) -> Any:
    """The first of ever harder settings that reaches; None when none does."""
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(steps[middle]) else (middle + 1, high)
    return steps[low] if low < len(steps) else None


def searched(index: Any, params: Any) -> Search:
    return lambda queries: index.search(queries, K, params=params)[1]


def ivf_params(nprobe: int, k_factor: int) -> Any:
    probing = faiss.SearchParametersIVF()
    probing.nprobe = nprobe
    if not k_factor:
        return probing
    turning = faiss.SearchParametersPreTransform()
    turning.index_params = probing
    params = faiss.IndexRefineSearchParameters()
    params.k_factor, params.base_index_params, params.kept = k_factor, turning, (probing, turning)
    return params


def hnsw_params(ef: int) -> Any:
    params = faiss.SearchParametersHNSW()
    params.efSearch = ef
    return params


class Grid:
    """The points that reach the target, each with its figures, and the searches of the fastest three."""

    def __init__(self, queries: NDArray[np.float32], truth: NDArray[np.int64], target: float) -> None:
        self.queries, self.truth, self.target = queries, truth, target
        self.points: list[dict[str, Any]] = []
        self.fastest: list[tuple[float, Search]] = []

    def try_all(self, index: Any, about: dict[str, Any], steps: Sequence[dict[str, int]], params: Callable[..., Any]) -> None:
        """Note the least of the ever harder steps that reaches the target, if one does."""
        faiss.omp_set_num_threads(2)
        step = least(steps, lambda one: overlap(searched(index, params(**one))(self.queries), self.truth) >= self.target)
        faiss.omp_set_num_threads(1)
        if step is None:
            return
        search = searched(index, params(**step))
        ms = milliseconds(search, self.queries[:300])
        self.points.append({**about, **step, "overlap": overlap(search(self.queries), self.truth), "ms": ms})
        self.fastest = sorted([*self.fastest, (ms, search)], key=lambda each: each[0])[:3]
        print(json.dumps(self.points[-1]), file=sys.stderr, flush=True)


def search_grid(
    grid: Grid, vectors: NDArray[np.float32], list_factors: Sequence[float], codes: Sequence[str], *, graph: bool
) -> None:
    random = np.random.default_rng(0)
    for factor in list_factors:
        lists = round(factor * len(vectors) ** 0.5)
        chosen = np.sort(random.choice(len(vectors), min(len(vectors), 64 * lists), replace=False))
        trained_on, centres = np.ascontiguousarray(vectors[chosen]), None
        for code in codes:
            turned = code.startswith("RaBitQ")  # at random, as its paper wants
            key, began = f"RR{vectors.shape[1]},IVF{lists},{code}" if turned else f"IVF{lists},{code}", time.perf_counter()
            faiss.omp_set_num_threads(2)
            index = faiss.index_factory(vectors.shape[1], key, faiss.METRIC_INNER_PRODUCT)
            searched_in = faiss.downcast_index(index.base_index) if turned else index
            ivf = faiss.extract_index_ivf(searched_in)
            if centres is not None:  # one clustering for all codes
                turning = faiss.downcast_VectorTransform(searched_in.chain.at(0)) if turned else None
                if turning is not None:
                    turning.train(trained_on)
                ivf.quantizer.add(centres if turning is None else turning.apply(centres))
            index.train(trained_on)
            if centres is None and not turned:
                centres = ivf.quantizer.reconstruct_n(0, lists)
            for _, page in pages(vectors):
                index.add(page)
            about = {"key": key, "build_s": round(time.perf_counter() - began, 1)}
            for k_factor in CODES[code]:
                steps = [{"nprobe": nprobe, "k_factor": k_factor} for nprobe in PROBES if nprobe <= lists]
                grid.try_all(index, about, steps, ivf_params)
    if graph:
        faiss.omp_set_num_threads(2)
        began, index = time.perf_counter(), faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        for _, page in pages(vectors):
            index.add(page)
        about = {"key": "HNSW32,Flat", "build_s": round(time.perf_counter() - began, 1)}
        grid.try_all(index, about, [{"ef": ef} for ef in EF], hnsw_params)


def import_set(home: Path, target: float) -> tuple[Any, Manifest]:
    """The base of ``hdml index``, which is run unless it has been."""
    index_dir = home / "workspace" / "indexes" / "set"
    if not cached_sequences(index_dir):
        command: list[str | Path] = [HDML, "index", "--from-npy", home / "set", "--target-overlap", str(target)]
        subprocess.run([*command, "--workspace", home / "workspace"], check=True, stdout=sys.stderr)
    cached = load_cache(index_dir, cached_sequences(index_dir)[-1])
    assert cached is not None
    return cached


def autofaiss(python: Path, home: Path, memory: int) -> tuple[dict[str, Any], Search]:
    out = home / "autofaiss.index"
    began = time.perf_counter()
    command: list[str | Path] = [python, "-c", AUTOFAISS, home / "set" / "img_emb", out, f"{memory / 1e6:.0f}MB"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    infos = json.loads(Path(f"{out}.json").read_text(encoding="utf-8"))
    figures = {"key": infos["index_key"], "param": infos["index_param"], "build_s": round(time.perf_counter() - began, 1)}
    index = faiss.read_index(str(out))
    return figures, lambda queries: index.search(queries, K)[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A query of hdml's choice against a grid by hand and against autofaiss's choice."
    )
    parser.add_argument("--items", type=int, default=100_000, help="vectors (default: 100000)")
    parser.add_argument("--hard", action="store_true", help="vectors without clusters")
    parser.add_argument("--target", type=float, default=0.99)
    parser.add_argument("--rounds", type=int, default=7, help="turns of the comparison (default: 7)")
    parser.add_argument("--lists", type=float, nargs="+", default=LISTS, help="times √n, of the grid (default: 0.5 1 2 4)")
    parser.add_argument("--codes", nargs="+", choices=CODES, default=list(CODES), help="of the grid (default: all)")
    parser.add_argument("--no-graph", action="store_true", help="leave HNSW out of the grid, which takes long to build")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the set and the index are, or are to stay")
    parser.add_argument("--autofaiss", type=Path, metavar="PYTHON", help="interpreter of an environment with autofaiss")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = options.keep or Path(folder)
        if not (home / "set").exists():
            write_set(home / "set", options.items, hard=options.hard)
        base, manifest = import_set(home, options.target)
        vectors = np.load(home / "set" / "img_emb" / "img_emb_0.npy", mmap_mode="r")
        queries = np.load(home / "set" / "queries.npy")
        truth = exact(vectors, queries)
        faiss.omp_set_num_threads(1)
        ours: Search = lambda some: base.search(some, K, params=search_params(manifest, K))[1] - 1  # noqa: E731
        figures: dict[str, Any] = {"items": len(vectors), "hard": options.hard, "target": options.target}
        figures["ours"] = {**asdict(manifest), "overlap": overlap(ours(queries), truth)}
        print(json.dumps(figures), flush=True)
        subjects: dict[str, Search] = {"ours": ours}
        if options.autofaiss is not None:
            memory = int((manifest.bytes_per_vector or 0) * len(vectors))
            figures["autofaiss"], subjects["autofaiss"] = autofaiss(options.autofaiss, home, memory)
            figures["autofaiss"]["overlap"] = overlap(subjects["autofaiss"](queries), truth)
            print(json.dumps(figures["autofaiss"]), flush=True)
        grid = Grid(queries, truth, options.target)
        search_grid(grid, vectors, options.lists, options.codes, graph=not options.no_graph)
        figures["grid"] = sorted(grid.points, key=lambda point: point["ms"])
        subjects |= {f"grid {place}": search for place, (_, search) in enumerate(grid.fastest, start=1)}
        turns: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(options.rounds):
            for name, search in subjects.items():
                turns[name].append(milliseconds(search, queries[:500]))
        figures["turns_ms"] = turns
        best = min((name for name in turns if name.startswith("grid")), key=lambda name: median(turns[name]))
        for name in subjects:
            ratios = [one / other for one, other in zip(turns[name], turns[best], strict=True)]
            print(
                f"{name}: {median(turns[name]):.3f} ms, over {best}: {median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            )
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
