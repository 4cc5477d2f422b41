"""``hdml index`` against the indexing of rclip and of clip-retrieval: the same photos, the same network, whole commands in turn.

    python benchmarks/pipelines.py [--rclip PYTHON] [--clip-retrieval PYTHON] [--clip-retrieval-defaults] [--network FOLDER]
        [--photos FOLDER] [--small N] [--large N] [--rounds N] [--json FILE]

Each PYTHON is that of a virtual environment with ``benchmarks/peers/rclip-requirements.txt`` or
``benchmarks/peers/clip-retrieval-requirements.txt``. The network is CLIP's ViT-B/32 at 256 px, rclip's own, with random weights
that ``benchmarks/peers/vit_b32.py`` writes for all of them. Nothing is downloaded, and nothing of the peers is changed:

- rclip finds the vision tower as an ONNX file where it would have put its download. It is asked for a photo, and indexes first;
- clip-retrieval is told the checkpoint's path as open_clip's name of weights. It runs with batches and workers for two cores, and
  if asked with its defaults, whose warm-up embeds 512 photos; its index is made by another command, which is not run;
- ``hdml index`` takes the same ONNX file through ``hdml encoder add``.

Two galleries: a fixed sample of different photos of FOLDER (or drawn ones), and photos of 12 megapixels made of them, with the
grain of a camera's sensor. Timed are whole commands, by the clock and in processor time of all their processes; their start is
told by the same command over 8 of the photos. Memory is the proportional set size of all processes, seen once a second.
"""

import argparse
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hdml.butterflies import SEED, write_butterflies
from indexing.catalogue import Catalogue
from indexing.gallery import find_photos

HDML = Path(sys.executable).with_name("hdml")
FEW = 8  # photos, of the runs that tell what a start takes
WRITE_NETWORK = Path(__file__).parent / "peers" / "vit_b32.py"
MEAN, STD = "0.48145466,0.4578275,0.40821073", "0.26862954,0.26130258,0.27577711"  # of CLIP, as both peers have them
RCLIP_FOLDER = "ViT-B-32-256-datacomp_s34b_b86k"
# What rclip would download as well; none of it is opened to search by a photo, but each has to be there.
RCLIP_UNREAD = (
    *(f"{RCLIP_FOLDER}/textual.onnx", "tokenizer/bpe_simple_vocab_16e6.txt.gz"),
    *("LICENSE", "OPENAI-CLIP-MIT.txt", "README.md", "THIRD_PARTY_NOTICES.md"),
)

Vectors = dict[str, NDArray[np.float32]]
"""Unit embeddings [512] by path, relative to the gallery."""


@dataclass(frozen=True)
class Run:
    """One command: seconds by the clock and of processors, and bytes resident at the most."""

    seconds: float
    processor_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Pipeline:
    """A way to index: the command for a gallery and a new folder, its environment, what it stored."""

    command: Callable[[Path, Path], list[str | Path]]
    environment: Callable[[Path], Mapping[str, str]]
    vectors: Callable[[Path, Path], Vectors]


