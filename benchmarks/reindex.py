"""What ``hdml index`` costs when nothing has changed, as a whole process, against a bare walk that compares with SQLite.

    python benchmarks/reindex.py [--files N] [--runs N] [--json FILE]

It makes a gallery of N files in folders of 100, copies of a few drawn photos (the same bytes are embedded once), indexes it with
an untrained network, and then starts this script as the floor and ``hdml index`` in turn: once to warm up, then as often as is
asked. The floor looks at every file with os.scandir and stat, compares size and time with the rows of the catalogue, which it
holds in a dict, and prints how many differ; it knows no links, no unreadable folders, no labels and no changes. Python's bytecode
is cached in a folder of the benchmark's own.
"""

import argparse
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

HDML = Path(sys.executable).with_name("hdml")
FILES_A_FOLDER = 100


def walk(folder: str, below: str) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of every file."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from walk(entry.path, f"{below}{entry.name}/")
            else:
                status = entry.stat()
                yield below + entry.name, status.st_size, status.st_mtime_ns


def floor(gallery: str, catalogue: str) -> int:
    """Number of files that are not as the catalogue knows them."""
    rows = sqlite3.connect(catalogue).execute("SELECT path, size, mtime_ns FROM items WHERE state = 'ready'")
    known = {path: (size, mtime_ns) for path, size, mtime_ns in rows}
    return sum(known.get(path) != (size, mtime_ns) for path, size, mtime_ns in walk(gallery, ""))


def make_gallery(gallery: Path, files: int) -> None:
    from hdml.butterflies import write_butterflies

    with tempfile.TemporaryDirectory() as folder:
        write_butterflies(Path(folder), species=8, images=8)
        photos = [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))]
    for number in range(files):
        file = gallery / f"{number // FILES_A_FOLDER:05}" / f"{number:07}.jpg"
        if number % FILES_A_FOLDER == 0:
            file.parent.mkdir(parents=True)
        file.write_bytes(photos[number % len(photos)])


def run(command: list[str | Path], environment: dict[str, str]) -> tuple[float, float, str]:
    """Seconds by the clock, seconds of processors, and what the process wrote."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description="hdml index with nothing to do against a bare walk.")
    parser.add_argument("--files", type=int, default=100_000, help="size of the gallery (default: 100000)")
    parser.add_argument("--runs", type=int, default=7, help="measured runs of each (default: 7)")
    parser.add_argument("--json", type=Path, help="also write every run's seconds to this file")
    parser.add_argument("--floor", nargs=2, metavar=("GALLERY", "CATALOGUE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.floor:
        print(floor(*options.floor))
        return
    measured: dict[str, list[tuple[float, float]]] = {"floor": [], "hdml index": []}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        gallery, workspace = Path(folder, "gallery"), Path(folder, "workspace")
        make_gallery(gallery, options.files)
        place: list[str | Path] = ["--workspace", workspace]
        run([HDML, "export", "--backbone", "resnet18", "--weights", "none", "--image-size", "32", *place], environment)
        product: list[str | Path] = [HDML, "index", gallery, "--device", "cpu", "--json", *place]
        run(product, environment)
        bare: list[str | Path] = [sys.executable, __file__, "--floor", gallery, workspace / "indexes/gallery/catalogue.sqlite"]
        for turn in range(options.runs + 1):
            for name, command in (("floor", bare), ("hdml index", product)):
                *seconds, told = run(command, environment)
                as_before = int(told) == 0 if name == "floor" else json.loads(told)["unchanged"] == options.files
                if not as_before:
                    raise SystemExit(f"nothing has changed, but {name} says: {told}")
                if turn:
                    measured[name].append((seconds[0], seconds[1]))
    print("| | floor, s: median (least–most) | hdml index, s | ratio of medians |\n|---|---|---|---|")
    for kind, what in enumerate(("by the clock", "of processors")):
        times = {name: [each[kind] for each in runs] for name, runs in measured.items()}
        shown = [f"{median(of):.2f} ({min(of):.2f}–{max(of):.2f})" for of in times.values()]
        print(f"| {what} | {' | '.join(shown)} | {median(times['hdml index']) / median(times['floor']):.2f} |")
    if options.json is not None:
        options.json.write_text(json.dumps({"files": options.files, **measured}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
