"""Retrieval before and after training, several seeds, on any labelled folder: mean and standard deviation over the seeds.

The built-in set from random weights, as the demo trains it:

    python -m benchmarks.training

``--family 1`` is another family of butterflies, to develop on. Another folder and other weights; finished runs are read, not
repeated, and what is not an option here goes to ``hdml train``:

    python -m benchmarks.training photos/ --methods hdml plain --test-classes last:41 --weights resnet18.safetensors
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.demo import IMAGE_SIZE, STEPS
from hdml.butterflies import SEED, write_butterflies

Figures = dict[str, Any]  # as in the answers of ``hdml eval --json``
MEASURES: list[Callable[[Figures], float]] = [lambda figures: figures["recall_at_k"]["1"], lambda figures: figures["map_at_r"]]


def main() -> None:
    """Train once per method and seed, then print one row per method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, help="a labelled folder; the built-in set when left out")
    parser.add_argument("--family", type=int, default=SEED, help="seed of the butterflies; the product's own when left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=["hdml"], choices=["hdml", "plain"])
    parser.add_argument("--test-classes", default="half")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--image-size", type=int, default=IMAGE_SIZE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--workspace", type=Path, default=Path("workspace/benchmarks"))
    arguments, others = parser.parse_known_args()
    own = "butterflies" if arguments.family == SEED else f"butterflies-{arguments.family}"
    data = arguments.data or arguments.workspace / own
    if arguments.data is None:
        write_butterflies(data, seed=arguments.family)
    settings = ["--test-classes", arguments.test_classes, "--weights", arguments.weights]
    settings += ["--image-size", str(arguments.image_size), "--steps", str(arguments.steps), *others]
    print("| method | seeds | R@1 before | R@1 after | gain | MAP@R before | MAP@R after | gain |")
    print("|---|---|---|---|---|---|---|---|")
    for method in arguments.methods:
        results = [
            trained(data, arguments.workspace, [*settings, "--method", method, "--seed", str(seed)]) for seed in arguments.seeds
        ]
        cells = []
        for measure in MEASURES:
            before = [measure(result["before"]) for result in results]
            after = [measure(result["after"]) for result in results]
            gains = [b - a for a, b in zip(before, after, strict=True)]
            cells += [spread(before), spread(after), spread(gains)]
        print(f"| {method} | {len(results)} | {' | '.join(cells)} |", flush=True)


def trained(data: Path, workspace: Path, settings: list[str]) -> dict[str, Figures]:
    """What ``hdml train --json`` answers under these settings, from the file that an earlier call has left if there is one."""
    name = "-".join([data.name, *(Path(word).stem.lstrip("-") for word in settings)]).replace(":", "")
    answer = workspace / f"{name}.json"
    if not answer.exists():
        hdml = Path(sys.executable).with_name("hdml")
        run = workspace / "runs" / name
        going_on = ["--resume"] if run.exists() else [str(data), *settings]
        command = [str(hdml), "train", *going_on, "--run", name, "--workspace", str(workspace), "--json"]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        answer.write_text(told.splitlines()[-1])
    found: dict[str, Figures] = json.loads(answer.read_text())
    return found


def spread(values: list[float]) -> str:
    """Mean ± standard deviation over the seeds, in points."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


if __name__ == "__main__":
    main()