def measure(pipeline: Pipeline, gallery: Path, out: Path) -> tuple[Run, Vectors]:
    out.mkdir(parents=True)
    environment = {**os.environ, **pipeline.environment(out), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("OMP_NUM_THREADS", None)  # each takes the threads that it takes
    with (out / "stdout").open("w") as said, (out / "stderr").open("w") as complained:
        started = time.perf_counter()
        process = subprocess.Popen(pipeline.command(gallery, out), cwd=gallery, env=environment, stdout=said, stderr=complained)
        peak = Peak(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        seconds, peak_bytes = time.perf_counter() - started, peak.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{process.args!r} failed:\n{(out / 'stderr').read_text()[-2000:]}")
    run = Run(seconds, usage.ru_utime + usage.ru_stime, peak_bytes)
    return run, pipeline.vectors(gallery, out)


class Peak:
    """The most memory that a process and its descendants have had together."""

    def __init__(self, pid: int) -> None:
        self._pid, self._bytes, self._ended = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(1):
            self._bytes = max(self._bytes, sum(map(_resident, _family(self._pid))))

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        return self._bytes


def _family(pid: int) -> list[int]:
    try:
        children = [
            int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
        ]
    except OSError:  # it has ended
        return []
    return [pid, *(member for child in children for member in _family(child))]


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def hdml(encoder: Path) -> Pipeline:
    def vectors(gallery: Path, out: Path) -> Vectors:
        with Catalogue(out / "workspace" / "indexes" / gallery.name) as catalogue:
            return {path.as_posix(): catalogue.item_at(path.as_posix()).vector for path in find_photos(gallery)}

    return Pipeline(
        command=lambda gallery, out: [
            *(HDML, "index", gallery, "--encoder", encoder, "--device", "cpu", "--workspace", out / "workspace")
        ],
        environment=lambda out: {},
        vectors=vectors,
    )


def rclip(python: Path, network: Path) -> Pipeline:
    """rclip as its command runs: it indexes the folder that it is started in, then searches."""

    def environment(out: Path) -> Mapping[str, str]:
        for name in RCLIP_UNREAD:
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).touch()
        (out / RCLIP_FOLDER / "visual.onnx").symlink_to(network / "visual.onnx")
        return {"RCLIP_DATADIR": str(out)}

    def vectors(gallery: Path, out: Path) -> Vectors:
        with sqlite3.connect(out / "db.sqlite3") as database:
            rows = database.execute("SELECT filepath, vector FROM images").fetchall()
        return {Path(path).relative_to(gallery).as_posix(): np.frombuffer(vector, np.float32) for path, vector in rows}

    def command(gallery: Path, out: Path) -> list[str | Path]:
        return [python.with_name("rclip"), f"./{find_photos(gallery)[0].as_posix()}", "--top", "1"]

    return Pipeline(command, environment, vectors)


def clip_retrieval(python: Path, network: Path, *options: str) -> Pipeline:
    def command(gallery: Path, out: Path) -> list[str | Path]:
        model = f"open_clip:ViT-B-32-256/{network / 'weights.pt'}"
        places = ("--input_dataset", gallery, "--output_folder", out / "vectors")
        return [python.with_name("clip-retrieval"), "inference", *places, "--clip_model", model, *options]

    def vectors(gallery: Path, out: Path) -> Vectors:
        from pyarrow import parquet

        (file,) = (out / "vectors" / "metadata").glob("*.parquet")
        paths = parquet.read_table(file).column("image_path").to_pylist()
        (rows,) = (np.load(npy).astype(np.float32) for npy in (out / "vectors" / "img_emb").glob("*.npy"))
        return {Path(path).relative_to(gallery).as_posix(): row for path, row in zip(paths, rows, strict=True)}

    return Pipeline(command, lambda out: {}, vectors)


def sample(source: Path | None, gallery: Path, number: int) -> None:
    """Copy a fixed sample of photos, each different in its bytes: the pipelines embed the same bytes once, or twice."""
    if source is None:
        write_butterflies(gallery, species=max(1, number // 20), images=20)
        return
    paths = find_photos(source)
    random.Random(SEED).shuffle(paths)
    seen: set[bytes] = set()
    for path in paths:
        content = (source / path).read_bytes()
        if content in seen:
            continue
        seen.add(content)
        (gallery / path).parent.mkdir(parents=True, exist_ok=True)
        (gallery / path).write_bytes(content)
        if len(seen) == number:
            return


def enlarge(photos: Path, gallery: Path, number: int) -> None:
    """The first photos at 4000 x 3000 pixels, under grain of their own."""
    gallery.mkdir()
    grain = np.random.default_rng(SEED).normal(0, 5, (3000, 4000, 1)).astype(np.float32)

    def write(position: int, path: Path) -> None:
        with Image.open(photos / path) as photo:
            pixels = np.asarray(photo.convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC), np.float32)
        noisy = pixels + np.roll(grain, tuple(np.random.default_rng((SEED, position)).integers(0, 3000, 2)), (0, 1))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(gallery / f"{position:03d}.jpg", quality=90)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(number), find_photos(photos)))


def agreement(expected: Vectors, found: Vectors) -> dict[str, float]:
    """Cosines of a photo's two vectors, and how often the nearest vector of the other set is the same photo's."""
    if expected.keys() != found.keys():
        raise SystemExit(f"all must embed the same photos, but {len(expected.keys() ^ found.keys())} are in one of two alone")
    first, second = (np.stack([of[path] for path in sorted(expected)]) for of in (expected, found))
    cosines = first @ (second / np.linalg.norm(second, axis=1, keepdims=True)).T
    own = cosines.diagonal()
    others = cosines[~np.eye(len(own), dtype=bool)]
    return {
        "least": float(own.min()),
        "median": float(np.median(own)),
        "median_of_different_photos": float(np.median(others)),
        "nearest_is_itself": float((cosines.argmax(1) == np.arange(len(own))).mean()),
    }


