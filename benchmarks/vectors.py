"""Vectors for the large benchmarks: drawn from figures that were fitted to the embeddings of a trained model.

    python benchmarks/vectors.py                                  how well drawn vectors agree with the real ones
    python benchmarks/vectors.py --fit INDEX                      fit the figures anew, to an index of labelled photos
    python benchmarks/vectors.py --write FOLDER --items N         draw some, for hdml index --from-npy; --hard without clusters

A vector is a common mean, plus its family's centre, its cluster's, its shot's deviation from that and its own, made a unit.
Clusters are what labels are in the real index, families are labels that are alike, shots the near-duplicates within a label. The
variances of the clusters' centres along their principal axes, and those within the clusters along the same axes, are those of the
real embeddings; so are the sizes of the clusters and how much more one of them spreads than another. What cannot be read off is
searched for: the share of the centres' variance that families have in common and their mean size, the same of shots within a
cluster, and how much vectors differ in how far they are from their shot. Drawn vectors are to have the scores of the real ones'
1st, 10th and 100th neighbours, and as many of the nearest in the nearest lists. More vectors are more clusters, not larger ones.

The hard set has the same mean and the same variances in total, and no clusters.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import faiss as typed
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

faiss: Any = typed  # its stubs lack what is needed here
FIGURES = Path(__file__).with_suffix(".json")
PAGE = 8192
RANKS = (1, 10, 100)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
PROBES = (1, 2, 4, 8)
QUERIES = 1000
SHARES = {"50%": 0.5, "10%": 0.1, "1%": 0.01, "0.1%": 0.001}
VALUES = [*SHARES, "rest"]
CHANCES = [*SHARES.values(), 1 - sum(SHARES.values())]
SCHEMA = pa.schema([(name, pa.string()) for name in ("image_path", "label", "random", "group")])
_ROUNDS = 3
_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_SEARCHED: dict[str, tuple[Any, ...]] = {
    "family_share": _SHARES,
    "family_size": (2.0, 3.0, 4.0, 6.0, 8.0, 12.0),
    "shot_share": _SHARES,
    "shot_size": (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0),
    "own_log_std": (0.0, 0.15, 0.3, 0.45, 0.6, 0.75),
}


@dataclass(frozen=True)
class Figures:
    """What is known of real embeddings.

    Attributes:
        source: what they are of.
        items, clusters: their numbers.
        mean: [D] along the axes below.
        between, within: [D] variances of the clusters' centres along their principal axes, and of vectors around their centres
            along the same ones.
        size_log_mean, size_log_std: of the natural logarithms of the clusters' sizes.
        spread_log_std: of the logarithm of the clusters' standard deviations.
        family_share, family_size: share of the centres' variance that a family has in common, and its mean number of clusters.
        shot_share, shot_size: share of the variance within a cluster that a shot has in common, and its mean number of vectors.
        own_log_std: of the logarithm of how much a vector differs from its shot.
        neighbours: for each of RANKS, the QUANTILES of the score of the neighbour of that rank.
        found: share of the true ten nearest in the nearest 1, 2, 4 and 8 of √n lists.
    """

    source: str
    items: int
    clusters: int
    mean: list[float]
    between: list[float]
    within: list[float]
    size_log_mean: float
    size_log_std: float
    spread_log_std: float
    family_share: float
    family_size: float
    shot_share: float
    shot_size: float
    own_log_std: float
    neighbours: list[list[float]]
    found: list[float]


Page = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Unit vectors [n, D] and the numbers of their clusters [n]."""


def read_figures() -> Figures:
    return Figures(**json.loads(FIGURES.read_text(encoding="utf-8")))


def draw(figures: Figures, items: int, *, seed: int = 0, hard: bool = False) -> Iterator[Page]:
    """So many vectors, PAGE at a time; the same for the same seed. No cluster is in two pages."""
    first = 0
    for page, start in enumerate(range(0, items, PAGE)):
        random = np.random.default_rng((seed, page))
        vectors, clusters = (_draw_hard if hard else _draw_page)(figures, random)
        count = min(PAGE, items - start)
        yield vectors[:count], first + clusters[:count]
        first += int(clusters[-1]) + 1


