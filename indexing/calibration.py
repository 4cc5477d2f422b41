"""What a score means: from which one on it says *same thing*, at a share of false matches that the user chooses.

A photo of something that the index does not hold still has a best score. How high that gets is measured with the gallery itself:
some of its photos are queries, and each one's own label is hidden from it, which makes it a photo of an absent thing (open-set
recognition; W. J. Scheirer et al., "Toward Open Set Recognition", TPAMI 35, 2013). The largest of many scores grows with their
number, hence each query is compared with the whole gallery. What the thresholds come to is told of labels that they were not
made from.

Without labels, groups of like photos stand in for them (spherical k-means); the argument is the same, but what holds for groups
need not hold for things.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from indexing.catalogue import Catalogue
from indexing.database import understood
from indexing.errors import HdmlError
from indexing.intervals import wilson
from indexing.kinds import sample_vectors
from indexing.vectors import Vectors

MATCH, UNSURE, NO_MATCH = "match", "unsure", "no match"
LABELS, SELF_CONSISTENCY = "labels", "self-consistency"
FALSE_MATCHES = 0.01
RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # of the curve of asked against achieved
_QUERIES = 2000
_LEAST_PHOTOS = 100
_LEAST_LABELS = 10
_LABELLED = 0.9  # least share; what has no label may be anything, and is compared with nothing
_FEW_GROUPS = 30  # below which a reader is warned
_FEW_BEYOND = 5  # queries expected beyond a threshold, below which a reader is warned
_FOLDS = 10
_TIGHTENED = np.linspace(1, 0.1, 19)  # shares of a rate that are tried until labels left out keep to it
_GROUPED = 30_000  # vectors that groups are found from
_ROUNDING = 1e-6  # scores that differ by less are equal
_BINS = 60


@dataclass(frozen=True)
class Share:
    """A share of queries and its 95 % interval."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """A rate of false matches to ask for, what is achieved, and the share of photos of present things that is matched."""

    asked: float
    achieved: Share
    matched: float | None


@dataclass(frozen=True)
class Check:
    """What thresholds do to queries of labels that they were not made from: those from either half of the labels to the other's.

    The thresholds in use are made from all labels, and should do no worse.

    Attributes:
        queries: number of photos that were queries.
        labels: number of labels, or groups, that these are of.
        false_matches: share of the photos of absent things whose best score says *match*.
        rejected: share of them for which it says *no match*.
        matched: share of the photos with another one of their label whose best score with those says *match*; None without any.
        missed: share of these for which it says *no match*.
        curve: the same for other rates that might be asked for.
        absent, present: numbers of the queries' best scores, without and with their own label, by score: [_BINS] between ``low``
            and ``high``.
        low, high: see there.
    """

    queries: int
    labels: int
    false_matches: Share
    rejected: float
    matched: float | None
    missed: float | None
    curve: tuple[Point, ...]
    absent: tuple[int, ...]
    present: tuple[int, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """The thresholds of an index.

    Attributes:
        sequence: of the catalogue, when they were made.
        asked: share of false matches that was asked for.
        rate: the one that they are for; higher than asked where there are too few photos to tell that.
        basis: LABELS or SELF_CONSISTENCY.
        note: what a reader has to know before trusting them; empty when nothing.
        match: least score that says *match*.
        unsure: least score that says *unsure*; below it is *no match*.
        check: how well they hold.
    """

    sequence: int
    asked: float
    rate: float
    basis: str
    note: str
    match: float
    unsure: float
    check: Check

    def verdict(self, score: float | None) -> str:
        """What a score says; None, that of no result at all, says *no match*."""
        if score is None or score < self.unsure:
            return NO_MATCH
        return MATCH if score >= self.match else UNSURE

    def summary(self) -> dict[str, Any]:
        """The thresholds and what they are for, for programs that search."""
        return {"match": self.match, "unsure": self.unsure, "false_matches": self.rate, "basis": self.basis}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Read what to_json gave, or JSON made of it."""
        check = fields["check"]
        read = {
            "false_matches": Share(**check["false_matches"]),
            "curve": tuple(Point(**{**point, "achieved": Share(**point["achieved"])}) for point in check["curve"]),
            "absent": tuple(check["absent"]),
            "present": tuple(check["present"]),
        }
        return cls(**{**fields, "check": Check(**{**check, **read})})


