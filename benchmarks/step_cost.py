"""What HDML costs: a whole step of training with it against the same step with the plain N-pair loss, and what waits for photos.

    python benchmarks/step_cost.py [--backbones NAME ...] [--image-size N] [--pairs N] [--repetitions N] [--json FILE]

A step is forward, backward and optimiser of the whole network, on random images that are there already; HDML makes all N(N − 1)
synthetic negatives of N pairs. The two take turns, and which of them comes first does too, so that whatever else the machine
does meets both. The defaults, ResNet-18 at 64 px with 32 pairs, suit a machine of two cores; the target is a ratio of at most
1.15 with ResNet-50 at 224 px and 64 pairs.

The share of time spent waiting for photos is that of a real run on the built-in set, as its record tells.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from hdml.budget import timed_trainee
from hdml.butterflies import write_butterflies
from hdml.fit import finish_run, plan_run
from hdml.train import TrainConfig, Trainee, choose_autocast, step_losses, update
from hdml.watcher import Silent

METHODS = ("plain", "hdml")


@dataclass(frozen=True)
class Cost:
    """Seconds of every repetition, by method: of the clock, and of the processor."""

    backbone: str
    image_size: int
    pairs: int
    wall: dict[str, list[float]]
    processor: dict[str, list[float]]


def make_trainee(backbone: str, method: str, *, image_size: int, pairs: int, device: torch.device) -> Trainee:
    config = TrainConfig(
        backbone=backbone,
        weights="none",
        image_size=image_size,
        method=method,
        loss="npair",
        test_classes="none",
        steps=1,
        classes_per_batch=pairs,
    )
    return timed_trainee(config, device)


def measure(backbone: str, *, image_size: int, pairs: int, repetitions: int, device: torch.device) -> Cost:
    """Time both methods in turn, after one step of each to warm up."""
    trainees = {method: make_trainee(backbone, method, image_size=image_size, pairs=pairs, device=device) for method in METHODS}
    images = torch.randn(2 * pairs, 3, image_size, image_size).to(device, memory_format=torch.channels_last)
    labels = torch.arange(pairs, device=device).repeat(2)
    cost = Cost(backbone, image_size, pairs, {method: [] for method in METHODS}, {method: [] for method in METHODS})
    for repetition in range(-1, repetitions):
        for method in METHODS if repetition % 2 == 0 else METHODS[::-1]:
            began, began_processor = time.perf_counter(), time.process_time()
            update(trainees[method], step_losses(trainees[method], images, labels, autocast=choose_autocast(device)))
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repetition >= 0:
                cost.wall[method].append(time.perf_counter() - began)
                cost.processor[method].append(time.process_time() - began_processor)
    return cost


def waited_share(backbone: str, *, image_size: int, pairs: int, steps: int, device: torch.device) -> float:
    """Share of a real run's training in which the network waited for photos."""
    with tempfile.TemporaryDirectory() as folder:
        photos, run = Path(folder) / "photos", Path(folder) / "run"
        write_butterflies(photos)
        plan_run(
            photos,
            run,
            watcher=Silent(),
            backbone=backbone,
            weights="none",
            image_size=image_size,
            steps=steps,
            classes_per_batch=pairs,
            evaluations=1,
        )
        return float(finish_run(run, device=device, watcher=Silent())["waited"])


def ratios(seconds: dict[str, list[float]]) -> str:
    """Median, and the least and the most, of each repetition's HDML step over its plain step."""
    each = [hdml / plain for plain, hdml in zip(*(seconds[method] for method in METHODS), strict=True)]
    return f"{statistics.median(each):.3f} ({min(each):.3f}–{max(each):.3f})"


def main() -> None:
    """Print one row per backbone, and the share of waiting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet18"])
    parser.add_argument("--image-size", type=int, default=64, help="side of the input in pixels")
    parser.add_argument("--pairs", type=int, default=32, help="N; the batch has twice as many photos")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of the real run, with the first backbone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    device = torch.device(options.device)
    size: dict[str, Any] = {"image_size": options.image_size, "pairs": options.pairs, "device": device}
    costs: list[dict[str, Any]] = []
    print("| backbone, size, pairs | plain, ms | HDML, ms | ratio of the clock | ratio of the processor |")
    print("|---|---|---|---|---|")
    for backbone in options.backbones:
        cost = measure(backbone, repetitions=options.repetitions, **size)
        plain, hdml = (1000 * statistics.median(cost.wall[method]) for method in METHODS)
        name = f"{backbone}, {options.image_size} px, {options.pairs}"
        print(f"| {name} | {plain:.0f} | {hdml:.0f} | {ratios(cost.wall)} | {ratios(cost.processor)} |", flush=True)
        costs.append(asdict(cost))
    waited = waited_share(options.backbones[0], steps=options.steps, **size)
    print(f"Waited for photos: {100 * waited:.1f} % of {options.steps} steps of {options.backbones[0]}.")
    if options.json is not None:
        figures = {"threads": torch.get_num_threads(), "costs": costs, "waited": waited, "steps": options.steps}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
