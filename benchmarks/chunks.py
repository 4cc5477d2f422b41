"""What ``--chunk`` saves and costs: memory and time of a training step with all photos at once, in halves, quarters, eighths.

    python benchmarks/chunks.py [--backbone NAME] [--image-size N] [--pairs N] [--repetitions N] [--device cuda] [--json FILE]

Steps of training with HDML, on random images that are there already, each size of chunk in a process of its own. On the CPU the
peak is that of the resident process, libraries included, and is given before the first step too; on a GPU it is that of torch's
tensors.
"""

import argparse
import json
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from compile import seconds_of
from step_cost import machine, make_trainee, product_step, random_batch

from hdml.device import peak_memory

PARTS = (1, 2, 4, 8)
_WARM_UP = 2


@dataclass(frozen=True)
class Cost:
    """Of one size of chunk; None is the whole batch.

    Attributes:
        start_bytes, peak_bytes: peak before the first step, with network and images there, and after the last.
        seconds: of each step.
    """

    chunk: int | None
    start_bytes: int
    peak_bytes: int
    seconds: list[float]


def measure(chunk: int | None, *, backbone: str, image_size: int, pairs: int, repetitions: int, device: torch.device) -> Cost:
    """Peak and time of a few steps; fresh processes alone have a peak of their own."""
    images, labels = random_batch(image_size=image_size, pairs=pairs, device=device)
    trainee = make_trainee(backbone, "hdml", image_size=image_size, pairs=pairs, device=device, chunk=chunk)
    step = product_step(trainee, images, labels)
    start = peak_memory(device) or 0
    seconds = [seconds_of(step, 1, device) for _ in range(_WARM_UP + repetitions)][_WARM_UP:]
    return Cost(chunk, start, peak_memory(device) or 0, seconds)


def main() -> None:
    """Print one row for each size of chunk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64, help="side of the input in pixels")
    parser.add_argument("--pairs", type=int, default=64, help="N; the batch has twice as many photos")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    device = torch.device(options.device)
    size: dict[str, Any] = {"backbone": options.backbone, "image_size": options.image_size, "pairs": options.pairs}
    photos = 2 * options.pairs
    costs: list[Cost] = []
    name = f"{options.backbone}, {options.image_size} px, {photos} photos"
    print(f"| {name}: chunk | peak, GB | before the first step, GB | ms: median (least–most) | time / none |")
    print("|---|---|---|---|---|")
    fresh = multiprocessing.get_context("spawn")
    for part in PARTS:
        chunk = None if part == 1 else -(-photos // part)
        with ProcessPoolExecutor(1, mp_context=fresh) as pool:
            cost = pool.submit(measure, chunk, **size, repetitions=options.repetitions, device=device).result()
        costs.append(cost)
        seconds = statistics.median(cost.seconds)
        memory = f"{cost.peak_bytes / 1e9:.2f} | {cost.start_bytes / 1e9:.2f}"
        ms = f"{1000 * seconds:.1f} ({1000 * min(cost.seconds):.1f}–{1000 * max(cost.seconds):.1f})"
        print(f"| {chunk or 'none'} | {memory} | {ms} | {seconds / statistics.median(costs[0].seconds):.2f} |", flush=True)
    if options.json is not None:
        figures = {**machine(device), **size, "costs": [asdict(cost) for cost in costs]}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
