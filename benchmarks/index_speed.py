"""Images per second of ``hdml index`` against loops that only decode and infer, and against a DataLoader with eager torch.

    python benchmarks/index_speed.py [--photos FOLDER] [--small N] [--large N] [--backbone NAME] [--rounds N] [--json FILE]

Two galleries: the first photos of FOLDER by name (or drawn ones), and photos of 12 megapixels that it draws (4000 × 3000, about
3 MB each, with the grain of a camera's sensor). Five ways through each, in turn, every one in a process of its own:

- ``hdml index``: the command from its start to its end, with walking the folder, SQLite and the faiss file;
- one thread: decode and infer with the same encoder file in batches of 8, onnxruntime held to one thread; only the loop is timed;
- apart: on every core first all decoding, then all inference, each alone; only these two loops are timed, and their sum is the
  least that an arrangement of both on the same cores can take;
- DataLoader + eager: 2 worker processes that decode, the same network in torch in batches of 32; only the loop is timed;
- torchvision script: the same, but photos are opened with Pillow and go through torchvision's Resize, CenterCrop, ToTensor and
  Normalize, as its documentation has it: whole JPEGs are decoded.

The others decode with the product's ``load_array``, and their embeddings have to agree: what differs is the arrangement. Those
of the script, which resizes other pixels, have to point the same way, with a cosine of at least 0.98. Python's bytecode is cached
in a folder of the benchmark's own; a first, short ``hdml index`` fills it.
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
from queue import SimpleQueue
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hdml.butterflies import SEED, draw_photo, draw_species, write_butterflies
from indexing.catalogue import Catalogue
from indexing.device import available_cores
from indexing.encoder import ENCODER, Encoder, read_metadata
from indexing.gallery import find_photos
from indexing.preprocess import IMAGENET_MEAN, IMAGENET_STD, evaluation_preprocessing, load_array

HDML = Path(sys.executable).with_name("hdml")
SIZE = 224
TOLERANCE = 1e-4
LEAST_COSINE = 0.98  # of the script's
SCRIPT = "torchvision script"

Embedded = tuple[dict[str, float], NDArray[np.float32]]
"""Seconds, by the clock and of processors, and unit embeddings [n, D] in the order of the photos' paths."""


def photos_of(gallery: Path) -> list[Path]:
    return [gallery / path for path in find_photos(gallery)]


class Lap:
    """Seconds since it was made, by the clock and of the processors that this process and those it has waited for have used."""

    def __init__(self) -> None:
        self._started = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), sum(os.times()[:4])

    def seconds(self) -> dict[str, float]:
        clock, processors = (now - then for now, then in zip(self._now(), self._started, strict=True))
        return {"clock": clock, "processors": processors}


def hdml_index(gallery: Path, encoder: Path, workspaces: Path) -> Embedded:
    """The command as users start it, into a new workspace."""
    workspace = next(path for path in (workspaces / str(number) for number in count()) if not path.exists())
    command: list[str | Path] = [HDML, "index", gallery, "--encoder", encoder, "--device", "cpu", "--workspace", workspace]
    lap = Lap()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = lap.seconds()
    with Catalogue(workspace / "indexes" / gallery.name) as catalogue:
        return seconds, np.stack([catalogue.item_at(path.as_posix()).vector for path in find_photos(gallery)])


def one_thread(gallery: Path, encoder_file: Path) -> Embedded:
    encoder, photos = Encoder(encoder_file, device="cpu", threads=1), photos_of(gallery)
    lap = Lap()
    vectors = [
        encoder.encode(np.stack([load_array(photo, encoder.metadata.preprocessing) for photo in batch]))[0]
        for batch in batched(photos, 8)
    ]
    return lap.seconds(), np.concatenate(vectors)


def batched(photos: list[Any], size: int) -> list[list[Any]]:
    return [photos[start : start + size] for start in range(0, len(photos), size)]


