"""Filtered searches at a large size: how many of the true ten nearest they find, and what they take.

    python benchmarks/scale_filters.py [--items N] [--hard] [--keep FOLDER] [--json FILE]

The vectors and the index are those of ``scale_query.py``. Of the items, 50, 10, 1 and 0.1 % have a value of an attribute that
has nothing to do with their vectors (``random``), and as many one that whole clusters share (``group``). The truth is exact
search among those that match. Searches are one by one, on one thread.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scale_query import K, exact, import_set, overlap
from vectors import SHARES, write_set

from indexing.filters import Filter
from indexing.search import OpenIndex

HEADING = """\
| filter | matches | overlap@10 | which match, ms | first search, ms | further ones, ms: median |
|---|---|---|---|---|---|"""


def filtered(opened: OpenIndex, where: Filter, vectors: Any, queries: Any) -> dict[str, float]:
    """Share of items that match, milliseconds to find out which, of a whole search and of a second one, and overlap."""
    began = time.perf_counter()
    ids = opened.catalogue.matching(where)
    matching_ms = 1000 * (time.perf_counter() - began)
    truth = ids[exact(np.ascontiguousarray(vectors[ids - 1]), queries)]
    found, took = [], []
    for query in queries:
        began = time.perf_counter()
        results = opened.search_vector(query, k=K, where=where)
        took.append(1000 * (time.perf_counter() - began))
        found.append([result.id for result in results])
    return {
        "share": len(ids) / len(vectors),
        "matching_ms": matching_ms,
        "first_ms": took[0],
        "search_ms": median(took[1:]),
        "overlap": overlap(np.array(found), truth),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Filtered searches against exact search among what matches.")
    parser.add_argument("--items", type=int, default=100_000, help="vectors (default: 100000)")
    parser.add_argument("--hard", action="store_true", help="vectors without clusters")
    parser.add_argument("--target", type=float, default=0.99)
    parser.add_argument("--queries", type=int, default=200, help="searches of each filter (default: 200, 1000 at most)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the set and the index are, or are to stay")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = options.keep or Path(folder)
        if not (home / "set").exists():
            write_set(home / "set", options.items, hard=options.hard)
        _, manifest = import_set(home, options.target)
        vectors = np.load(home / "set" / "img_emb" / "img_emb_0.npy", mmap_mode="r")
        queries = np.load(home / "set" / "queries.npy")[: options.queries]
        print(HEADING)
        rows = {}
        with OpenIndex(home / "workspace" / "indexes" / "set", device="cpu") as opened:
            for name in ("random", "group"):
                for share in SHARES:
                    where = Filter(attributes=((name, share),))
                    row = rows[f"{name} {share}"] = filtered(opened, where, vectors, queries)
                    cells = [f"{row[cell]:.1f}" for cell in ("matching_ms", "first_ms", "search_ms")]
                    print(f"| {name} | {row['share']:.2%} | {row['overlap']:.3f} | {' | '.join(cells)} |", flush=True)
    if options.json is not None:
        figures = {
            "items": manifest.items,
            "hard": options.hard,
            "target": options.target,
            "kind": manifest.kind,
            "filters": rows,
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