@dataclass(frozen=True)
class Uncalibrated:
    """That an index has no thresholds, as of a sequence number, and why."""

    sequence: int
    asked: float
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {"basis": None, **asdict(self)}


def read_calibration(catalogue: Catalogue) -> Calibration | Uncalibrated | None:
    """What is known about an index's scores; None when nobody has looked yet."""
    fields = catalogue.calibration()
    if fields is None:
        return None
    with understood(catalogue.path):
        if fields["basis"] is None:
            return Uncalibrated(fields["sequence"], fields["asked"], fields["reason"])
        return Calibration.from_json(fields)


def calibrate(catalogue: Catalogue, *, asked: float = FALSE_MATCHES, seed: int = 0) -> Calibration | Uncalibrated:
    """Find the thresholds of an index; memory stays bounded however many photos it has.

    Args:
        asked: share of photos of absent things that may be called a match, above 0 and at most 0.5.
        seed: of the draw of queries, of the halves and of the groups.

    Raises:
        HdmlError: ``asked`` is something else.
    """
    check_false_matches(asked)
    ids, numbers = catalogue.label_numbers()
    with catalogue.vectors() as vectors:
        return calibrate_vectors(vectors, ids, numbers, asked=asked, seed=seed)


def calibrate_vectors(
    vectors: Vectors, ids: NDArray[np.int64], numbers: NDArray[np.int64], *, asked: float = FALSE_MATCHES, seed: int = 0
) -> Calibration | Uncalibrated:
    """The same of vectors that may lie anywhere.

    Args:
        vectors: all of them.
        ids: [n] theirs, ascending.
        numbers: [n] of their labels; negative for those without one.
        asked, seed: as for calibrate.
    """
    if vectors.count < _LEAST_PHOTOS:
        reason = f"{vectors.count} photos are too few to tell what a score means; it takes {_LEAST_PHOTOS}"
        return Uncalibrated(vectors.sequence, asked, reason)
    random = np.random.default_rng(seed)
    unfit = _unfit(numbers)
    group_of = _by_label(ids, numbers) if unfit is None else _by_likeness(vectors, random)
    scores = BestScores.measured(vectors, group_of, random)
    return _calibrated(scores, vectors.sequence, asked, unfit, random)


def check_false_matches(share: float) -> float:
    """The same share; raises HdmlError unless it is above 0 and at most 0.5."""
    if not 0 < share <= 0.5:
        raise HdmlError(f"the share of false matches must be above 0 and at most 0.5, not {share:g}")
    return share


def _unfit(numbers: NDArray[np.int64]) -> str | None:
    """Why labels cannot be calibrated on; None when they can."""
    labels = len(np.unique(numbers[numbers >= 0]))
    if labels == 0:
        return "there are no labels"
    if np.mean(numbers >= 0) < _LABELLED:
        return f"{np.mean(numbers < 0):.0%} of the photos have no label"
    if labels < _LEAST_LABELS:
        return f"{labels} labels are fewer than {_LEAST_LABELS}"
    return None


GroupOf = Callable[[NDArray[np.int64], NDArray[np.float32]], NDArray[np.int64]]
"""From the ids [n] and vectors [n, D] of some items to the numbers of their groups [n]; negative for those of none."""


def _by_label(ids: NDArray[np.int64], numbers: NDArray[np.int64]) -> GroupOf:
    return lambda wanted, _: numbers[np.searchsorted(ids, wanted)]


