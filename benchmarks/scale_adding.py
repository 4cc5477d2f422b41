"""Adding to a large index while it is searched: how soon new items are found, and what it costs the searches.

    python benchmarks/scale_adding.py [--items N] [--readers N] [--keep FOLDER] [--json FILE]

The vectors and the index are those of ``scale_query.py``. Some threads of one process search without a pause, as a server does.
For a while nothing else happens (quiet); then another process stores 1,000 more vectors, eight at a time like photos that are
embedded, over some ten seconds (busy). A search by the last of them is repeated until it is the first result.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from scale_query import import_set
from vectors import drawn, read_figures, write_set

from indexing.catalogue import Catalogue
from indexing.index import cached_sequences
from indexing.intake import GivenVector
from indexing.lock import indexing_alone
from indexing.search import OpenIndex

ADDED, AT_ONCE = 1000, 8
HEADING = """\
| found after, s | rebuilt | quiet p50, p95, ms | busy p50, p95, ms | busy / quiet p95 | failed |
|---|---|---|---|---|---|"""
PAUSE_S = 0.08  # between batches, about what embedding eight photos takes


def new_vectors(seed: int) -> Any:
    return drawn(read_figures(), ADDED, seed=seed)


def write(index_dir: Path, seed: int) -> None:
    """Store the vectors as an indexer does; prints when the last was stored, in seconds since 1970."""
    rows = [GivenVector(f"new {seed}/{row}.jpg", None, "{}", 1.0, one.tobytes()) for row, one in enumerate(new_vectors(seed))]
    with indexing_alone(index_dir), Catalogue(index_dir) as catalogue:
        catalogue.begin_table()
        for start in range(0, ADDED, AT_ONCE):
            catalogue.take_in(rows[start : start + AT_ONCE])
            if start + AT_ONCE < ADDED:
                time.sleep(PAUSE_S)
        print(time.time(), flush=True)


class Readers:
    """Threads that search until they are told to stop; what each search took, and what was raised."""

    def __init__(self, opened: OpenIndex, queries: Any, threads: int) -> None:
        self.opened, self.queries = opened, queries
        self.took_ms: list[float] = []
        self.failures: list[str] = []
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._search, args=(number,)) for number in range(threads)]

    def __enter__(self) -> "Readers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _search(self, number: int) -> None:
        random = np.random.default_rng(number)
        while not self._stopped.is_set():
            query = self.queries[random.integers(len(self.queries))]
            began = time.perf_counter()
            try:
                if len(self.opened.search_vector(query, k=10)) != 10:
                    self.failures.append("fewer than ten results")
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed query, and counted
                self.failures.append(repr(error))
            self.took_ms.append(1000 * (time.perf_counter() - began))


def summary(readers: Readers) -> dict[str, Any]:
    took = readers.took_ms
    quantiles = {f"p{rank}_ms": float(np.percentile(took, rank)) for rank in (50, 95, 99)}
    return {"queries": len(took), "failed": len(readers.failures), "reasons": readers.failures[:3], **quantiles}


def measure(index_dir: Path, queries: Any, *, threads: int, seed: int) -> dict[str, Any]:
    bases = cached_sequences(index_dir)
    with OpenIndex(index_dir, device="cpu") as opened:
        with Readers(opened, queries, threads) as quiet:
            time.sleep(10)
        last, path = new_vectors(seed)[-1], f"new {seed}/{ADDED - 1}.jpg"
        command = [sys.executable, __file__, "--write", str(index_dir), "--seed", str(seed)]
        with Readers(opened, queries, threads) as busy, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            while opened.search_vector(last, k=1)[0].path != path:
                time.sleep(0.005)
            found = time.time()
            stored = float(writer.communicate()[0])
    return {
        "quiet": summary(quiet),
        "busy": summary(busy),
        "found_after_s": found - stored,
        "rebuilt": cached_sequences(index_dir) != bases,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="A large index that grows while it is searched.")
    parser.add_argument("--items", type=int, default=100_000, help="vectors (default: 100000)")
    parser.add_argument("--readers", type=int, default=2, help="threads that search (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="times quiet and busy, in turn (default: 3)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the set and the index are, or are to stay")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write is not None:
        write(options.write, options.seed)
        return
    with tempfile.TemporaryDirectory() as folder:
        home = options.keep or Path(folder)
        if not (home / "set").exists():
            write_set(home / "set", options.items)
        import_set(home, 0.99)
        index_dir = home / "workspace" / "indexes" / "set"
        queries = np.load(home / "set" / "queries.npy")
        rounds = []
        seed = int(time.time())
        print(HEADING)
        for number in range(options.rounds):
            rounds.append(one := measure(index_dir, queries, threads=options.readers, seed=seed + number))
            quiet, busy = one["quiet"], one["busy"]
            times = " | ".join(f"{each['p50_ms']:.2f}, {each['p95_ms']:.2f}" for each in (quiet, busy))
            failed = f"{quiet['failed'] + busy['failed']} of {quiet['queries'] + busy['queries']}"
            ratio = busy["p95_ms"] / quiet["p95_ms"]
            print(f"| {one['found_after_s']:.3f} | {one['rebuilt']} | {times} | {ratio:.2f} | {failed} |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps({"items": options.items, "rounds": rounds}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
