"""The memory that an index takes: of a process that searches it, and of the one that builds it.

    python benchmarks/scale_memory.py [--items N] [--memory SIZE] [--target SHARE] [--keep FOLDER] [--json FILE]

Vectors of ``benchmarks/vectors.py`` go into an index by ``hdml index --from-npy --memory SIZE``, whose greatest resident memory
is taken from the operating system. A process of its own opens the index and searches; its resident memory, pages of mapped files
that it has touched counted, less that of a process that has loaded the same modules and opened an index of a hundred items, is
what the index takes. One that has not touched all of the base would take up to its file's size in the end: both are told.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scale_query import HDML, exact, overlap
from vectors import write_set

from indexing.index import cache_path, cached_sequences
from indexing.search import OpenIndex


def resident() -> int:
    """Bytes of this process, as Linux counts them."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def search(index_dir: Path, queries_file: Path) -> None:
    """Search with some queries and print what was found and the memory, as JSON."""
    queries = np.load(queries_file)
    with OpenIndex(index_dir, device="cpu") as opened:
        found = [[result.id for result in opened.search_vector(query, k=10)] for query in queries]
        file = cache_path(index_dir, cached_sequences(index_dir)[-1]).stat().st_size
        print(json.dumps({"found": found, "resident": resident(), "file": file}))


def build(home: Path, memory: str | None, target: float) -> int:
    """Greatest resident memory, in bytes, of the command that builds the index."""
    limit = [] if memory is None else ["--memory", memory]
    command: list[str | Path] = [
        HDML,
        "index",
        "--from-npy",
        home / "set",
        "--workspace",
        home / "workspace",
        "--target-overlap",
        str(target),
        *limit,
    ]
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("hdml index has failed")
    return usage.ru_maxrss * 1024


def in_own_process(index_dir: Path, queries: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--search", str(index_dir), "--queries", str(queries)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description="Resident memory of searching and of building a large index.")
    parser.add_argument("--items", type=int, default=400_000, help="vectors (default: 400000)")
    parser.add_argument("--memory", help="of hdml index (default: 165 bytes a vector)")
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the set and the index are, or are to stay")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--queries", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.search is not None:
        search(options.search, options.queries)
        return
    with tempfile.TemporaryDirectory() as folder:
        home, empty = options.keep or Path(folder), Path(folder) / "empty"
        if not (home / "set").exists():
            write_set(home / "set", options.items)
        peak = build(home, options.memory or f"{180 * options.items / 1e6:.0f}MB", options.target)
        write_set(empty / "set", 100)
        build(empty, None, options.target)
        queries = home / "set" / "queries.npy"
        found = in_own_process(home / "workspace" / "indexes" / "set", queries)
        nothing = in_own_process(empty / "workspace" / "indexes" / "set", queries)
        vectors = np.load(home / "set" / "img_emb" / "img_emb_0.npy", mmap_mode="r")
        figures = {
            "items": len(vectors),
            "target": options.target,
            "overlap": overlap(np.array(found["found"]), exact(vectors, np.load(queries)) + 1),
            "resident_bytes_per_vector": (found["resident"] - nothing["resident"]) / len(vectors),
            "file_bytes_per_vector": found["file"] / len(vectors),
            "build_peak_bytes": peak,
            "build_allowed_bytes": 2 * found["file"] + 10**9,
        }
    print(json.dumps(figures, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
