"""Whether torch.compile of the backbone pays: seconds until its first step is done, and what each step then gains.

    python benchmarks/compile.py [--backbones NAME ...] [--image-size N] [--pairs N] [--repetitions N] [--device cuda]
        [--json FILE]

A step is that of training with HDML, forward, backward and optimiser, on random images that are there already. Eager and compiled
steps take turns after the first steps of each, with nothing in the compiler's caches. Photos of another number or size would be
compiled again; a run has one of each in training.
"""

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from step_cost import Step, finish, machine, make_trainee, product_step, random_batch, ratios

_FIRST = 3  # steps, in which everything is compiled, torch's second thoughts included
_STEPS_IN_A_TURN = {"cpu": 1, "cuda": 5}


@dataclass(frozen=True)
class Cost:
    """Seconds: of each of the first steps, and of a step in every later turn."""

    backbone: str
    image_size: int
    pairs: int
    first: dict[str, list[float]]
    later: dict[str, list[float]]

    @property
    def pays_after(self) -> int | None:
        """Steps after which a run has been faster compiled, compiling included; None for never."""
        eager, compiled = (statistics.median(self.later[name]) for name in ("eager", "compiled"))
        if compiled >= eager:
            return None
        return math.ceil((sum(self.first["compiled"]) - _FIRST * compiled) / (eager - compiled))


def seconds_of(step: Step, times: int, device: torch.device) -> float:
    """Of one of several steps that are not waited for singly."""
    began = time.perf_counter()
    for _ in range(times):
        step()
    finish(device)
    return (time.perf_counter() - began) / times


def measure(backbone: str, *, image_size: int, pairs: int, repetitions: int, device: torch.device) -> Cost:
    """Take the first steps of both, eager before compiled, so that torch's own loading is not counted as compiling."""
    images, labels = random_batch(image_size=image_size, pairs=pairs, device=device)
    steps: dict[str, Step] = {}
    cost = Cost(backbone, image_size, pairs, first={}, later={"eager": [], "compiled": []})
    for name in cost.later:
        trainee = make_trainee(backbone, "hdml", image_size=image_size, pairs=pairs, device=device)
        if name == "compiled":
            trainee.model.backbone.compile()
        steps[name] = product_step(trainee, images, labels)
        cost.first[name] = [seconds_of(steps[name], 1, device) for _ in range(_FIRST)]
    for repetition in range(repetitions):
        for name in ("eager", "compiled") if repetition % 2 == 0 else ("compiled", "eager"):
            cost.later[name].append(seconds_of(steps[name], _STEPS_IN_A_TURN[device.type], device))
    return cost


def main() -> None:
    """Print one row per backbone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet18"])
    parser.add_argument("--image-size", type=int, default=64, help="side of the input in pixels")
    parser.add_argument("--pairs", type=int, default=32, help="N; the batch has twice as many photos")
    parser.add_argument("--repetitions", type=int, default=10, help="turns of each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    device = torch.device(options.device)
    costs: list[dict[str, Any]] = []
    print("| network, size, pairs | first compiled step, s | eager, ms | compiled, ms | compiled / eager | pays after, steps |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as caches:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = caches
        for backbone in options.backbones:
            torch.compiler.reset()
            cost = measure(
                backbone, image_size=options.image_size, pairs=options.pairs, repetitions=options.repetitions, device=device
            )
            eager, compiled = (f"{1000 * statistics.median(cost.later[name]):.1f}" for name in ("eager", "compiled"))
            name = f"{backbone}, {options.image_size} px, {options.pairs}"
            first, ratio = f"{cost.first['compiled'][0]:.1f}", ratios(cost.later["compiled"], cost.later["eager"])
            print(f"| {name} | {first} | {eager} | {compiled} | {ratio} | {cost.pays_after or 'never'} |", flush=True)
            costs.append({**asdict(cost), "pays_after": cost.pays_after})
    if options.json is not None:
        options.json.write_text(json.dumps({**machine(device), "costs": costs}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