def row(name: str, photos: int, runs: list[Run], product: list[Run], start: float) -> str:
    rates = [photos / run.seconds for run in runs]
    ratios = [theirs.seconds / ours.seconds for theirs, ours in zip(runs, product, strict=True)]
    processor = [theirs.processor_seconds / ours.processor_seconds for theirs, ours in zip(runs, product, strict=True)]
    cells = [
        f"{median(rates):.1f} ({min(rates):.1f}–{max(rates):.1f})",
        f"{median(photos / run.processor_seconds for run in runs):.1f}",
        f"{median((photos - FEW) / (run.processor_seconds - start) for run in runs):.1f}",
        f"{start:.1f}",
        f"{max(run.peak_bytes for run in runs) / 1e9:.2f}",
        f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
        f"{median(processor):.2f} ({min(processor):.2f}–{max(processor):.2f})",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def add_encoder(network: Path, workspace: Path) -> Path:
    options = ("--image-size", "256", "--mean", MEAN, "--std", STD, "--interpolation", "bicubic")
    command: list[str | Path] = [
        HDML,
        "encoder",
        "add",
        network / "visual.onnx",
        "--name",
        "vit",
        *options,
        "--workspace",
        workspace,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return workspace / "runs" / "vit" / "encoder.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description="hdml index against the indexing of rclip and of clip-retrieval.")
    parser.add_argument("--rclip", type=Path, help="Python of an environment with rclip")
    parser.add_argument("--clip-retrieval", type=Path, help="Python of an environment with clip-retrieval")
    parser.add_argument("--clip-retrieval-defaults", action="store_true", help="run clip-retrieval with its defaults as well")
    parser.add_argument(
        "--network", type=Path, help="folder of what vit_b32.py writes, kept there or found (default: written anew)"
    )
    parser.add_argument("--photos", type=Path, help="take the photos from this folder instead of drawing them")
    parser.add_argument("--small", type=int, default=1000, help="number of photos as they are (default: 1000; 20 at least)")
    parser.add_argument(
        "--large", type=int, default=100, help="number of photos of 12 megapixels (default: 100; at most --small)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="measured runs of each (default: 3)")
    parser.add_argument("--json", type=Path, help="also write every run to this file")
    options = parser.parse_args()
    if options.rclip is None and options.clip_retrieval is None:
        print("pipelines.py compares with rclip and clip-retrieval: name their Pythons with --rclip and --clip-retrieval")
        return
    results: dict[str, Any] = {}
    galleries = ("small", "large", "few")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        sample(options.photos, home / "small", options.small)
        enlarge(home / "small", home / "large", options.large)
        sample(home / "small", home / "few", FEW)
        network = (options.network or home / "network").absolute()
        if not (network / "visual.onnx").exists():
            if options.clip_retrieval is None:
                raise SystemExit(
                    "the network is written by the Python of --clip-retrieval; name it, or a --network that it wrote"
                )
            network.mkdir()
            subprocess.run([options.clip_retrieval, WRITE_NETWORK, network], check=True, stderr=subprocess.DEVNULL)
        pipelines = {"hdml index": hdml(add_encoder(network, home / "encoders"))}
        if options.rclip is not None:
            pipelines["rclip"] = rclip(options.rclip, network)
        if options.clip_retrieval is not None:
            ours = ("--batch_size", "32", "--num_prepro_workers", "2")
            pipelines["clip-retrieval"] = clip_retrieval(options.clip_retrieval, network, *ours)
            if options.clip_retrieval_defaults:
                pipelines["clip-retrieval, defaults"] = clip_retrieval(options.clip_retrieval, network)
        for name in galleries:
            results[name] = {
                "photos": len(find_photos(home / name)),
                "load_average": [],
                "runs": {of: [] for of in pipelines},
                "cosine_with_hdml": {},
            }
        for _ in range(options.rounds):
            for name in galleries:
                for ran in take_turns(pipelines, home / name, home / "out", results[name]):
                    print(f"{ran} {name}", file=sys.stderr)
                    if options.json is not None:
                        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    starts = {of: median(run["processor_seconds"] for run in runs) for of, runs in results["few"]["runs"].items()}
    for name in ("small", "large"):
        print_table(name, results[name], starts)


def take_turns(pipelines: dict[str, Pipeline], gallery: Path, out: Path, results: dict[str, Any]) -> Iterator[str]:
    """Run each once and add what that gave to the results; yields its name."""
    expected: Vectors = {}
    for name, pipeline in pipelines.items():
        results["load_average"].append(os.getloadavg()[0])
        run, vectors = measure(pipeline, gallery, out)
        shutil.rmtree(out)
        expected = expected or vectors
        results["cosine_with_hdml"][name] = agreement(expected, vectors)
        results["runs"][name].append(asdict(run))
        yield name


def print_table(gallery: str, results: dict[str, Any], starts: dict[str, float]) -> None:
    print(f"\n{results['photos']} {gallery} photos, load average {median(results['load_average']):.1f}\n")
    columns = ("images/s", "images per processor second", "without start", "start, processor s", "peak, GB")
    print(f"| | {' | '.join(columns)} | clock over hdml's | processor time over hdml's |\n|{'---|' * (len(columns) + 3)}")
    runs = {of: [Run(**run) for run in those] for of, those in results["runs"].items()}
    for of, those in runs.items():
        print(row(of, results["photos"], those, runs["hdml index"], starts[of]))
    for of, about in results["cosine_with_hdml"].items():
        print(f"{of}: {', '.join(f'{what} {value:.4f}' for what, value in about.items())}")


if __name__ == "__main__":
    main()
