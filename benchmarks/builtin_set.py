"""How far one gets on the built-in set without learning anything: thumbnails and colour histograms as embeddings.

    python -m benchmarks.builtin_set [--json]                          # the table in docs/built-in-set.md
    python -m benchmarks.builtin_set --sheet docs/images/butterflies.jpg   # the picture there

The set's species are sorted by name and halved. Each photo of the second half queries all the others of that half, as a trained
net is tested; what a net reaches there is printed by ``hdml train``.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hdml.butterflies import SEED, draw_photo, draw_species, write_butterflies

Array = NDArray[np.floating[Any]]


def thumbnail(photo: Image.Image, side: int) -> Array:
    """[side * side * 3] pixels of the photo scaled down, less their mean."""
    pixels = np.asarray(photo.resize((side, side), Image.Resampling.BOX), np.float32).ravel()
    centred: Array = pixels - pixels.mean()
    return centred


def histogram(photo: Image.Image, mode: str) -> Array:
    """[512] square roots of the shares of 8 × 8 × 8 colours, so that cosine is the Bhattacharyya coefficient."""
    bins = np.asarray(photo.convert(mode)).reshape(-1, 3) // 32
    counts = np.bincount(bins @ np.array([64, 8, 1]), minlength=512)
    roots: Array = np.sqrt(counts / counts.sum())
    return roots


BASELINES: dict[str, Callable[[Image.Image], Array]] = {
    "pixels, 16 × 16 RGB": lambda photo: thumbnail(photo, 16),
    "pixels, 32 × 32 RGB": lambda photo: thumbnail(photo, 32),
    "histogram, 8 × 8 × 8 RGB": lambda photo: histogram(photo, "RGB"),
    "histogram, 8 × 8 × 8 HSV": lambda photo: histogram(photo, "HSV"),
}


def recall_and_map(vectors: Array, labels: NDArray[np.intp]) -> tuple[float, float]:
    """R@1 and MAP@R by cosine, every vector a query to all the others; every label has equally many vectors."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    relevant = np.count_nonzero(labels == labels[0]) - 1
    nearest = np.argsort(-scores, axis=1)[:, :relevant]
    hits = labels[nearest] == labels[:, None]
    precision = np.cumsum(hits, axis=1) / np.arange(1, relevant + 1)
    return float(hits[:, 0].mean()), float((precision * hits).sum(axis=1).mean() / relevant)


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """R@1 and MAP@R of every baseline on the second half of the species in ``folder``."""
    species = sorted(path for path in folder.iterdir() if path.is_dir())
    unseen = species[len(species) // 2 :]
    files = [(label, path) for label, kind in enumerate(unseen) for path in sorted(kind.iterdir())]
    photos = [Image.open(path).convert("RGB") for _, path in files]
    labels = np.array([label for label, _ in files])
    results = {}
    for name, describe in BASELINES.items():
        recall, mean_precision = recall_and_map(np.stack([describe(photo) for photo in photos]), labels)
        results[name] = {"recall_at_1": round(recall, 4), "map_at_r": round(mean_precision, 4)}
    return results


def draw_sheet(path: Path, *, rows: int = 4, columns: int = 8, size: int = 192, gap: int = 4) -> None:
    """One photo of each of the first species; with eight columns each column shows one genus."""
    sheet = Image.new("RGB", (columns * (size + gap) - gap, rows * (size + gap) - gap), "white")
    for index, species in enumerate(draw_species(rows * columns, SEED)):
        photo = Image.open(io.BytesIO(draw_photo(species, size, np.random.default_rng((SEED, index, 0)))))
        sheet.paste(photo, (index % columns * (size + gap), index // columns * (size + gap)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=88, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Baselines without learning on the built-in set.")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--seed", type=int, default=SEED, help="of the set (default: the product's own)")
    parser.add_argument("--sheet", type=Path, help="only draw the contact sheet into this file")
    options = parser.parse_args()
    if options.sheet:
        draw_sheet(options.sheet)
        return
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "butterflies")
        write_butterflies(folder, seed=options.seed)
        results = measure(folder)
    if options.json:
        print(json.dumps({"seed": options.seed, "baselines": results}))
        return
    print(f"{'unseen half, seed ' + str(options.seed):28}    R@1  MAP@R")
    for name, result in results.items():
        print(f"{name:28}  {result['recall_at_1']:.3f}  {result['map_at_r']:.3f}")


if __name__ == "__main__":
    main()
