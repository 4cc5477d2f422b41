"""What a score means: from which one on it says *same thing*, at a share of false matches that the user chooses.

A photo of something that the index does not hold still has a best score. How high that gets is measured with the gallery itself:
some of its photos are queries, and each one's own label is hidden from it, so that it becomes a photo of an absent thing
(open-set recognition; W. J. Scheirer et al., "Toward Open Set Recognition", TPAMI 2013). The largest score of so many photos grows with
their number, hence all of the gallery's others are compared with. Labels are cut in halves: one gives the thresholds, the other says how
well they hold.

Without labels, groups of like photos stand in for them (spherical k-means); the leave-one-group-out argument is the same, but what is
true of groups need not be true of things.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from indexing.catalogue import Catalogue, Vectors
from indexing.errors import HdmlError
from indexing.kinds import sample_vectors

MATCH, UNSURE, NO_MATCH = "match", "unsure", "no match"
LABELS, SELF_CONSISTENCY = "labels", "self-consistency"
FALSE_MATCHES = 0.01
RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # of the curve of asked against achieved
_QUERIES = 2000
_LEAST_PHOTOS = 100
_LEAST_LABELS = 10
_LABELLED = 0.9  # least share; what has no label may be anything, and is compared with nothing
_LEAST_BEYOND = 3  # queries beyond a threshold, below which its rate is not measured but made up
_GROUPED = 30_000  # vectors that groups are found from
_ROUNDING = 1e-6  # scores that differ by less are equal
_BINS = 60
_Z = 1.96  # of a 95 % interval


@dataclass(frozen=True)
class Share:
    """A share of queries and its 95 % interval."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """A rate of false matches that may be asked for: its threshold, what was achieved, and the share of true pairs that reach it."""

    asked: float
    threshold: float
    achieved: Share
    matched: float | None


@dataclass(frozen=True)
class Check:
    """What the thresholds do to queries of labels that they were not made from.

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
        rate: the one that they are for; higher than asked where there are too few photos to measure that.
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
        check = dict(fields["check"])
        curve = tuple(Point(**{**point, "achieved": Share(**point["achieved"])}) for point in check.pop("curve"))
        found = Share(**check.pop("false_matches"))
        bins = {name: tuple(check.pop(name)) for name in ("absent", "present")}
        return cls(**{**fields, "check": Check(**check, **bins, curve=curve, false_matches=found)})


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
    random = np.random.default_rng(seed)
    with catalogue.vectors() as vectors:
        if vectors.count < _LEAST_PHOTOS:
            reason = f"{vectors.count} photos are too few to tell what a score means; it takes {_LEAST_PHOTOS}"
            return Uncalibrated(vectors.sequence, asked, reason)
        unfit = _unfit(numbers)
        group_of = _by_label(ids, numbers) if unfit is None else _by_likeness(vectors, random)
        basis = LABELS if unfit is None else SELF_CONSISTENCY
        scores = BestScores.measured(vectors, group_of, random)
        return _calibrated(scores, vectors.sequence, asked, basis, unfit, random)


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

    def halves(self, random: np.random.Generator) -> tuple[Self, Self]:
        """The queries of one half of the groups, and those of the other."""
        groups = random.permutation(np.unique(self.groups))
        first = np.isin(self.groups, groups[: len(groups) // 2])
        return self._only(first), self._only(~first)

    def _only(self, rows: NDArray[np.bool_]) -> Self:
        return replace(self, groups=self.groups[rows], absent=self.absent[rows], present=self.present[rows])


def _calibrated(
    scores: BestScores, sequence: int, asked: float, basis: str, unfit: str | None, random: np.random.Generator
) -> Calibration | Uncalibrated:
    making, checking = scores.halves(random)
    if min(len(making.groups), len(checking.groups)) < _LEAST_PHOTOS // 4:
        reason = "nearly all photos are of one label, or alike; there is nothing to take for something else"
        return Uncalibrated(sequence, asked, reason)
    rate = max(asked, _LEAST_BEYOND / len(making.absent))
    notes = []
    if unfit is not None:
        notes.append(f"{unfit}, so that groups of like photos stand in for things")
    if rate > asked:
        notes.append(f"{asked:.3g} of false matches cannot be told from so few photos; the thresholds are for {rate:.2g}")
    match = threshold_at(making.absent, rate)
    pairs = making.present[np.isfinite(making.present)]
    if not len(pairs):
        notes.append("no label has two photos, so that nothing is known of what two photos of one thing score")
    # Without a pair, one half of the photos of absent things is to be called that.
    unsure = min(match, equal_error(making.absent, pairs) if len(pairs) else threshold_at(making.absent, 0.5))
    check = _check(making, checking, match, unsure)
    return Calibration(sequence, asked, rate, basis, "; ".join(notes), match, unsure, check)


def threshold_at(absent: NDArray[np.float64], rate: float) -> float:
    """The score that a share ``rate`` of photos of absent things is expected to reach.

    Of n more queries like these, the r-th largest score is reached by r/(n+1) on average; between two of them is interpolated.
    Where many are equal, and more than that share would reach it, it lies just above them.
    """
    threshold = float(np.quantile(absent, 1 - rate, method="weibull"))
    if np.mean(absent >= threshold) <= rate:
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
    """A share of queries with its 95 % interval, in which queries of one group count as what they are: alike.

    Wilson's interval (JASA 22, 1927) of the number of independent queries that would vary as much as these do, taking groups as the
    unit that was drawn (L. Kish, "Survey Sampling", 1965, section 5.4). Where no query is hit, or every one, nothing varies;
    then each group counts as one.
    """
    count, share = len(hits), float(hits.mean())
    _, places = np.unique(groups, return_inverse=True)
    off = np.bincount(places, weights=hits - share)
    number = len(off)
    variance = float(off @ off) / count**2 * (number / max(1, number - 1))
    effective = min(count, share * (1 - share) / variance) if variance > 0 else number
    middle = (share + _Z**2 / (2 * effective)) / (1 + _Z**2 / effective)
    half = _Z / (1 + _Z**2 / effective) * math.sqrt(share * (1 - share) / effective + _Z**2 / (4 * effective**2))
    return Share(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def _check(making: BestScores, checking: BestScores, match: float, unsure: float) -> Check:
    absent, groups = checking.absent, checking.groups
    present = checking.present[np.isfinite(checking.present)]

    def reach(threshold: float) -> float | None:
        return float(np.mean(present >= threshold)) if len(present) else None

    curve = []
    for asked in RATES:
        if asked * len(making.absent) >= 1:
            threshold = threshold_at(making.absent, asked)
            curve.append(Point(asked, threshold, share_of(absent >= threshold, groups), reach(threshold)))
    every = np.concatenate([absent, present])
    low, high = float(every.min()), max(float(every.max()), float(every.min()) + _ROUNDING)
    certain = reach(unsure)
    return Check(
        queries=len(absent),
        labels=len(np.unique(groups)),
        false_matches=share_of(absent >= match, groups),
        rejected=float(np.mean(absent < unsure)),
        matched=reach(match),
        missed=None if certain is None else 1 - certain,
        curve=tuple(curve),
        absent=tuple(np.histogram(absent, _BINS, (low, high))[0].tolist()),
        present=tuple(np.histogram(present, _BINS, (low, high))[0].tolist()),
        low=low,
        high=high,
    )
