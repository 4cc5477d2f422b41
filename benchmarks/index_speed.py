"""Images per second of ``hdml index`` against one thread that only decodes and infers, and against a DataLoader with eager torch.

    python benchmarks/index_speed.py [--photos FOLDER] [--small N] [--large N] [--backbone NAME] [--rounds N] [--json FILE]

Two galleries: the first photos of FOLDER by name (or drawn ones), and photos of 12 megapixels that it draws (4000 × 3000, about
3 MB each, with the grain of a camera's sensor). Three ways through each, in turn, every one in a process of its own:

- ``hdml index``: the command from its start to its end, with walking the folder, SQLite and the faiss file;
- one thread: decode and infer with the same encoder file in batches of 8, onnxruntime held to one thread; only the loop is timed;
- DataLoader + eager: 2 worker processes that decode, the same network in torch in batches of 32; only the loop is timed.

All three decode with the product's ``load_array``, and their embeddings have to agree: what differs is the arrangement. Python's
bytecode is cached in a folder of the benchmark's own; a first, short ``hdml index`` fills it.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hdml.butterflies import SEED, draw_photo, draw_species, write_butterflies
from indexing.catalogue import Catalogue
from indexing.encoder import ENCODER, Encoder
from indexing.gallery import find_photos
from indexing.preprocess import Preprocessing, evaluation_preprocessing, load_array

HDML = Path(sys.executable).with_name("hdml")
SIZE = 224
TOLERANCE = 1e-4

Embedded = tuple[float, NDArray[np.float32]]
"""Seconds, and unit embeddings [n, D] in the order of the photos' paths."""


def photos_of(gallery: Path) -> list[Path]:
    return [gallery / path for path in find_photos(gallery)]


def hdml_index(gallery: Path, encoder: Path, workspaces: Path) -> Embedded:
    """The command as users start it, into a new workspace."""
    workspace = next(path for path in (workspaces / str(number) for number in count()) if not path.exists())
    command: list[str | Path] = [HDML, "index", gallery, "--encoder", encoder, "--device", "cpu", "--workspace", workspace]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    with Catalogue(workspace / "indexes" / gallery.name) as catalogue:
        return seconds, np.stack([catalogue.item_at(path.as_posix()).vector for path in find_photos(gallery)])


def one_thread(gallery: Path, encoder_file: Path) -> Embedded:
    encoder, photos = Encoder(encoder_file, device="cpu", threads=1), photos_of(gallery)
    started = time.perf_counter()
    batches = [photos[start : start + 8] for start in range(0, len(photos), 8)]
    vectors = [
        encoder.encode(np.stack([load_array(photo, encoder.metadata.preprocessing) for photo in batch]))[0] for batch in batches
    ]
    return time.perf_counter() - started, np.concatenate(vectors)


class PhotoDataset:
    """What a DataLoader asks for one by one: photos as [3, SIZE, SIZE] arrays."""

    def __init__(self, photos: list[Path], preprocessing: Preprocessing) -> None:
        self.photos, self.preprocessing = photos, preprocessing

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, position: int) -> NDArray[np.float32]:
        return load_array(self.photos[position], self.preprocessing)


def eager(gallery: Path, backbone: str) -> Embedded:
    import torch
    from torch.utils.data import DataLoader

    network, photos = untrained(backbone), photos_of(gallery)
    loader: Any = DataLoader(PhotoDataset(photos, evaluation_preprocessing(SIZE)), batch_size=32, num_workers=2)  # type: ignore[arg-type]
    started = time.perf_counter()
    with torch.inference_mode():
        vectors = [network(batch)[0].numpy() for batch in loader]
    return time.perf_counter() - started, np.concatenate(vectors)


def untrained(backbone: str) -> Any:
    """The network of the encoder file, the same in every process."""
    import torch

    from hdml.model import EncoderNetwork
    from hdml.weights import load_backbone

    torch.manual_seed(0)
    return EncoderNetwork(load_backbone(backbone, "none", image_size=SIZE), None).eval()


def export(backbone: str, path: Path, photos: Sequence[Path]) -> None:
    from hdml.export import export_encoder

    export_encoder(untrained(backbone), path, image_size=SIZE, backbone=backbone, training_data="none", photos=photos)


