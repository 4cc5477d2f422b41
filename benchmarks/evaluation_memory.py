"""Peak memory and time of evaluating as many photos as Stanford Online Products tests on, in a process of its own.

    python benchmarks/evaluation_memory.py [--photos N] [--classes N] [--dimension N] [--threads N] [--device cuda]
        [--json FILE]

The embeddings are drawn: unit vectors around the centre of their class. The naive way holds the scores of all pairs, whose size
is computed, not allocated.

On a GPU, faiss clusters too, with memory that torch does not count: what the GPU has to spare is watched instead.
"""

import argparse
import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PHOTOS, CLASSES, DIMENSION = 60_502, 11_316, 512  # of Stanford Online Products' test half, in the papers' dimension
_NOISE = 3.0  # standard deviation of a class in every direction, its centre's being 1
_SCORE_BYTES = 4
_WATCH_SECONDS = 0.005


def draw_embeddings(photos: int, classes: int, dimension: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """[photos, dimension] unit vectors and their labels [photos]; every class has as many photos as any other, or one more."""
    rng = np.random.default_rng(0)
    labels = np.arange(photos, dtype=np.int64) % classes
    centres = rng.standard_normal((classes, dimension), dtype=np.float32)
    embeddings = rng.standard_normal((photos, dimension), dtype=np.float32)
    for rows in np.array_split(np.arange(photos), 1 + photos // 1000):  # a copy of them all would be the peak that is measured
        drawn = _NOISE * embeddings[rows] + centres[labels[rows]]
        embeddings[rows] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return embeddings, labels


@contextmanager
def watched_gpu(device: str) -> Iterator[dict[str, int]]:
    """Fills ``peak_gpu_bytes``, the most that anybody took of the GPU meanwhile; nothing on the CPU."""
    import torch

    taken: dict[str, int] = {}
    if not device.startswith("cuda"):
        yield taken
        return
    torch.ones(1, device=device)  # the context, which every program has
    start, done = torch.cuda.mem_get_info(device)[0], threading.Event()

    def watch() -> None:
        least = start
        while not done.wait(_WATCH_SECONDS):
            least = min(least, torch.cuda.mem_get_info(device)[0])
        taken["peak_gpu_bytes"] = start - least

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield taken
    finally:
        done.set()
        watcher.join()


def evaluate(photos: int, classes: int, dimension: int, threads: int, device: str) -> dict[str, Any]:
    """Draw, evaluate, and say what it took; ``start_bytes`` is the peak before evaluating, libraries loaded."""
    import faiss
    import torch

    from hdml.device import peak_memory
    from hdml.evaluate import evaluate_embeddings

    if threads:
        faiss.omp_set_num_threads(threads)
        torch.set_num_threads(threads)
    embeddings, labels = draw_embeddings(photos, classes, dimension)
    cpu = torch.device("cpu")
    with watched_gpu(device) as taken:
        start_bytes, started = peak_memory(cpu), time.perf_counter()
        evaluation = evaluate_embeddings(embeddings, labels, device=device)
        seconds = time.perf_counter() - started
    return {
        "photos": photos,
        "classes": classes,
        "dimension": dimension,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "start_bytes": start_bytes,
        "peak_bytes": peak_memory(cpu),
        **taken,
        "all_pairs_bytes": photos * photos * _SCORE_BYTES,
        "seconds": round(seconds, 1),
        "measures": evaluation.to_json(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory and time of one evaluation.")
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--classes", type=int, default=CLASSES)
    parser.add_argument("--dimension", type=int, default=DIMENSION)
    parser.add_argument("--threads", type=int, default=0, help="of torch and faiss; what they choose when left out")
    parser.add_argument("--device", default="cpu", help="where to rank and to cluster")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        size = (options.photos, options.classes, options.dimension)
        result = pool.submit(evaluate, *size, options.threads, options.device).result()
    print("| photos × dimension, classes | peak resident | before evaluating | peak on the GPU | scores of all pairs | seconds |")
    print("|---|---|---|---|---|---|")
    name = f"{result['photos']:,} × {result['dimension']}, {result['classes']:,}"
    peak, start, pairs = (f"{result[name] / 1e9:.2f} GB" for name in ("peak_bytes", "start_bytes", "all_pairs_bytes"))
    gpu = f"{result['peak_gpu_bytes'] / 1e9:.2f} GB" if "peak_gpu_bytes" in result else "–"
    print(f"| {name} | {peak} | {start} | {gpu} | {pairs} | {result['seconds']} |")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
