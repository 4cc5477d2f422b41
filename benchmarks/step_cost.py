"""What HDML costs: a whole step of training with it, with the plain N-pair loss, and in a bare loop; and what waits for photos.

    python benchmarks/step_cost.py [--backbones NAME ...] [--image-size N] [--pairs N] [--repetitions N] [--steps N]
        [--device cuda] [--json FILE]

A step is forward, backward and optimiser of the whole network, on random images that are there already; HDML makes all N(N − 1)
synthetic negatives of N pairs. The bare loop is what one writes without this product: torchvision's network with a linear
embedding, the same photos and precision, the N-pair loss, AdamW. The three take turns, in every order, so that whatever else the
machine does meets all of them. On a GPU a turn is several steps, so that the next one is launched while the last one is
computed, as in training. The defaults, ResNet-18 at 64 px with 32 pairs, suit a machine of two cores; the targets are at most
1.15 of the plain step with ResNet-50 at 224 px and 64 pairs, and on a GPU at least 0.9 of the bare loop's throughput at 227 px.

The share of time spent waiting for photos is that of a real run on the built-in set, as its record tells.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

from hdml.budget import timed_trainee
from hdml.butterflies import write_butterflies
from hdml.config import TrainConfig
from hdml.device import peak_memory
from hdml.fit import finish_run, plan_run
from hdml.trainee import Trainee, choose_autocast, step_losses, update
from hdml.watcher import Silent

CONTENDERS = ("bare", "plain", "hdml")
ORDERS = tuple(permutations(CONTENDERS))
DIMENSION = 128
_WARM_UP = {"cpu": 1, "cuda": 10}  # steps
_STEPS_IN_A_TURN = {"cpu": 1, "cuda": 5}

Step = Callable[[], None]


@dataclass(frozen=True)
class Cost:
    """What each contender took.

    Attributes:
        wall, processor: seconds of a step in every turn, of the clock and of the processor.
        memory: most bytes on the GPU, weights, gradients and optimiser included; empty on the CPU, where all share one peak.
    """

    backbone: str
    image_size: int
    pairs: int
    wall: dict[str, list[float]]
    processor: dict[str, list[float]]
    memory: dict[str, int]


def make_trainee(
    backbone: str, method: str, *, image_size: int, pairs: int, device: torch.device, chunk: int | None = None
) -> Trainee:
    config = TrainConfig(
        backbone=backbone,
        weights="none",
        image_size=image_size,
        method=method,
        loss="npair",
        test_classes="none",
        steps=1,
        classes_per_batch=pairs,
        dimension=DIMENSION,
        chunk=chunk,
    )
    return timed_trainee(config, device)


def random_batch(*, image_size: int, pairs: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images [2N, 3, H, W] on the device and labels [2N] on the CPU, as in a run; photo N + i is the positive of photo i."""
    images = torch.randn(2 * pairs, 3, image_size, image_size).to(device, memory_format=torch.channels_last)
    return images, torch.arange(pairs).repeat(2)


def product_step(trainee: Trainee, images: Tensor, labels: Tensor) -> Step:
    """A step of the product's own loop."""
    autocast = choose_autocast(images.device)

    def step() -> None:
        update(trainee, step_losses(trainee, images, labels, autocast=autocast))

    return step


