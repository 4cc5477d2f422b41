"""How soon ``hdml serve`` is ready, beside the imports of its libraries.

    python benchmarks/serve_start.py [--items N] [--runs N] [--keep FOLDER] [--json FILE]

The vectors and the index are those of ``scale_query.py``. Ready means that ``/readyz`` is answered with 200: the page, the
routes, the index and its encoder are there. The floor is a process that imports the libraries that the server cannot do without,
and ends. Both are whole processes, in turn, after one of each to warm up. Python's bytecode is cached in a folder of the
benchmark's own: nothing is compiled while the clock runs, whatever PYTHONDONTWRITEBYTECODE says. The target is a ratio of at
most 1.3.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scale_query import import_set
from served import HDML, free_port, running
from vectors import write_set

LIBRARIES = ("typer", "numpy", "PIL.Image", "faiss", "onnxruntime", "fastapi", "uvicorn", "prometheus_client", "gradio")
PAGELESS = tuple(name for name in LIBRARIES if name != "gradio")


def time_floor(libraries: tuple[str, ...]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {', '.join(libraries)}"], check=True)
    return time.perf_counter() - began


def time_server(index_dir: Path, *options: str) -> float:
    port = free_port()
    command: list[str | Path] = [HDML, "serve", "--no-open", "--device", "cpu", "--port", str(port), "--index", index_dir]
    began = time.perf_counter()
    with running([*command, *options], port, ready="/readyz"):
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="How soon hdml serve is ready.")
    parser.add_argument("--items", type=int, default=100_000, help="vectors (default: 100000)")
    parser.add_argument("--runs", type=int, default=7, help="of each, in turn (default: 7)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the set and the index are, or are to stay")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    took: dict[str, list[tuple[float, float]]] = {"page and routes": [], "routes alone": []}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/bytecode"
        home = options.keep or Path(folder)
        if not (home / "set").exists():
            write_set(home / "set", options.items)
        import_set(home, 0.99)
        index_dir = home / "workspace" / "indexes" / "set"
        for _ in range(options.runs + 1):
            took["page and routes"].append((time_server(index_dir), time_floor(LIBRARIES)))
            took["routes alone"].append((time_server(index_dir, "--api-only"), time_floor(PAGELESS)))
    figures: dict[str, Any] = {"items": options.items}
    print("| served | hdml serve, s: median (least–most) | floor, s | ratio of medians |\n|---|---|---|---|")
    for name, pairs in took.items():
        server, floor = ([pair[place] for pair in pairs[1:]] for place in (0, 1))
        ratio = statistics.median(server) / statistics.median(floor)
        figures[name] = {"server_s": server, "floor_s": floor, "ratio": ratio}
        cells = (f"{statistics.median(one):.2f} ({min(one):.2f}–{max(one):.2f})" for one in (server, floor))
        print(f"| {name} | {' | '.join(cells)} | {ratio:.2f} |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
