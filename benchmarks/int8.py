"""Images per second of float encoders against the int8 encoders made of them, onnxruntime alone.

    python benchmarks/int8.py [--backbones NAME ...] [--threads N] [--rounds N] [--json FILE]

Untrained backbones with random weights at 224 px, calibrated on drawn butterflies. Both encoders embed the same batch of 8 photos
in memory, in turn, in one process and on as many threads; nothing is decoded. Beside the speed stands the least cosine between
both embeddings of a photo. Torch takes part in the export alone, in a process of its own.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdml.butterflies import write_butterflies
from hdml.quantization import quantize_encoder
from indexing.device import has_vnni
from indexing.encoder import ENCODER, INT8_ENCODER, Encoder
from indexing.gallery import find_photos
from indexing.preprocess import evaluation_preprocessing, load_array

SIZE, BATCH = 224, 8
CALIBRATED = 4  # batches


def export(backbone: str, path: Path, photos: Sequence[Path]) -> None:
    import torch

    from hdml.export import export_encoder
    from hdml.model import EncoderNetwork
    from hdml.weights import load_backbone

    torch.manual_seed(0)
    network = EncoderNetwork(load_backbone(backbone, "none", image_size=SIZE), None)
    export_encoder(network, path, image_size=SIZE, backbone=backbone, training_data="none", photos=photos)


def make_encoders(backbone: str, folder: Path, photos: Sequence[Path]) -> tuple[Path, Path]:
    """The float encoder and the int8 one."""
    encoder, int8_encoder = folder / f"{backbone}-{ENCODER}", folder / f"{backbone}-{INT8_ENCODER}"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(export, backbone, encoder, photos[:BATCH]).result()
    quantize_encoder(encoder, int8_encoder, [images_of(photos[BATCH * n : BATCH * (n + 1)]) for n in range(CALIBRATED)])
    return encoder, int8_encoder


def images_of(photos: Sequence[Path]) -> NDArray[np.float32]:
    return np.stack([load_array(photo, evaluation_preprocessing(SIZE)) for photo in photos])


def measure(encoders: Sequence[Path], images: NDArray[np.float32], *, threads: int, rounds: int) -> dict[str, Any]:
    """Seconds on the clock and of the processor that a batch takes the float and the int8 encoder, in turn.

    Also the least cosine between their embeddings of a photo.
    """
    opened = dict(zip(("float", "int8"), (Encoder(path, device="cpu", threads=threads) for path in encoders), strict=True))
    vectors = [encoder.encode(images)[0] for encoder in opened.values()]  # also warms up
    found: dict[str, Any] = {clock: {name: [] for name in opened} for clock in ("seconds", "processor")}
    for _ in range(rounds):
        for name, encoder in opened.items():
            started, processor = time.perf_counter(), time.process_time()
            encoder.encode(images)
            found["seconds"][name].append(time.perf_counter() - started)
            found["processor"][name].append(time.process_time() - processor)
    return found | {"cosine": float((vectors[0] * vectors[1]).sum(1).min())}


def row(backbone: str, found: dict[str, Any]) -> str:
    speeds = [f"{BATCH / median(its):.1f} ({BATCH / max(its):.1f}–{BATCH / min(its):.1f})" for its in found["seconds"].values()]
    ratios = " | ".join(ratio_of(found[clock]["float"], found[clock]["int8"]) for clock in ("seconds", "processor"))
    return f"| {backbone} | {' | '.join(speeds)} | {ratios} | {found['cosine']:.4f} |"


def ratio_of(float32: Sequence[float], int8: Sequence[float]) -> str:
    """How many times as fast int8 is, by batches that are neighbours in time."""
    ratios = [slow / fast for slow, fast in zip(float32, int8, strict=True)]
    low, high = np.quantile(ratios, [0.25, 0.75])
    return f"{median(ratios):.2f} ({low:.2f}–{high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Images per second of float encoders against int8 ones.")
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "resnet50", "googlenet"], help="torchvision networks")
    parser.add_argument("--threads", type=int, default=1, help="onnxruntime's threads (default: 1)")
    parser.add_argument("--rounds", type=int, default=15, help="measured batches of each encoder (default: 15)")
    parser.add_argument("--json", type=Path, help="also write every batch's seconds to this file")
    options = parser.parse_args()
    results: dict[str, Any] = {"pixels": SIZE, "batch": BATCH, "threads": options.threads, "vnni": has_vnni(), "backbones": {}}
    print(f"This CPU {'has VNNI' if has_vnni() else 'does not tell of VNNI'}. {options.threads} thread(s), batches of {BATCH}.\n")
    print("| network | float, images/s: median (least–most) | int8 | int8 / float (middle half) | in processor time | cosine |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        gallery = Path(folder) / "butterflies"
        write_butterflies(gallery, species=BATCH, images=CALIBRATED + 1)
        photos = [gallery / path for path in find_photos(gallery)]
        checked = images_of(photos[-BATCH:])
        for backbone in options.backbones:
            encoders = make_encoders(backbone, Path(folder), photos)
            found = measure(encoders, checked, threads=options.threads, rounds=options.rounds)
            results["backbones"][backbone] = found
            print(row(backbone, found), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
