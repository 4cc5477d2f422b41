"""What ``hdml audit`` and its peers find of faults that were planted in the built-in set: precision and recall of each kind.

    python benchmarks/audit.py [--weights FILE] [--peer NAME=PYTHON ...] [--json FILE]

The set is drawn and faults are planted by a fixed seed (planted_faults.py). The encoder is a ResNet-18 at 64 px that has not been
trained on it, with the weights of FILE or with random ones. A peer is cleanvision, imagededup, cleanlab or fiftyone, with the
Python that it is installed for (benchmarks/peers/ says which versions); those that take embeddings get the same ones.
Of duplicates a pair is found when a tool puts both photos together. Precision of a kind counts as false every pair that was not
planted at all.
"""

import argparse
import json
import os
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
KINDS = ("exact", "re-encoded", "mirrored", "cropped")


def main() -> None:
    parser = argparse.ArgumentParser(description="hdml audit and its peers on planted faults.")
    parser.add_argument("--weights", default="none", help="state dict of a ResNet-18 (default: random weights)")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        gallery, workspace = Path(parent, "butterflies"), Path(parent, "workspace")
        planted = plant(gallery)
        place = ["--workspace", str(workspace)]
        _run([HDML, "export", "--backbone", "resnet18", "--weights", options.weights, "--image-size", "64", *place])
        _run([HDML, "index", gallery, *place])
        vectors = _vectors(workspace / "indexes" / gallery.name, Path(parent, "vectors.npz"))
        found = {}
        for name, python in (peer.split("=", 1) for peer in options.peer):
            out, started = Path(parent, f"{name}.json"), time.perf_counter()
            _run([python, PEERS, name, gallery, vectors, out])
            found[name] = {**json.loads(out.read_text(encoding="utf-8")), "seconds": round(time.perf_counter() - started, 1)}
        found = {"hdml": _audited(workspace), **found}
    tools = {name: measure(told, planted) for name, told in found.items()}
    print(table(tools))
    if options.json:
        figures = {"weights": Path(options.weights).name, "tools": tools}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(told: dict[str, Any], planted: Planted) -> dict[str, Any]:
    """Precision and recall of every kind that a tool tells, and the average precision of its rankings."""
    figures: dict[str, Any] = {name: told[name] for name in ("seconds", "unreadable", "small_classes") if name in told}
    if "pairs" in told:
        figures |= _of_pairs(told["pairs"], planted)
    for option, pairs in told.get("options", {}).items():
        figures[f"threshold {option}"] = _of_pairs(pairs, planted)
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


def _audited(workspace: Path) -> dict[str, Any]:
    started = time.perf_counter()
    answer = json.loads(_run([HDML, "audit", "--workspace", str(workspace), "--json"]).splitlines()[-1])
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


def table(tools: dict[str, dict[str, Any]]) -> str:
    """As docs/audit.md has it: precision / recall of each kind."""
    rows = ["| | " + " | ".join(tools) + " |", "|---|" + "---|" * len(tools)]
    for kind in (*KINDS, "labels", "outliers"):
        cells = []
        for figures in tools.values():
            found = figures.get(kind, {})
            told = f"{found['precision']:.3f} / {found['recall']:.3f}" if found.get("precision") is not None else "–"
            ranked = f" (AP {found['average_precision']:.3f})" if "average_precision" in found else ""
            cells.append(told + ranked)
        rows.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
