"""How two models of one index differ, measured on some of its own items: whose neighbours they find, and with whose labels."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexing.catalogue import Catalogue
from indexing.intervals import Z, wilson
from indexing.models import Model

NEIGHBOURS = 10
_SAMPLE = 1000


@dataclass(frozen=True)
class Measure:
    """A mean over queries, which count as independent, and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Precision:
    """Share of the nearest with the query's label, by either model, and how much more it is by the new one."""

    old: Measure
    new: Measure
    difference: Measure


@dataclass(frozen=True)
class Agreement:
    """What comparing two models came to.

    Attributes:
        sampled: items that every other one was compared with.
        neighbours: share of the ten nearest, the query itself left out, that both models find; None with fewer than two items.
        labelled: items of the sample that have a label, and not alone.
        precision_at_1, precision_at_10: of these; None when there are none.
    """

    sampled: int
    neighbours: Measure | None
    labelled: int
    precision_at_1: Precision | None
    precision_at_10: Precision | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_models(catalogue: Catalogue, old: Model, new: Model, *, sample: int = _SAMPLE, seed: int = 0) -> Agreement:
    """Compare two models on a sample of the searchable items that have a vector of both, all of which are searched exactly.

    Memory is bounded by the sample and a page of vectors.
    """
    ids = catalogue.having(old, new)
    if len(ids) < 2:
        return Agreement(0, None, 0, None, None)
    chosen = np.sort(np.random.default_rng(seed).choice(ids, min(sample, len(ids)), replace=False))
    found = {model: _nearest(catalogue, model, ids, chosen) for model in (old, new)}
    pairs = list(zip(found[old], found[new], strict=True))
    common = _share([len(np.intersect1d(one, other)) / len(one) for one, other in pairs])
    known = catalogue.known(np.unique(np.concatenate([chosen, *found[old], *found[new]])).tolist())
    shared = {label for label, count in catalogue.labels().items() if count > 1}
    labels = {item_id: label for item_id, (_, label, *_) in known.items()}
    asking = [row for row, item_id in enumerate(chosen.tolist()) if labels[item_id] in shared]

    def precision(k: int) -> Precision | None:
        if not asking:
            return None
        shares = {
            model: np.array([np.mean([labels[n] == labels[int(chosen[row])] for n in rows[row][:k].tolist()]) for row in asking])
            for model, rows in found.items()
        }
        return Precision(_share(shares[old]), _share(shares[new]), _mean(shares[new] - shares[old]))

    return Agreement(len(chosen), common, len(asking), precision(1), precision(NEIGHBOURS))


def _nearest(catalogue: Catalogue, model: Model, ids: NDArray[np.int64], chosen: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Ids of the ten nearest, among some items, of each of those that were chosen of them, best first."""
    import faiss as typed

    faiss: Any = typed  # its stubs lack what is needed here
    with catalogue.vectors(model) as vectors:
        queries = np.concatenate([page[np.isin(page_ids, chosen)] for page_ids, page in vectors.pages()])
        best_ids = np.empty((len(chosen), 0), np.int64)
        best = np.empty((len(chosen), 0), np.float32)
        for page_ids, page in vectors.pages():
            kept = np.isin(page_ids, ids)
            if not kept.any():
                continue
            scores, rows = faiss.knn(queries, page[kept], min(NEIGHBOURS + 1, int(kept.sum())), metric=faiss.METRIC_INNER_PRODUCT)
            best_ids, best = np.hstack([best_ids, page_ids[kept][rows]]), np.hstack([best, scores])
            order = np.lexsort((best_ids, -best), axis=-1)[:, : NEIGHBOURS + 1]
            best_ids, best = np.take_along_axis(best_ids, order, 1), np.take_along_axis(best, order, 1)
    return [row[row != own][:NEIGHBOURS] for row, own in zip(best_ids, chosen, strict=True)]


def _share(values: Sequence[float] | NDArray[np.float64]) -> Measure:
    """The mean of values in 0..1 with Wilson's interval, which is one at its ends too.

    It takes them for yes and no; of values in between, which vary less, it is wider than it had to be.
    """
    mean = float(np.mean(values))
    return Measure(mean, *wilson(mean, len(values)))


def _mean(values: NDArray[np.float64]) -> Measure:
    mean, half = float(values.mean()), Z * float(values.std()) / math.sqrt(len(values))
    return Measure(mean, mean - half, mean + half)