def in_own_process(work: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def make_small(source: Path | None, gallery: Path, number: int) -> None:
    if source is None:
        write_butterflies(gallery, species=max(1, number // 20), images=20)
        return
    for path in find_photos(source)[:number]:
        (gallery / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, gallery / path)


def draw_large(gallery: Path, number: int) -> None:
    """A butterfly enlarged to 4000 × 3000 pixels under grain of its own."""
    gallery.mkdir()
    species = draw_species(number, SEED)
    grain = np.random.default_rng(SEED).normal(0, 5, (3000, 4000, 1)).astype(np.float32)

    def draw(position: int) -> None:
        rng = np.random.default_rng((SEED, position))
        small = Image.open(io.BytesIO(draw_photo(species[position], 768, rng)))
        pixels = np.asarray(small.resize((4000, 3000), Image.Resampling.BICUBIC, box=(0, 96, 768, 672)), np.float32)
        noisy = pixels + np.roll(grain, tuple(rng.integers(0, 3000, 2)), (0, 1))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(gallery / f"{position:03d}.jpg", quality=90)

    with ThreadPoolExecutor() as pool:
        list(pool.map(draw, range(number)))


def measure(ways: dict[str, Callable[[], Embedded]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round of every way, in turn; all must give the embeddings that the first one gave first."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    expected: NDArray[np.float32] | None = None
    for _ in range(rounds):
        for name, way in ways.items():
            took, vectors = way()
            seconds[name].append(took)
            expected = vectors if expected is None else expected
            if not (difference := np.abs(vectors - expected).max()) <= TOLERANCE:
                raise SystemExit(
                    f"all must give the same embeddings within {TOLERANCE:g}, but those of {name} differ by {difference}"
                )
    return seconds


def row(gallery: str, photos: int, seconds: dict[str, list[float]]) -> str:
    cells = [f"{photos / median(of):.1f} ({photos / max(of):.1f}–{photos / min(of):.1f})" for of in seconds.values()]
    product, *others = (median(of) for of in seconds.values())
    return f"| {gallery} | {' | '.join(cells)} | {' | '.join(f'{other / product:.2f}' for other in others)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="hdml index against plain loops over the same photos.")
    parser.add_argument("--photos", type=Path, help="take the small photos from this folder instead of drawing them")
    parser.add_argument("--small", type=int, default=200, help="number of small photos (default: 200; 20 at least)")
    parser.add_argument("--large", type=int, default=20, help="number of photos of 12 megapixels (default: 20, at most 160)")
    parser.add_argument("--backbone", default="resnet18", help="a torchvision network (default: resnet18)")
    parser.add_argument("--rounds", type=int, default=3, help="measured runs of each way (default: 3)")
    parser.add_argument("--json", type=Path, help="also write every run's seconds to this file")
    options = parser.parse_args()
    results: dict[str, Any] = {"backbone": options.backbone, "pixels": SIZE}
    print(f"Images per second, {options.backbone} at {SIZE} px: median (least–most) of {options.rounds} runs\n")
    print("| photos | hdml index | one thread | DataLoader + eager | index / one thread | index / eager |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["PYTHONPYCACHEPREFIX"] = str(home / "bytecode")  # for the processes that are started below
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        make_small(options.photos, home / "small", options.small)
        draw_large(home / "large", options.large)
        encoder = home / ENCODER
        in_own_process(export, options.backbone, encoder, photos_of(home / "small"))
        make_small(None, home / "warm-up", 20)
        hdml_index(home / "warm-up", encoder, home / "warm-up-workspaces")
        for name in ("small", "large"):
            gallery = home / name
            ways: dict[str, Callable[[], Embedded]] = {
                "hdml index": partial(hdml_index, gallery, encoder, home / f"{name}-workspaces"),
                "one thread": partial(in_own_process, one_thread, gallery, encoder),
                "DataLoader + eager": partial(in_own_process, eager, gallery, options.backbone),
            }
            seconds = measure(ways, options.rounds)
            photos = len(photos_of(gallery))
            results[name] = {"photos": photos, "seconds": seconds}
            print(row(f"{photos} {name}", photos, seconds), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
