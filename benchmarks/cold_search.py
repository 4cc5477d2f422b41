"""What ``hdml search PHOTO`` costs from cold, as a whole process, against the floor: bare onnxruntime, faiss and Pillow.

    python benchmarks/cold_search.py [--photos FOLDER] [--vectors N] [--runs N] [--json FILE]

For each network it exports an untrained backbone, indexes 200 photos (drawn, or the first of FOLDER by name), with N random
vectors beside them if that is asked, and then starts
benchmarks/search_floor.py and ``hdml search`` in turn for the same photo, once to warm up and N times to measure. Both must give
the same ids. Python's bytecode is cached in a folder of the benchmark's own: nothing is compiled while the clock runs, whatever
PYTHONDONTWRITEBYTECODE says. Weights do not matter for the time, so they are random.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hdml.butterflies import write_butterflies
from indexing.gallery import find_photos

HDML = Path(sys.executable).with_name("hdml")
FLOOR = Path(__file__).with_name("search_floor.py")
NETWORKS = (("resnet18", 64), ("resnet50", 224))
GALLERY_SIZE = 200
K = 10


def run(command: Sequence[str | Path], environment: dict[str, str]) -> str:
    """What a process writes to standard output; raises CalledProcessError when it fails."""
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout


def make_gallery(source: Path | None, gallery: Path) -> Path:
    """A folder of GALLERY_SIZE photos; returns one of them, the query."""
    if source is None:
        write_butterflies(gallery, species=GALLERY_SIZE // 10, images=10)
    else:
        for path in find_photos(source)[:GALLERY_SIZE]:
            (gallery / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, gallery / path)
    return next(path for path in sorted(gallery.rglob("*")) if path.suffix == ".jpg")


def make_index(
    backbone: str, size: int, gallery: Path, vectors: int, workspace: Path, environment: dict[str, str]
) -> tuple[Path, dict[str, Any]]:
    """Export and index as a user would; returns the index's folder, and what hdml info tells of it."""
    place = ["--workspace", str(workspace)]
    run([HDML, "export", "--backbone", backbone, "--weights", "none", "--image-size", str(size), *place], environment)
    run([HDML, "index", gallery, "--device", "cpu", *place], environment)
    if vectors:
        (run_folder,) = (workspace / "runs").iterdir()
        dimension = json.loads(run([HDML, "info", "--json", *place], environment))["dim"]
        table = workspace / "vectors.npy"
        np.save(table, np.random.default_rng(0).standard_normal((vectors, dimension), np.float32))
        run([HDML, "index", gallery, "--from-npy", table, "--encoder", run_folder.name, *place], environment)
        table.unlink()
    return workspace / "indexes" / gallery.name, json.loads(run([HDML, "info", "--json", *place], environment))


def measure(index: Path, query: Path, runs: int, environment: dict[str, str]) -> dict[str, list[float]]:
    """Seconds of each run of both, in turn, after one run of each that warms up and compares the ids."""
    workspace = index.parent.parent
    product: list[str | Path] = [HDML, "search", query, "-k", str(K), "--device", "cpu", "--workspace", workspace, "--json"]
    floor: list[str | Path] = [sys.executable, FLOOR, index, query, str(K)]
    found = [result["id"] for result in json.loads(run(product, environment))["results"]]
    expected = [int(line.split()[0]) for line in run(floor, environment).splitlines()]
    if found != expected:
        raise SystemExit(f"both must find the same photos, but hdml found {found} and the floor {expected}")
    seconds: dict[str, list[float]] = {"hdml": [], "floor": []}
    for _ in range(runs):
        for name, command in (("floor", floor), ("hdml", product)):
            started = time.perf_counter()
            run(command, environment)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def row(network: str, seconds: dict[str, list[float]]) -> str:
    spread = {name: f"{median(of):.2f} ({min(of):.2f}–{max(of):.2f})" for name, of in seconds.items()}
    return f"| {network} | {spread['hdml']} | {spread['floor']} | {median(seconds['hdml']) / median(seconds['floor']):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Cold hdml search against bare onnxruntime, faiss and Pillow.")
    parser.add_argument("--photos", type=Path, help="take the gallery's photos from this folder instead of drawing them")
    parser.add_argument("--vectors", type=int, default=0, help="random vectors beside the photos (default: 0)")
    parser.add_argument("--runs", type=int, default=10, help="measured runs of each (default: 10)")
    parser.add_argument("--json", type=Path, help="also write every run's seconds to this file")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    print("| network | hdml search, s: median (least–most) | floor, s | ratio of medians |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        gallery = Path(folder, "gallery")
        query = make_gallery(options.photos, gallery)
        for backbone, size in NETWORKS:
            index, about = make_index(backbone, size, gallery, options.vectors, Path(folder, backbone), environment)
            seconds = measure(index, query, options.runs, environment)
            name = f"{backbone}, {size} px, {about['items']} × {about['dim']}, {about['kind']}"
            results[name] = seconds
            print(row(name, seconds), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