def apart(gallery: Path, encoder_file: Path) -> Embedded:
    """Decoding and inference one after the other, each on every core: threads that share nothing, in batches of 8."""
    cores, photos = available_cores(), photos_of(gallery)
    idle: SimpleQueue[Encoder] = SimpleQueue()
    for _ in range(cores):
        idle.put(Encoder(encoder_file, device="cpu", threads=1))
    preprocessing = read_metadata(encoder_file).preprocessing

    def decode(batch: list[Path]) -> NDArray[np.float32]:
        return np.stack([load_array(photo, preprocessing) for photo in batch])

    def infer(images: NDArray[np.float32]) -> NDArray[np.float32]:
        encoder = idle.get()
        try:
            return encoder.encode(images)[0]
        finally:
            idle.put(encoder)

    with ThreadPoolExecutor(cores) as pool:
        lap = Lap()
        images = list(pool.map(decode, batched(photos, 8)))
        decoding = lap.seconds()
        vectors = list(pool.map(infer, images))
        both = lap.seconds()
    return both | {f"{of}, decoding": seconds for of, seconds in decoding.items()}, np.concatenate(vectors)


class PhotoDataset:
    """What a DataLoader asks for one by one: photos as [3, SIZE, SIZE] arrays or tensors."""

    def __init__(self, photos: list[Path], load: Callable[[Path], Any]) -> None:
        self.photos, self.load = photos, load

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, position: int) -> Any:
        return self.load(self.photos[position])


def eager(gallery: Path, backbone: str) -> Embedded:
    return through_dataloader(gallery, backbone, partial(load_array, preprocessing=evaluation_preprocessing(SIZE)))


def torchvision_script(gallery: Path, backbone: str) -> Embedded:
    from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

    steps = [open_whole, Resize(SIZE), CenterCrop(SIZE), ToTensor(), Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    return through_dataloader(gallery, backbone, Compose(steps))


def open_whole(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def through_dataloader(gallery: Path, backbone: str, load: Callable[[Path], Any]) -> Embedded:
    import torch
    from torch.utils.data import DataLoader

    network, photos = untrained(backbone), photos_of(gallery)
    # Workers are forked, as they are in a script of one process on Linux: to start them anew would take seconds of the loop.
    dataset: Any = PhotoDataset(photos, load)
    loader: Any = DataLoader(dataset, batch_size=32, num_workers=2, multiprocessing_context="fork")
    lap = Lap()
    with torch.inference_mode():
        vectors = [network(batch)[0].numpy() for batch in loader]
    return lap.seconds(), np.concatenate(vectors)


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


def measure(ways: dict[str, Callable[[], Embedded]], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Seconds of every round of every way, in turn; all must give the embeddings that the first one gave first."""
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    expected: NDArray[np.float32] | None = None
    for _ in range(rounds):
        for name, way in ways.items():
            took, vectors = way()
            seconds[name].append(took)
            expected = vectors if expected is None else expected
            difference, cosine = np.abs(vectors - expected).max(), (vectors * expected).sum(1).min()
            if not (cosine >= LEAST_COSINE if name == SCRIPT else difference <= TOLERANCE):
                raise SystemExit(
                    f"all must give the same embeddings, but those of {name} differ by {difference}, with a cosine of {cosine}"
                )
    return seconds


def row(gallery: str, photos: int, runs: dict[str, list[dict[str, float]]], of: str) -> str:
    """Images per second of each way, by the clock or in processor time, and the first one's over each other's."""
    seconds = [[run[of] for run in those] for those in runs.values()]
    cells = [f"{photos / median(those):.1f} ({photos / max(those):.1f}–{photos / min(those):.1f})" for those in seconds]
    product, *others = (median(those) for those in seconds)
    return f"| {gallery}, {of} | {' | '.join(cells)} | {' | '.join(f'{other / product:.2f}' for other in others)} |"


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
    print(
        "| photos | hdml index | one thread | apart | DataLoader + eager | torchvision script "
        "| index / one thread | index / apart | index / eager | index / script |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
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
                "apart": partial(in_own_process, apart, gallery, encoder),
                "DataLoader + eager": partial(in_own_process, eager, gallery, options.backbone),
                SCRIPT: partial(in_own_process, torchvision_script, gallery, options.backbone),
            }
            seconds = measure(ways, options.rounds)
            photos = len(photos_of(gallery))
            results[name] = {"photos": photos, "seconds": seconds}
            for of in ("clock", "processors"):
                print(row(f"{photos} {name}", photos, seconds, of), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
