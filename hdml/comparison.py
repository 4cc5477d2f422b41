"""A comparison of training arms: what was measured, what follows from it in plain words, and its JSON form."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdml.evaluate import QueryOutcomes
from hdml.significance import LEAST_SEEDS, MARGIN, Verdict

MEASURES = {"map_at_r": "MAP@R", "recall_at_1": "R@1", "r_precision": "R-precision", "nmi": "NMI"}
"""Names of the measures in a record, and as they are written for people."""


@dataclass(frozen=True)
class Arm:
    """One way to train, run once per seed; every tuple has one entry a seed, in the same order.

    Attributes:
        name: short, unique in a comparison.
        description: what sets it apart, for people.
        recall_at_1, map_at_r, r_precision, nmi: on the test classes, in 0–1.
        seconds: of training.
        peak_memory: most bytes resident, or on the GPU, while it trained; None when it was not measured.
    """

    name: str
    description: str
    recall_at_1: tuple[float, ...]
    map_at_r: tuple[float, ...]
    r_precision: tuple[float, ...]
    nmi: tuple[float, ...]
    seconds: tuple[float, ...]
    peak_memory: int | None = None

    def measured(self, measure: str) -> tuple[float, ...]:
        """The values of one of MEASURES, one a seed."""
        values: tuple[float, ...] = getattr(self, measure)
        return values


@dataclass(frozen=True)
class Paired:
    """An arm against another in one measure, paired by seed; differences are arm minus other, in 0–1.

    Attributes:
        arm, against: names of arms.
        measure: one of MEASURES.
        per_seed: differences, one a seed.
        difference: their mean.
        low, high: the interval that the verdict rests on, at ``level``; infinite when seeds do not tell.
        level: its confidence, after Holm (:mod:`hdml.significance`).
        p: adjusted by Holm for the arms compared.
        verdict: what follows.
        bootstrap_low, bootstrap_high: interval had the test held other classes, the gallery fixed; None when not drawn.
        still_rising: validation of one of the two had not levelled off when training stopped.
    """

    arm: str
    against: str
    measure: str
    per_seed: tuple[float, ...]
    difference: float
    low: float
    high: float
    level: float
    p: float
    verdict: Verdict
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None
    still_rising: bool = False


@dataclass(frozen=True)
class Answer:
    """The photo that an arm puts first for a query, by its path below the comparison's photos."""

    path: Path
    label: str
    right: bool


@dataclass(frozen=True)
class Disagreement:
    """A query that some arms answer right and others wrong: its path and label, and each arm's answer by the arm's name."""

    query: Path
    label: str
    answers: Mapping[str, Answer]


@dataclass(frozen=True)
class Comparison:
    """All that a report shows.

    Attributes:
        data: what the photos are called.
        photos: the folder that all paths lie below.
        method: name of the hardness-aware arm that the verdict is about.
        reference: name of the arm that it is held against.
        arms: in the order to show them.
        paired: in the order to show them; of the method against the reference, the deciding measure first.
        verdict: see :func:`conclude`; its first sentence is the headline.
        disagreements: the ones to show, of one seed.
        dropped: what was left out to stay within the budget, a sentence each.
        protocol: what makes the figures comparable, such as data, split sizes, seeds, steps, hash: names and values.
        command: repeats the comparison.
        disagreements_in_all: how many there are; None when those to show are all.
        margin: differences within it make none in use, in 0–1; the one that the verdicts were made with.
    """

    data: str
    photos: Path
    method: str
    reference: str
    arms: tuple[Arm, ...]
    paired: tuple[Paired, ...]
    verdict: str
    disagreements: tuple[Disagreement, ...]
    dropped: tuple[str, ...]
    protocol: Mapping[str, str]
    command: str
    disagreements_in_all: int | None = None
    margin: float = MARGIN

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        wanted = {self.method, self.reference, *(name for pair in self.paired for name in (pair.arm, pair.against))}
        if len(set(names)) < len(names) or not wanted <= set(names):
            raise ValueError(f"a comparison needs each of {sorted(wanted)} once among its arms, but has {names}")
        for arm in self.arms:
            if not arm.map_at_r or len({len(arm.measured(measure)) for measure in MEASURES} | {len(arm.seconds)}) > 1:
                raise ValueError(f"an arm has one value of each measure per seed, but those of {arm.name!r} differ in number")

    def to_json(self, report: Path) -> dict[str, Any]:
        """The JSON object of a comparison whose page is at ``report``; what is infinite or was not measured is null."""
        return {
            "report": str(report),
            "verdict": self.verdict,
            "data": self.data,
            "method": self.method,
            "reference": self.reference,
            "margin": self.margin,
            "arms": [_arm_json(arm) for arm in self.arms],
            "paired": [_paired_json(pair) for pair in self.paired],
            "disagreements": [_disagreement_json(found) for found in self.disagreements],
            "dropped": list(self.dropped),
            "protocol": dict(self.protocol),
            "command": self.command,
        }


