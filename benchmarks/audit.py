"""What ``hdml audit`` and its peers find of planted faults: precision and recall of each kind over several sets.

    python benchmarks/audit.py [--seeds 4181 4182 ...] [--weights FILE] [--peer NAME=PYTHON ...] [--json FILE]

A set is drawn as the built-in one is and faults are planted in it, both by its seed (planted_faults.py). The encoder is a
ResNet-18 at 64 px that has not been trained on it, with the weights of FILE or with random ones. A peer is cleanvision,
imagededup, cleanlab or fiftyone, with the Python that it is installed for (benchmarks/peers/ says which versions); those that
take embeddings get the same ones. Of duplicates a pair is found when a tool puts both photos together. Precision of a kind counts
as false every pair that was not planted at all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from planted_faults import Planted, plant

from indexing.catalogue import Catalogue

HDML = Path(sys.executable).with_name("hdml")
PEERS = Path(__file__).with_name("peers") / "audit_peers.py"
SEEDS = (4181, 4182, 4183, 4184, 4185)  # none that a limit was set with
KINDS = ("exact", "re-encoded", "mirrored", "cropped")


def main() -> None:
    parser = argparse.ArgumentParser(description="hdml audit and its peers on planted faults.")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="one set each")
    parser.add_argument("--weights", default="none", help="state dict of a ResNet-18 (default: random weights)")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--json", type=Path, help="write each set's figures into this file")
    options = parser.parse_args()
    peers = dict(peer.split("=", 1) for peer in options.peer)
    sets: dict[int, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as parent:
        encoder = ["--backbone", "resnet18", "--weights", options.weights, "--image-size", "64"]
        _run([HDML, "export", *encoder, "--workspace", parent])
        for seed in options.seeds:
            planted, found = _found(seed, Path(parent), peers)
            sets[seed] = {name: measure(told, planted) for name, told in found.items()}
            print(f"seed {seed}\n{table([sets[seed]])}", flush=True)
            if options.json:
                figures = {"weights": Path(options.weights).name, "seeds": sets}
                options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"mean ± standard deviation of {len(sets)} sets\n{table(list(sets.values()))}")


def _found(seed: int, workspace: Path, peers: dict[str, str]) -> tuple[Planted, dict[str, dict[str, Any]]]:
    """The faults that were planted in a set of its own, and what every tool finds."""
    gallery = workspace / f"butterflies-{seed}"
    planted = plant(gallery, seed)
    _run([HDML, "index", gallery, "--workspace", workspace])
    vectors = _vectors(workspace / "indexes" / gallery.name, workspace / "vectors.npz")
    found = {"hdml": _audited(gallery.name, workspace)}
    for name, python in peers.items():
        out, started = workspace / f"{name}.json", time.perf_counter()
        _run([python, PEERS, name, gallery, vectors, out])
        found[name] = {**json.loads(out.read_text(encoding="utf-8")), "seconds": round(time.perf_counter() - started, 1)}
    return planted, found


def measure(told: dict[str, Any], planted: Planted) -> dict[str, Any]:
    """Precision and recall of every kind that a tool tells, and the average precision of its rankings."""
    figures: dict[str, Any] = {name: told[name] for name in ("seconds", "unreadable", "small_classes") if name in told}
    if "pairs" in told:
        figures |= _of_pairs(told["pairs"], planted)
    for option, found in told.get("options", {}).items():
        figures[option] = measure(found, planted)
    for kind, truth in (("labels", set(planted.labels)), ("outliers", set(planted.outliers))):
        if kind in told:
            figures[kind] = _precision_and_recall(set(told[kind]), truth)
        if f"ranked_{kind}" in told:
            figures.setdefault(kind, {})["average_precision"] = _average_precision(told[f"ranked_{kind}"], truth)
    return figures


def _of_pairs(pairs: Iterable[Sequence[str]], planted: Planted) -> dict[str, Any]:
    found = {frozenset(pair) for pair in pairs}
    truth = {kind: {frozenset(pair) for pair in planted.copies[kind].items()} for kind in KINDS}
    false = found - set().union(*truth.values())
    figures = {kind: _precision_and_recall(found & truth[kind] | false, truth[kind]) for kind in KINDS}
    return {**figures, "false_pairs": len(false)}


def _precision_and_recall(found: set[Any], truth: set[Any]) -> dict[str, float | None]:
    right = len(found & truth)
    return {"precision": round(right / len(found), 4) if found else None, "recall": round(right / len(truth), 4)}


def _average_precision(ranked: Sequence[str], truth: set[str]) -> float:
    hits = np.array([path in truth for path in ranked])
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return round(float(precision[hits].sum() / len(truth)), 4)


def _audited(index: str, workspace: Path) -> dict[str, Any]:
    started = time.perf_counter()
    answer = json.loads(_run([HDML, "audit", index, "--workspace", workspace, "--json"]).splitlines()[-1])
    seconds = round(time.perf_counter() - started, 1)
    report = json.loads(Path(answer["report"]).with_suffix(".json").read_text(encoding="utf-8"))
    groups = [[group["keep"]["path"], *(copy["photo"]["path"] for copy in group["copies"])] for group in report["duplicates"]]
    return {
        "pairs": [(group[0], other) for group in groups for other in group[1:]],
        "labels": [error["photo"]["path"] for error in report["label_errors"]],
        "outliers": [outlier["photo"]["path"] for outlier in report["outliers"]],
        "unreadable": len(report["unreadable"]),
        "small_classes": report["small_classes"],
        "seconds": seconds,
    }


def _vectors(index: Path, path: Path) -> Path:
    with Catalogue(index) as catalogue:
        items = catalogue.items()
    paths, labels = (np.array([str(getattr(item, name)) for item in items]) for name in ("path", "label"))
    np.savez(path, paths=paths, labels=labels, vectors=np.stack([item.vector for item in items]))
    return path


def _run(command: Sequence[str | Path]) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" or command[0] == HDML}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def table(sets: list[dict[str, dict[str, Any]]]) -> str:
    """Precision / recall of each kind and tool, and the average precision where a tool ranks, over the sets."""
    tools = list(sets[0])
    rows = ["| | " + " | ".join(tools) + " |", "|---|" + "---|" * len(tools)]
    for kind in (*KINDS, "labels", "outliers"):
        cells = [_cell([figures[tool].get(kind, {}) for figures in sets]) for tool in tools]
        rows.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _cell(found: list[dict[str, float | None]]) -> str:
    """Mean ± standard deviation, the mean alone where all sets agree; a set where nothing is flagged has no precision."""
    means = {}
    for measured in ("precision", "recall", "average_precision"):
        values = [value for figures in found if (value := figures.get(measured)) is not None]
        if values:
            deviation = f" ± {statistics.stdev(values):.3f}" if len(set(values)) > 1 else ""
            means[measured] = f"{statistics.mean(values):.3f}{deviation}"
    told = f"{means['precision']} / {means['recall']}" if "precision" in means else "–"
    return told + (f" (AP {means['average_precision']})" if "average_precision" in means else "")


if __name__ == "__main__":
    main()
