"""The hardness lens over a large index: what its first look takes, the next ones, its maps and its survey.

    python benchmarks/lens.py [--items N] [--runs N] [--keep FOLDER] [--json FILE]

The vectors are those of ``vectors.py``, the synthesizer has the layers of a run on a resnet18, untrained: it takes as long as a
trained one. All is done in one process, without HTTP, as the server does it. The first of each kind is told by itself, since it
reads the index or makes a map; then the least of some more, from other anchors. Processor time is told beside that by the clock,
which other work on the machine lengthens. The share of the work that grows with the index is bounded where it can be: a map is of
2,000 photos, a survey of 256 anchors.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from served import HDML
from trials import write_small_encoder
from vectors import read_figures, write_set

from indexing.hardness import HardnessLens
from indexing.hardness_survey import survey
from indexing.search import OpenIndex

FEATURES = 512  # of a resnet18


def make_index(home: Path, items: int) -> Path:
    """An index of drawn vectors with an encoder and a synthesizer, unless it is there."""
    index_dir, encoder = home / "workspace" / "indexes" / "set", home / "encoder.onnx"
    if not index_dir.exists():
        write_set(home / "set", items)
        write_small_encoder(encoder, dimension=len(read_figures().mean))
        write_synthesizer(home / "synthesizer.onnx", np.load(home / "set" / "queries.npy"))
        command: list[str | Path] = [HDML, "index", "--from-npy", home / "set", "--encoder", encoder, "--kind", "exact"]
        subprocess.run([*command, "--workspace", home / "workspace"], check=True, stdout=sys.stderr)
    return index_dir


def write_synthesizer(path: Path, embeddings: Any) -> None:
    import torch

    from hdml.export import export_synthesizer
    from hdml.model import EmbeddingHead, FeatureGenerator

    torch.manual_seed(0)
    dimension = embeddings.shape[1]
    generator, head = FeatureGenerator(dimension, FEATURES), EmbeddingHead(FEATURES, dimension)
    about: dict[str, Any] = {"share": 0.4, "loss": "npair", "on_sphere": False, "fingerprint": f"{0:016x}"}
    export_synthesizer(generator, head, path, **about, embeddings=embeddings, norms=np.ones(len(embeddings), np.float32))


def timed(work: Callable[[int], Any], anchor: int) -> dict[str, float]:
    clock, processors = time.perf_counter(), time.process_time()
    work(anchor)
    return {"s": time.perf_counter() - clock, "processor_s": time.process_time() - processors}


def main() -> None:
    parser = argparse.ArgumentParser(description="What the hardness lens takes over a large index.")
    parser.add_argument("--items", type=int, default=100_000, help="vectors (default: 100000)")
    parser.add_argument("--runs", type=int, default=5, help="of each kind after the first (default: 5)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the set and the index are, or are to stay")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index_dir = make_index(options.keep or Path(folder), options.items)
        with OpenIndex(index_dir, device="cpu") as opened:
            figures = measure(opened, options.runs)
    figures = {"items": options.items, "runs": options.runs, **figures}
    print("| | first, s | of processors | next, s: least | of processors |\n|---|---|---|---|---|")
    for name, took in figures["took"].items():
        first, *rest = took
        least = [min(each[key] for each in rest) for key in ("s", "processor_s")]
        print(f"| {name} | {first['s']:.2f} | {first['processor_s']:.2f} | {least[0]:.3f} | {least[1]:.3f} |")
    print(f"peak memory: {figures['peak_bytes'] / 1e9:.2f} GB")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(opened: OpenIndex, runs: int) -> dict[str, Any]:
    counts = opened.catalogue.labels()
    labels = [label for label, count in counts.items() if count > 1]
    chosen = [labels[i * len(labels) // (runs + 1)] for i in range(runs + 1)]
    anchors = [opened.catalogue.photos(label, limit=1, offset=0)[0][0] for label in chosen]
    lens = HardnessLens(opened)
    kinds: dict[str, Callable[[int], Any]] = {
        "a look": lens.look,
        "the map": lambda _: lens.map(),
        "the survey": lambda _: survey(lens),
        "the t-SNE map": lambda _: lens.map("tsne"),
        "a look placed on it": lambda anchor: lens.look(anchor, kind="tsne"),
    }
    took = {name: [timed(work, anchor) for anchor in anchors] for name, work in kinds.items()}
    return {"labels": len(counts), "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "took": took}


if __name__ == "__main__":
    main()