def _draw_page(figures: Figures, random: np.random.Generator) -> Page:
    dimension = len(figures.mean)
    sizes = np.maximum(1, np.exp(random.normal(figures.size_log_mean, figures.size_log_std, PAGE))).astype(np.int64)
    clusters = np.repeat(np.arange(PAGE), sizes)[:PAGE]
    begins = np.diff(clusters, prepend=-1) > 0  # a shot ends with its cluster at the latest
    shots = np.cumsum(begins | (random.random(PAGE) < 1 / figures.shot_size)) - 1
    spread = np.exp(random.normal(-(figures.spread_log_std**2), figures.spread_log_std, PAGE))[clusters, None]
    own = np.exp(random.normal(-(figures.own_log_std**2), figures.own_log_std, (PAGE, 1)))
    count = clusters[-1] + 1
    families = np.cumsum(random.random(count) < 1 / figures.family_size)
    common = random.standard_normal((count + 1, dimension))[families] * np.sqrt(figures.family_share)
    centres = common + random.standard_normal((count, dimension)) * np.sqrt(1 - figures.family_share)
    shared = random.standard_normal((PAGE, dimension))[shots] * np.sqrt(figures.shot_share)
    alone = random.standard_normal((PAGE, dimension)) * np.sqrt(1 - figures.shot_share) * own
    return _units(
        figures.mean + centres[clusters] * np.sqrt(figures.between) + spread * np.sqrt(figures.within) * (shared + alone)
    ), clusters


def _draw_hard(figures: Figures, random: np.random.Generator) -> Page:
    total = np.add(figures.between, figures.within)
    return _units(figures.mean + random.standard_normal((PAGE, len(total))) * np.sqrt(total)), np.arange(PAGE)


