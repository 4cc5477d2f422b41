"""Comparing training arms: paired differences over seeds, Holm's correction over arms, a bootstrap over classes, verdicts.

An *arm* is one way to train, run once per seed. Arms that share a seed share the data's order and the network's start, so that
what counts is the difference to the reference arm under the same seed. Two kinds of chance are kept apart:

- Training anew: a t-interval of the differences over seeds (:func:`paired_t`). Verdicts rest on it alone.
- Other classes: a bootstrap over the query classes with the gallery fixed (:func:`class_bootstrap`), reported beside it.

How Holm's correction and the intervals meet, for *m* arms against one reference in one measure at error rate alpha: p-values go
from small to large, and the i-th is rejected while it is below alpha / (m - i + 1). A rejected arm's interval has the level
1 - alpha / (m - i + 1), at which it leaves out 0; every other arm's has the level 1 - alpha / m, at which it holds 0. So each
verdict can be read off the one interval that is shown, and over all arms the chance of any false *better* or *worse* is at most
alpha (S. Holm, "A simple sequentially rejective multiple test procedure", 1979), that of any false *equivalent* at most alpha
(Bonferroni).
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

ALPHA = 0.05
"""Accepted chance of any false verdict among the arms."""
MARGIN = 0.01
"""Differences within this, one point of a measure in 0–1, make no difference in use."""
LEAST_SEEDS = 3
"""Below this number of seeds nothing is concluded."""
_ROUNDING = 1e-12  # a spread below this is that of binary fractions, not of seeds
_BLOCK_DRAWS = 1 << 21  # classes drawn at once: 17 MB


class Verdict(StrEnum):
    """What the seeds say about an arm against the reference."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class PairedT:
    """A mean difference over seeds, its two-sided interval and its p-value against no difference."""

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Judged:
    """One arm against the reference in one measure.

    Attributes:
        difference: mean over seeds of arm minus reference; above 0 the arm is ahead.
        low, high: its interval at ``level``, infinite when seeds do not tell.
        level: the interval's confidence, after Holm (see the module).
        p: two-sided, for this arm alone.
        holm_p: adjusted for the number of arms; below alpha is rejected.
        seeds: how many.
        verdict: what follows.
    """

    difference: float
    low: float
    high: float
    level: float
    p: float
    holm_p: float
    seeds: int
    verdict: Verdict


def paired_t(differences: ArrayLike, *, level: float = 1 - ALPHA) -> PairedT:
    """Student's t-interval and two-sided p-value of the mean of paired differences [s], one a seed.

    Where the seeds do not tell how far training anew would move the mean, the interval is infinite and p is 1: with a single
    seed, and when all differences are the same but not 0 (either the seeds changed nothing, or the measure is too coarse to show
    it). Differences that are all 0 are arms that answer alike: the interval is 0 to 0, and p is 1.

    Raises:
        ValueError: no differences, one that is not a finite number, or a level outside 0–1.
    """
    values = _finite(differences, "differences over seeds")
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval must lie between 0 and 1, not {level}")
    mean = float(values.mean())
    if np.abs(values).max() <= _ROUNDING:
        return PairedT(0.0, 0.0, 0.0, 1.0)
    if len(values) == 1 or np.ptp(values) <= _ROUNDING:
        return PairedT(mean, -math.inf, math.inf, 1.0)
    error, freedom = float(values.std(ddof=1)) / math.sqrt(len(values)), len(values) - 1
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return PairedT(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, freedom)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm's step-down method, in the order given: below alpha means rejected at alpha."""
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    adjusted, greatest = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        greatest = max(greatest, min(1.0, (len(order) - rank) * p_values[position]))
        adjusted[position] = greatest
    return adjusted


def judge_arms(
    differences: Mapping[str, ArrayLike],
    *,
    still_rising: Collection[str] = (),
    alpha: float = ALPHA,
    margin: float = MARGIN,
) -> dict[str, Judged]:
    """Verdicts of all the arms that are compared with one reference in one measure.

    *Better* and *worse*: Holm rejects "no difference". *Equivalent*: it does not, and the interval lies within ±margin.
    *Inconclusive*: otherwise, and always below LEAST_SEEDS seeds or while validation still rises.

    Args:
        differences: for each arm [s] measures of arm minus reference under the same seed, in 0–1.
        still_rising: arms whose validation, or whose reference's, had not levelled off when training stopped.
        alpha: accepted chance of any false verdict among the arms.
        margin: the difference, in units of the measure, that makes none in use.

    Raises:
        ValueError: an arm has no differences, or one that is not a finite number; ``still_rising`` names an arm that is not
            compared.
    """
    if unknown := set(still_rising) - set(differences):
        raise ValueError(f"arms still rising must be among those compared, but {', '.join(sorted(unknown))} is not")
    p_values = {arm: paired_t(values).p for arm, values in differences.items()}
    holm_p = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    rejected = sorted((arm for arm in p_values if holm_p[arm] < alpha), key=lambda arm: p_values[arm])
    judged = {}
    for arm, values in differences.items():
        hypotheses_left = len(differences) - (rejected.index(arm) if arm in rejected else 0)
        level, seeds = 1 - alpha / hypotheses_left, len(np.atleast_1d(values))
        test = paired_t(values, level=level)
        settled = seeds >= LEAST_SEEDS and arm not in still_rising
        verdict = _verdict(test, rejected=arm in rejected, margin=margin) if settled else Verdict.INCONCLUSIVE
        judged[arm] = Judged(test.difference, test.low, test.high, level, test.p, holm_p[arm], seeds, verdict)
    return judged


def _verdict(test: PairedT, *, rejected: bool, margin: float) -> Verdict:
    if rejected:
        return Verdict.BETTER if test.difference > 0 else Verdict.WORSE
    return Verdict.EQUIVALENT if -margin <= test.low and test.high <= margin else Verdict.INCONCLUSIVE


def class_bootstrap(
    differences: ArrayLike, classes: ArrayLike, *, level: float = 1 - ALPHA, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean difference over queries, had the test held other classes; the gallery stays as it is.

    Classes are drawn with replacement, each with all its queries: queries of one class share what makes it easy or hard, and
    drawing queries one by one would give an interval too narrow. With a single class the interval is infinite.

    Args:
        differences: [q] of arm minus reference, or [s, q], of which the mean over seeds is taken.
        classes: [q] class of each query, any integers.
        level: of the interval.
        resamples: how often the classes are drawn.
        seed: of the draws.

    Raises:
        ValueError: no queries, a difference that is not a finite number, or not one class for each query.
    """
    values = _finite(differences, "differences of queries")
    per_query, members = values.reshape(-1, values.shape[-1]).mean(0), np.asarray(classes)
    if members.shape != per_query.shape:
        raise ValueError(f"each of the {len(per_query)} queries needs one class, but the classes have shape {members.shape}")
    _, class_of = np.unique(members, return_inverse=True)
    sums, sizes = np.bincount(class_of, per_query), np.bincount(class_of)
    if len(sizes) == 1:
        return -math.inf, math.inf
    rng, means = np.random.default_rng(seed), np.empty(resamples)
    rows = max(1, _BLOCK_DRAWS // len(sizes))
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, len(sizes), (min(rows, resamples - start), len(sizes)))
        means[start : start + rows] = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _finite(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """As an array of at least one dimension; ValueError unless there are some, all finite."""
    array = np.atleast_1d(np.asarray(values, np.float64))
    if array.size == 0 or not np.isfinite(array).all():
        wrong = int((~np.isfinite(array)).sum())
        raise ValueError(f"{what} must be finite numbers, at least one, but {wrong} of {array.size} are not")
    return array