def bare_step(backbone: str, images: Tensor) -> Step:
    """A step as one would write it by hand, without this product; no loss is read and no gradient checked."""
    device, pairs = images.device, len(images) // 2
    options = {"aux_logits": False, "init_weights": False} if backbone in ("googlenet", "inception_v3") else {}
    network = torchvision.models.get_model(backbone, weights=None, num_classes=DIMENSION, **options)
    network.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    autocast, own = choose_autocast(device), torch.arange(pairs, device=device)

    def step() -> None:
        with autocast:
            embeddings = network(images)
        anchors, positives = embeddings.float().chunk(2)
        loss = F.cross_entropy(anchors @ positives.T, own)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def finish(device: torch.device) -> None:
    """Wait for what has been launched."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(backbone: str, *, image_size: int, pairs: int, repetitions: int, device: torch.device) -> Cost:
    """Time all contenders in turn, after a few steps of each to warm up."""
    images, labels = random_batch(image_size=image_size, pairs=pairs, device=device)
    steps: dict[str, Step] = {}
    memory: dict[str, int] = {}
    for name in CONTENDERS:
        before = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
        if name == "bare":
            steps[name] = bare_step(backbone, images)
        else:
            trainee = make_trainee(backbone, name, image_size=image_size, pairs=pairs, device=device)
            steps[name] = product_step(trainee, images, labels)
        for _ in range(_WARM_UP[device.type]):
            steps[name]()
        finish(device)
        if device.type == "cuda":
            memory[name] = (peak_memory(device) or 0) - before  # what the others keep, and the images, is not its own
    wall: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    processor: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    in_a_turn = _STEPS_IN_A_TURN[device.type]
    for repetition in range(repetitions):
        for name in ORDERS[repetition % len(ORDERS)]:
            began, began_processor = time.perf_counter(), time.process_time()
            for _ in range(in_a_turn):
                steps[name]()
            finish(device)
            wall[name].append((time.perf_counter() - began) / in_a_turn)
            processor[name].append((time.process_time() - began_processor) / in_a_turn)
    return Cost(backbone, image_size, pairs, wall, processor, memory)


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


def ratios(over: list[float], under: list[float]) -> str:
    """Median, and the least and the most, of each turn's quotient."""
    each = [a / b for a, b in zip(over, under, strict=True)]
    return f"{statistics.median(each):.3f} ({min(each):.3f}–{max(each):.3f})"


def rows(cost: Cost) -> list[str]:
    """One row of the table for each contender."""
    table = []
    for name in CONTENDERS:
        seconds = statistics.median(cost.wall[name])
        cells = [
            f"{cost.backbone}, {cost.image_size} px, {cost.pairs}",
            name,
            f"{1000 * seconds:.1f}",
            f"{2 * cost.pairs / seconds:.0f}",
            ratios(cost.wall["bare"], cost.wall[name]),
            ratios(cost.wall[name], cost.wall["plain"]),
            ratios(cost.processor[name], cost.processor["plain"]),
            f"{cost.memory[name] / 1e9:.2f}" if name in cost.memory else "–",
        ]
        table.append(f"| {' | '.join(cells)} |")
    return table


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": name, "torch": torch.__version__, "threads": torch.get_num_threads()}


def main() -> None:
    """Print three rows per backbone, and the share of waiting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet18"])
    parser.add_argument("--image-size", type=int, default=64, help="side of the input in pixels")
    parser.add_argument("--pairs", type=int, default=32, help="N; the batch has twice as many photos")
    parser.add_argument("--repetitions", type=int, default=6, help="turns of each; six go through all orders once")
    parser.add_argument("--steps", type=int, default=20, help="of the real run, with the first backbone; 0 leaves it out")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    device = torch.device(options.device)
    size: dict[str, Any] = {"image_size": options.image_size, "pairs": options.pairs, "device": device}
    costs: list[dict[str, Any]] = []
    print(
        "| network, size, pairs | step | ms | images/s | throughput / bare | time / plain | processor / plain | GPU memory, GB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for backbone in options.backbones:
        cost = measure(backbone, repetitions=options.repetitions, **size)
        print(*rows(cost), sep="\n", flush=True)
        costs.append(asdict(cost))
    figures: dict[str, Any] = {**machine(device), "costs": costs}
    if options.steps:
        waited = waited_share(options.backbones[0], steps=options.steps, **size)
        print(f"Waited for photos: {100 * waited:.1f} % of {options.steps} steps of {options.backbones[0]}.")
        figures |= {"waited": waited, "steps": options.steps}
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