def _arm_json(arm: Arm) -> dict[str, Any]:
    spreads = {measure: _spread_json(arm.measured(measure)) for measure in ("recall_at_1", "map_at_r", "r_precision", "nmi")}
    about = {"name": arm.name, "description": arm.description}
    cost = {"seconds": statistics.fmean(arm.seconds), "seconds_by_seed": list(arm.seconds), "peak_memory_bytes": arm.peak_memory}
    return about | spreads | cost


def _spread_json(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": statistics.fmean(values), "std": deviation(values), "seeds": list(values)}


def _paired_json(pair: Paired) -> dict[str, Any]:
    bounds = {"low": pair.low, "high": pair.high, "bootstrap_low": pair.bootstrap_low, "bootstrap_high": pair.bootstrap_high}
    return {
        "arm": pair.arm,
        "against": pair.against,
        "measure": pair.measure,
        "difference": pair.difference,
        **{name: bound if bound is not None and math.isfinite(bound) else None for name, bound in bounds.items()},
        "level": pair.level,
        "p": pair.p,
        "verdict": str(pair.verdict),
        "still_rising": pair.still_rising,
        "seeds": list(pair.per_seed),
    }


def _disagreement_json(found: Disagreement) -> dict[str, Any]:
    answers = {
        arm: {"path": answer.path.as_posix(), "label": answer.label, "right": answer.right}
        for arm, answer in found.answers.items()
    }
    return {"query": found.query.as_posix(), "label": found.label, "answers": answers}


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation over seeds; None for a single one."""
    return statistics.stdev(values) if len(values) > 1 else None


def find_disagreements(
    outcomes: Mapping[str, QueryOutcomes], paths: Sequence[Path], labels: Sequence[str]
) -> tuple[Disagreement, ...]:
    """Queries that some arms answer right and others wrong, those on which one set of arms is right alternating with the next.

    Args:
        outcomes: of each arm under one seed, on the same photos, each querying the others.
        paths: [n] of those photos.
        labels: [n] names of their classes.
    """
    by_winners: dict[tuple[str, ...], list[Disagreement]] = {}
    asked = next(iter(outcomes.values())).queries.tolist() if outcomes else []
    for row, query in enumerate(asked):
        winners = tuple(arm for arm, outcome in outcomes.items() if outcome.hit_at_1[row])
        if len(winners) in (0, len(outcomes)):
            continue
        nearest = {arm: int(outcome.nearest[row]) for arm, outcome in outcomes.items()}
        answers = {arm: Answer(paths[found], labels[found], arm in winners) for arm, found in nearest.items()}
        by_winners.setdefault(winners, []).append(Disagreement(paths[query], labels[query], answers))
    longest = max(map(len, by_winners.values()), default=0)
    return tuple(group[turn] for turn in range(longest) for group in by_winners.values() if turn < len(group))


def conclude(
    arms: Sequence[Arm],
    paired: Sequence[Paired],
    *,
    method: str,
    reference: str,
    measure: str = "map_at_r",
    margin: float = MARGIN,
) -> str:
    """What the comparison means, in plain sentences; the first says whether the method pays and which arm to use.

    The arm to use is the cheapest, in seconds, of those whose mean lies within ``margin`` of the best mean. Below
    LEAST_SEEDS seeds the sentence says that nothing can be concluded.

    Args:
        arms, paired: of the comparison.
        method, reference: names of the arms that the first sentence is about.
        measure: the one of MEASURES that decides.
        margin: the difference that makes none in use, in 0–1.

    Raises:
        ValueError: ``paired`` does not hold the method against the reference in that measure.
    """
    chosen = {pair.measure: pair for pair in paired if (pair.arm, pair.against) == (method, reference)}
    if measure not in chosen:
        raise ValueError(f"a conclusion needs {method!r} against {reference!r} in {measure}, but the pairs lack it")
    pair = chosen[measure]
    others = [found for name, found in chosen.items() if name != measure]
    candidates = _near_the_best(arms, measure, margin)
    sentences = [f"{_finding(pair, margin)}; {_advice(candidates, pair, margin)}.", f"{_size(pair, margin)}."]
    if pair.verdict == Verdict.INCONCLUSIVE:
        sentences.append(_what_would_decide(pair))
    if _may_vanish(pair):
        low, high = points(pair.bootstrap_low), points(pair.bootstrap_high)
        sentences.append(f"With other classes of the same kind the difference could vanish ({low} to {high}).")
    sentences += [
        f"In {MEASURES[found.measure]} the verdict is {found.verdict}." for found in others if found.verdict != pair.verdict
    ]
    return " ".join(sentences)


def points(value: float | None) -> str:
    """A difference in points of a measure, signed, with a minus sign that is as wide as the plus."""
    if value is None or not math.isfinite(value):
        return "unknown"
    return f"{100 * value:+.1f}".replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")


def percent(level: float) -> str:
    """A level of confidence, such as 95 % or 98.3 %."""
    return f"{100 * level:.1f}".removesuffix(".0") + " %"


def _near_the_best(arms: Sequence[Arm], measure: str, margin: float) -> list[Arm]:
    """Arms whose mean lies within the margin of the best mean, the cheapest first."""
    best = max(statistics.fmean(arm.measured(measure)) for arm in arms)
    near = [arm for arm in arms if statistics.fmean(arm.measured(measure)) >= best - margin]
    return sorted(near, key=lambda arm: statistics.fmean(arm.seconds))


def _finding(pair: Paired, margin: float) -> str:
    seeds, method = len(pair.per_seed), f"hardness-aware training ({pair.arm})"
    if seeds < LEAST_SEEDS:
        counted = "1 seed" if seeds == 1 else f"{seeds} seeds"
        return f"With {counted} nothing can be concluded about hardness-aware training on these photos"
    match pair.verdict:
        case Verdict.BETTER | Verdict.WORSE:
            slightly = f", by less than {_in_points(margin)}" if abs(pair.difference) < margin else ""
            return f"On these photos {method} is {pair.verdict} than {pair.against}{slightly}"
        case Verdict.EQUIVALENT:
            return f"On these photos {method} and {pair.against} are equivalent"
        case Verdict.INCONCLUSIVE:
            return f"On these photos it stays open whether {method} is better than {pair.against}"


def _advice(candidates: Sequence[Arm], pair: Paired, margin: float) -> str:
    so_far = " for now" if pair.verdict == Verdict.INCONCLUSIVE else ""
    if len(candidates) == 1:
        return f"use {candidates[0].name}{so_far}" + (", whose mean is the best so far" if so_far else "")
    return f"use {candidates[0].name}{so_far}, the cheapest arm within {_in_points(margin)} of the best mean"


def _size(pair: Paired, margin: float) -> str:
    distance = points(abs(pair.difference)).lstrip("+")
    way = "higher" if pair.difference > 0 else "lower"
    told = f"{MEASURES[pair.measure]} is " + ("the same" if distance == "0.0" else f"{distance} points {way}")
    if not math.isfinite(pair.low):
        seeds = len(pair.per_seed)
        return told + (" in a single seed" if seeds == 1 else f" in each of {seeds} seeds, which leaves no spread to judge by")
    told += f" ({percent(pair.level)} interval {points(pair.low)} to {points(pair.high)}, {len(pair.per_seed)} seeds)"
    return told + (f", all of it within ±{_in_points(margin)}" if pair.verdict == Verdict.EQUIVALENT else "")


def _what_would_decide(pair: Paired) -> str:
    if pair.still_rising:
        return "Validation was still rising when training stopped: train longer."
    if len(pair.per_seed) < LEAST_SEEDS:
        return f"A verdict takes {LEAST_SEEDS} seeds at least."
    return "More seeds would narrow the interval."


def _may_vanish(pair: Paired) -> bool:
    low, high = pair.bootstrap_low, pair.bootstrap_high
    decided = pair.verdict in (Verdict.BETTER, Verdict.WORSE)
    return decided and low is not None and high is not None and math.isfinite(low) and low <= 0 <= high


def _in_points(margin: float) -> str:
    return f"{100 * margin:g} point" + ("" if math.isclose(margin, 0.01) else "s")