def _units(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    units: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return units


def drawn(figures: Figures, items: int, *, seed: int = 0, hard: bool = False) -> NDArray[np.float32]:
    """[items, D], all in memory."""
    return np.concatenate([vectors for vectors, _ in draw(figures, items, seed=seed, hard=hard)])


def write_set(folder: Path, items: int, *, queries: int = QUERIES, seed: int = 0, hard: bool = False) -> None:
    """Draw a set into a folder in clip-retrieval's layout, and ``queries.npy``: vectors evenly spread that are left out of it.

    Their clusters are the labels. Two attributes have the values of SHARES for these shares of the items, or ``rest``: ``random``
    whatever the vector, ``group`` for all of a cluster.
    """
    figures, random = read_figures(), np.random.default_rng((seed, 1))
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    dimension, every = len(figures.mean), (items + queries) // queries
    target = np.lib.format.open_memmap(
        folder / "img_emb" / "img_emb_0.npy", mode="w+", dtype=np.float32, shape=(items, dimension)
    )
    left_out, done, start = [], 0, 0
    with parquet.ParquetWriter(folder / "metadata" / "metadata_0.parquet", SCHEMA) as writer:
        for vectors, clusters in draw(figures, items + queries, seed=seed, hard=hard):
            asked = (np.arange(start, start + len(vectors)) % every == 0) & (
                np.arange(start, start + len(vectors)) < queries * every
            )
            start += len(vectors)
            left_out.append(vectors[asked])
            vectors, clusters = vectors[~asked], clusters[~asked]
            target[done : done + len(vectors)] = vectors
            found, of_each = np.unique(clusters, return_inverse=True)
            columns = {
                "image_path": [f"{done + row:08}.jpg" for row in range(len(vectors))],
                "label": [f"cluster {cluster}" for cluster in clusters],
                "random": random.choice(VALUES, len(vectors), p=CHANCES),
                "group": random.choice(VALUES, len(found), p=CHANCES)[of_each],
            }
            writer.write_table(pa.table(columns, schema=SCHEMA))
            done += len(vectors)
    target.flush()
    np.save(folder / "queries.npy", np.concatenate(left_out))


def neighbours(vectors: NDArray[np.float32], sample: int = 1000) -> list[list[float]]:
    """For each of RANKS, the QUANTILES of the score of the neighbour of that rank, of some of the vectors."""
    queries = vectors[:: max(1, len(vectors) // sample)]
    scores, _ = faiss.knn(queries, vectors, max(RANKS) + 1, metric=faiss.METRIC_INNER_PRODUCT)
    return [[round(float(value), 4) for value in np.quantile(scores[:, rank], QUANTILES)] for rank in RANKS]


def found_in_lists(vectors: NDArray[np.float32], sample: int = 1000) -> list[float]:
    """Share of the true ten nearest, the query itself left out, in the nearest PROBES of √n lists."""
    queries = vectors[:: max(1, len(vectors) // sample)]
    _, truth = faiss.knn(queries, vectors, 11, metric=faiss.METRIC_INNER_PRODUCT)
    index = faiss.index_factory(vectors.shape[1], f"IVF{round(len(vectors) ** 0.5)},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    shares = []
    for nprobe in PROBES:
        index.nprobe = nprobe
        _, ids = index.search(queries, 11)
        hits = sum(len(set(wanted[1:]) & set(row)) for wanted, row in zip(truth.tolist(), ids.tolist(), strict=True))
        shares.append(round(hits / (10 * len(queries)), 4))
    return shares


def fit(vectors: NDArray[np.float32], labels: NDArray[Any], source: str) -> Figures:
    """Figures of real embeddings [n, D] with labels [n]."""
    _, numbers = np.unique(labels, return_inverse=True)
    sizes = np.bincount(numbers)
    centres = np.stack([vectors[numbers == number].mean(0) for number in range(len(sizes))])
    axes = np.linalg.eigh(np.cov(centres.T))[1][:, ::-1]
    rest = (vectors - centres[numbers]) @ axes
    within = (rest**2).sum(0) / (len(vectors) - len(sizes))
    # A mean of few vectors varies by what they vary as well.
    between = np.maximum(0, np.var(centres @ axes, axis=0, ddof=1) - within * np.mean(1 / sizes))
    spreads = np.array([np.sqrt((rest[numbers == number] ** 2).sum(1).mean()) for number in range(len(sizes))])
    figures = Figures(
        source=source,
        items=len(vectors),
        clusters=len(sizes),
        mean=_rounded(centres.mean(0) @ axes),
        between=_rounded(between),
        within=_rounded(within),
        size_log_mean=round(float(np.log(sizes).mean()), 4),
        size_log_std=round(float(np.log(sizes).std()), 4),
        spread_log_std=round(float(np.log(spreads).std()), 4),
        family_share=0.5,
        family_size=4.0,
        shot_share=0.5,
        shot_size=4.0,
        own_log_std=0.3,
        neighbours=neighbours(vectors),
        found=found_in_lists(vectors),
    )
    for _ in range(_ROUNDS):
        for name, values in _SEARCHED.items():
            figures = min((replace(figures, **{name: value}) for value in values), key=_distance)
    return figures


def _distance(figures: Figures) -> float:
    """How far drawn vectors are from the real ones, in the scores of neighbours and in what is found in lists."""
    vectors = drawn(figures, figures.items)
    of_scores = np.abs(np.subtract(neighbours(vectors), figures.neighbours)).mean()
    return float(of_scores + np.abs(np.subtract(found_in_lists(vectors), figures.found)).mean())


def _rounded(values: NDArray[Any]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def show(figures: Figures) -> None:
    """A table of the real embeddings, of as many drawn ones, and of the hard ones."""
    print(f"{figures.items} embeddings of {figures.source}, {figures.clusters} labels, and as many drawn\n")
    ranks = " | ".join(f"score of neighbour {rank}" for rank in RANKS)
    print(f"| vectors | {ranks} | of the ten nearest in {', '.join(map(str, PROBES))} lists |")
    print(f"|---|{'---|' * len(RANKS)}---|")
    rows: dict[str, tuple[list[list[float]], list[float]]] = {"real": (figures.neighbours, figures.found)}
    for name, hard in {"drawn": False, "hard": True}.items():
        vectors = drawn(figures, figures.items, seed=1, hard=hard)
        rows[name] = neighbours(vectors), found_in_lists(vectors)
    for name, (scores, found) in rows.items():
        cells = [" ".join(f"{score:.2f}" for score in quantiles) for quantiles in scores]
        print(f"| {name} | {' | '.join(cells)} | {' '.join(f'{share:.2f}' for share in found)} |")
    print(f"\nScores: quantiles {', '.join(f'{quantile:g}' for quantile in QUANTILES)}.")


def main() -> None:
    parser = argparse.ArgumentParser(description="Vectors that are like the embeddings of a trained model.")
    parser.add_argument("--fit", type=Path, help=f"fit {FIGURES.name} to an index of labelled photos, its folder")
    parser.add_argument("--source", default="labelled photos", help="what that index is of, in words")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="draw a set into a new folder, see write_set")
    parser.add_argument("--items", type=int, default=100_000, help="how many to draw (default: 100000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hard", action="store_true", help="without clusters")
    options = parser.parse_args()
    if options.fit is not None:
        from indexing.catalogue import Catalogue

        with Catalogue(options.fit) as catalogue:
            items = [item for item in catalogue.items() if item.label is not None]
        figures = fit(np.stack([item.vector for item in items]), np.array([item.label for item in items]), options.source)
        FIGURES.write_text(json.dumps(asdict(figures)) + "\n", encoding="utf-8")
    if options.write is None:
        show(read_figures())
        return
    write_set(options.write, options.items, seed=options.seed, hard=options.hard)


if __name__ == "__main__":
    main()