def _by_likeness(vectors: Vectors, random: np.random.Generator) -> GroupOf:
    """Groups of like photos; 2√n of them, as many as have matched labels best where both were there (docs/scores.md)."""
    import faiss

    _, drawn = sample_vectors(vectors, _GROUPED, random)
    count = min(round(2 * math.sqrt(vectors.count)), len(drawn) // 4)
    seed = int(random.integers(2**31))
    found = faiss.Kmeans(vectors.dimension, count, niter=15, spherical=True, seed=seed, min_points_per_centroid=1)
    found.train(drawn)
    return lambda _, page: found.index.search(page, 1)[1][:, 0]


@dataclass(frozen=True)
class BestScores:
    """Each query's best scores, itself left out, and its group, all [q].

    Attributes:
        groups: numbers.
        absent: best score with the items of other groups: what it would have, were its own not there.
        present: best score with the others of its own; −∞ when there are none.
    """

    groups: NDArray[np.int64]
    absent: NDArray[np.float64]
    present: NDArray[np.float64]

    @classmethod
    def measured(cls, vectors: Vectors, group_of: GroupOf, random: np.random.Generator, *, queries: int = _QUERIES) -> Self:
        """Draw queries from the vectors and compare each with all of them."""
        own, drawn = sample_vectors(vectors, queries, random)
        groups = group_of(own, drawn)
        own, drawn, groups = own[groups >= 0], drawn[groups >= 0], groups[groups >= 0]
        absent, present = np.full(len(own), -np.inf), np.full(len(own), -np.inf)
        for ids, page in vectors.pages():
            scores = drawn @ page.T
            places = np.minimum(np.searchsorted(ids, own), len(ids) - 1)
            here = ids[places] == own
            scores[here, places[here]] = -np.inf
            theirs = group_of(ids, page)
            same = groups[:, None] == theirs
            present = np.maximum(present, np.where(same, scores, -np.inf).max(1))
            absent = np.maximum(absent, np.where(same | (theirs < 0), -np.inf, scores).max(1))
        return cls(groups, absent.round(6), present.round(6))

    def folds(self, count: int, random: np.random.Generator) -> list[tuple[Self, Self]]:
        """The queries of ever another part of the groups, each behind those of all the other groups."""
        groups = np.array_split(random.permutation(np.unique(self.groups)), count)
        parts = [np.isin(self.groups, part) for part in groups]
        return [(self._only(~part), self._only(part)) for part in parts if part.any() and not part.all()]

    def _only(self, rows: NDArray[np.bool_]) -> Self:
        return replace(self, groups=self.groups[rows], absent=self.absent[rows], present=self.present[rows])


def _calibrated(
    scores: BestScores, sequence: int, asked: float, unfit: str | None, random: np.random.Generator
) -> Calibration | Uncalibrated:
    halves = scores.folds(2, random)
    if min((len(half.groups) for _, half in halves), default=0) < _LEAST_PHOTOS // 4:
        reason = "nearly all photos are of one label, or alike; there is nothing to take for something else"
        return Uncalibrated(sequence, asked, reason)
    notes = _notes(scores, asked, unfit)
    found = find_thresholds(scores, asked, random)
    basis = LABELS if unfit is None else SELF_CONSISTENCY
    check = _check(halves, asked, random)
    return Calibration(sequence, asked, found.rate, basis, "; ".join(notes), found.match, found.unsure, check)


def _notes(scores: BestScores, asked: float, unfit: str | None) -> list[str]:
    """What is to be known of thresholds made from these scores."""
    queries, groups = len(scores.groups), len(np.unique(scores.groups))
    notes = [] if unfit is None else [f"{unfit}, so that groups of like photos stand in for things"]
    if groups < _FEW_GROUPS:
        notes.append(f"they are made from {groups} different things only; of others several times as many may match as asked")
    if asked * queries < _FEW_BEYOND:
        notes.append(f"{queries} photos are few for {100 * asked:g} % of false matches; more would tell better")
    if not np.isfinite(scores.present).any():
        notes.append("no label has two photos, so that nothing is known of what two photos of one thing score")
    return notes


@dataclass(frozen=True)
class Thresholds:
    """Least scores that say *match* and *unsure*, and the share of false matches that the first is for."""

    rate: float
    match: float
    unsure: float


def find_thresholds(scores: BestScores, asked: float, random: np.random.Generator) -> Thresholds:
    """The thresholds that some queries' scores ask for.

    *Match* begins where labels that a threshold was not made from keep to the rate by one standard error (L. Breiman et al.,
    "Classification and Regression Trees", 1984, section 3.4.3): the few things that are most like others make the threshold, and
    the next such one is still to come. *No match* ends where the error rates are equal.

    Args:
        asked: share of false matches; the least that can be told of n queries is 1 / (n + 1).
    """
    absent, present = scores.absent, scores.present[np.isfinite(scores.present)]
    rate = max(asked, 1 / (len(absent) + 1))
    folds = scores.folds(_FOLDS, random)
    groups = np.concatenate([left_out.groups for _, left_out in folds])
    match = np.inf
    for share in _TIGHTENED:
        match = threshold_at(absent, share * rate)
        hits = np.concatenate([left_out.absent >= threshold_at(rest.absent, share * rate) for rest, left_out in folds])
        if hits.mean() + math.sqrt(_variance(hits, groups)) <= rate:
            break
    # Without a pair, one half of the photos of absent things is to be called that.
    unsure = equal_error(absent, present) if len(present) else threshold_at(absent, 0.5)
    return Thresholds(rate, match, min(match, unsure))


def threshold_at(absent: NDArray[np.float64], rate: float) -> float:
    """The score that a share ``rate`` of photos of absent things is expected to reach.

    Of n more queries like these, the r-th largest score is reached by r/(n+1) on average; between two of them is interpolated.
    Where many are equal, and more than that share would reach it, it lies just above them.
    """
    threshold = float(np.quantile(absent, 1 - rate, method="weibull"))
    if np.sum(absent >= threshold) <= rate * (len(absent) + 1) + _ROUNDING:
        return threshold
    above = absent[absent > threshold]
    tied = float(absent[absent <= threshold].max()) + _ROUNDING
    return tied if not len(above) else min(tied, float(above.min()))


def equal_error(absent: NDArray[np.float64], present: NDArray[np.float64]) -> float:
    """The score at which as large a share of photos of absent things lies above as of those of present things below."""
    candidates = np.unique(np.concatenate([absent, present]))
    above = 1 - np.searchsorted(np.sort(absent), candidates) / len(absent)
    below = np.searchsorted(np.sort(present), candidates) / len(present)
    return float(candidates[np.argmin(np.abs(above - below))])


def share_of(hits: NDArray[np.bool_], groups: NDArray[np.int64]) -> Share:
    """A share of queries with its 95 % interval.

    Queries of one thing are not independent (R. M. Bolle et al., "Error analysis of pattern recognition systems – the subsets
    bootstrap", CVIU 93, 2004). Hence it is Wilson's interval of as many independent queries as would vary as
    much as the shares of the groups do. Where no query is hit, or every one, nothing varies; then each group counts as one.
    """
    share, variance = float(hits.mean()), _variance(hits, groups)
    effective = min(len(hits), share * (1 - share) / variance) if variance > 0 else len(np.unique(groups))
    low, high = wilson(share, effective)
    return Share(share, min(share, low), max(share, high))


def _variance(hits: NDArray[np.bool_], groups: NDArray[np.int64]) -> float:
    """Of a share of queries, when groups are what is drawn."""
    _, places = np.unique(groups, return_inverse=True)
    off = np.bincount(places, weights=hits - hits.mean())
    return float(off @ off) / len(hits) ** 2 * len(off) / max(1, len(off) - 1)


def _check(halves: list[tuple[BestScores, BestScores]], asked: float, random: np.random.Generator) -> Check:
    """What thresholds made from one half of the labels do to the queries of the other, for both halves."""
    groups = np.concatenate([checking.groups for _, checking in halves])
    absent = np.concatenate([checking.absent for _, checking in halves])
    every_present = np.concatenate([checking.present for _, checking in halves])
    paired = np.isfinite(every_present)
    present = every_present[paired]

    def thresholds(asked: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of each query, those for *match* and *unsure* that the other half asks for."""
        found = [(find_thresholds(making, asked, random), len(checking.groups)) for making, checking in halves]
        counts = [count for _, count in found]
        return np.repeat([made.match for made, _ in found], counts), np.repeat([made.unsure for made, _ in found], counts)

    def reach(least: NDArray[np.float64]) -> float | None:
        return float(np.mean(present >= least[paired])) if len(present) else None

    curve = []
    for rate in RATES:
        if rate * min(len(making.groups) for making, _ in halves) >= 1:
            least, _ = thresholds(rate)
            curve.append(Point(rate, share_of(absent >= least, groups), reach(least)))
    match, unsure = thresholds(asked)
    not_missed = reach(unsure)
    every = np.concatenate([absent, present])
    low, high = float(every.min()), max(float(every.max()), float(every.min()) + _ROUNDING)
    return Check(
        queries=len(absent),
        labels=len(np.unique(groups)),
        false_matches=share_of(absent >= match, groups),
        rejected=float(np.mean(absent < unsure)),
        matched=reach(match),
        missed=None if not_missed is None else 1 - not_missed,
        curve=tuple(curve),
        absent=tuple(np.histogram(absent, _BINS, (low, high))[0].tolist()),
        present=tuple(np.histogram(present, _BINS, (low, high))[0].tolist()),
        low=low,
        high=high,
    )
