"""Do scores mean what they are said to mean? Classes are left out of an index whole, and its verdicts on their photos counted.

    python -m benchmarks.calibration --encoder ENCODER.onnx                      # the built-in set
    python -m benchmarks.calibration --encoder ENCODER.onnx --data photos/       # the tables in docs/scores.md
    python -m benchmarks.calibration --run workspace/runs/NAME --data photos/    # only classes that the run did not learn from

Half of the classes, drawn anew for each split, are indexed but for every fifth of their photos. These are the photos of present
things; all photos of the other half are those of absent things. Thresholds are made as the product makes them, from the indexed
photos alone: once by their labels, once with these hidden.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexing.calibration import Calibration, Uncalibrated, calibrate_vectors
from indexing.encoder import ENCODER
from indexing.gallery import walk_gallery
from indexing.indexer import embed_files
from indexing.vectors import Vectors

Array = NDArray[np.floating[Any]]
_WITHHELD = 0.2
_MEASURES = {
    "false_matches": "absent: match",
    "rejected": "absent: no match",
    "matched": "present: match",
    "missed": "present: no match",
}


def embed(folder: Path, encoder: Path, classes: set[str] | None) -> tuple[Array, NDArray[np.int64]]:
    """Vectors [n, D] and class numbers [n] of the photos of a folder, or of some of its classes."""
    photos = sorted(photo.path for photo in walk_gallery(folder) if photo.label and (classes is None or photo.label in classes))
    found = [photo for photo in embed_files(encoder, (folder / path for path in photos)) if photo.vector is not None]
    names = [photo.path.relative_to(folder).parts[0] for photo in found]
    return np.stack([photo.vector for photo in found if photo.vector is not None]), np.unique(names, return_inverse=True)[1]


def as_vectors(vectors: Array) -> Vectors:
    """Vectors as a catalogue gives them, with their rows as ids."""

    def pages() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for start in range(0, len(vectors), 4096):
            page = vectors[start : start + 4096]
            yield np.arange(start, start + len(page)), page

    return Vectors(0, vectors.shape[1], len(vectors), pages, lambda wanted: (wanted, vectors[wanted]))


def one_split(vectors: Array, classes: NDArray[np.int64], seed: int, asked: float) -> dict[str, dict[str, float]]:
    """What came of one draw of absent classes and withheld photos, by the basis of the thresholds."""
    random = np.random.default_rng(seed)
    count = int(classes.max()) + 1
    indexed = np.isin(classes, random.permutation(count)[: count // 2])
    withheld = indexed & (random.random(len(classes)) < _WITHHELD)
    gallery = indexed & ~withheld
    best_absent = (vectors[~indexed] @ vectors[gallery].T).max(1)
    scores = vectors[withheld] @ vectors[gallery].T
    best_present = np.where(classes[withheld][:, None] == classes[gallery], scores, -np.inf).max(1)
    labels, hidden = classes[gallery], np.full(gallery.sum(), -1)
    rows = {}
    for basis, numbers in (("labels", labels), ("self-consistency", hidden)):
        made = calibrate_vectors(as_vectors(vectors[gallery]), np.arange(len(numbers)), numbers, asked=asked, seed=seed)
        if isinstance(made, Uncalibrated):
            raise SystemExit(f"no thresholds: {made.reason}")
        rows[basis] = _verdicts(made, best_absent, best_present)
    return rows


def _verdicts(made: Calibration, absent: Array, present: Array) -> dict[str, float]:
    return {
        "rate": made.rate,
        "false_matches": float(np.mean(absent >= made.match)),
        "rejected": float(np.mean(absent < made.unsure)),
        "matched": float(np.mean(present >= made.match)),
        "missed": float(np.mean(present < made.unsure)),
    }


def measure(vectors: Array, classes: NDArray[np.int64], splits: int, asked: float) -> dict[str, dict[str, list[float]]]:
    """What came of every split, by basis and measure."""
    found = [one_split(vectors, classes, seed, asked) for seed in range(splits)]
    return {
        basis: {name: [split[basis][name] for split in found] for name in ("rate", *_MEASURES)}
        for basis in ("labels", "self-consistency")
    }


def _unseen(run: Path) -> set[str]:
    """Names of the classes that a run was tested on."""
    return set(json.loads((run / "run.json").read_text(encoding="utf-8"))["classes"]["test"])


def main() -> None:
    parser = argparse.ArgumentParser(description="What verdicts come to on classes that an index does not hold.")
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--encoder", type=Path, help="an encoder, for all classes")
    chosen.add_argument("--run", type=Path, help="a run's folder: its encoder, for its test classes")
    parser.add_argument("--data", type=Path, help="folder with a sub-folder per class (default: the built-in set)")
    parser.add_argument("--splits", type=int, default=20, help="draws of absent classes (default 20)")
    parser.add_argument("--false-matches", type=float, default=0.01, help="share that is asked for (default 0.01)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, every split in it, instead of a table")
    options = parser.parse_args()
    encoder, classes = (options.encoder, None) if options.run is None else (options.run / ENCODER, _unseen(options.run))
    with tempfile.TemporaryDirectory() as parent:
        folder = options.data
        if folder is None:
            from hdml.butterflies import write_butterflies

            folder = Path(parent, "butterflies")
            write_butterflies(folder)
        vectors, numbers = embed(folder, encoder, classes)
    found = measure(vectors, numbers, options.splits, options.false_matches)
    about = {"photos": len(vectors), "classes": int(numbers.max()) + 1, "splits": options.splits, "asked": options.false_matches}
    if options.json:
        print(json.dumps({**about, "found": found}))
        return
    print(", ".join(f"{name} {value:g}" for name, value in about.items()))
    print(f"{'':20}" + "".join(f"{words:>20}" for words in _MEASURES.values()))
    for basis, columns in found.items():
        cells = [
            f"{100 * statistics.fmean(columns[name]):.1f} ± {100 * statistics.stdev(columns[name]):.1f}" for name in _MEASURES
        ]
        print(f"{basis:20}" + "".join(f"{cell:>20}" for cell in cells))
    rates = [value for columns in found.values() for value in columns["rate"]]
    print(f"thresholds are for {100 * min(rates):.2g} to {100 * max(rates):.2g} %")


if __name__ == "__main__":
    main()
