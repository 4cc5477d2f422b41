"""A comparison of three arms on the small photos, for the tests of its record and of its report."""

from pathlib import Path

import pytest

from hdml.comparison import Answer, Arm, Comparison, Disagreement, Paired, conclude
from hdml.significance import judge_arms


def arm(name: str, map_at_r: tuple[float, ...], *, seconds: float = 10.0, higher: float = 0.25) -> Arm:
    """An arm whose R@1 is ``higher`` than its MAP@R under every seed."""
    recall = tuple(value + higher for value in map_at_r)
    return Arm(name, f"what {name} is", recall, map_at_r, map_at_r, recall, tuple(seconds for _ in map_at_r), 1_500_000_000)


def pair(method: Arm, reference: Arm, measure: str = "map_at_r", *, still_rising: bool = False) -> Paired:
    """The method judged against the reference, as the only arm compared."""
    differences = tuple(a - b for a, b in zip(method.measured(measure), reference.measured(measure), strict=True))
    rising = [method.name] if still_rising else []
    found = judge_arms({method.name: differences}, still_rising=rising)[method.name]
    numbers = (found.difference, found.low, found.high, found.level, found.holm_p)
    return Paired(method.name, reference.name, measure, differences, *numbers, found.verdict, still_rising=still_rising)


@pytest.fixture
def comparison(photos: Path) -> Comparison:
    """Three seeds of ``plain``, ``hdml`` and ``no-pull``; the second is ahead, and they disagree about one photo."""
    plain = arm("plain", (0.40, 0.41, 0.42), seconds=10.0)
    hdml = arm("hdml", (0.45, 0.463, 0.47), seconds=12.0)
    no_pull = arm("no-pull", (0.41, 0.40, 0.43), seconds=11.0)
    pairs = (pair(hdml, plain), pair(no_pull, plain), pair(hdml, plain, "recall_at_1"))
    query, right, wrong = Path("blue-left/0.jpg"), Path("blue-left/1.jpg"), Path("blue-right/2.jpg")
    answers = {
        "plain": Answer(wrong, "blue-right", False),
        "hdml": Answer(right, "blue-left", True),
        "no-pull": Answer(wrong, "blue-right", False),
    }
    arms = (plain, hdml, no_pull)
    return Comparison(
        data="discs",
        photos=photos,
        method="hdml",
        reference="plain",
        arms=arms,
        paired=pairs,
        verdict=conclude(arms, pairs, method="hdml", reference="plain"),
        disagreements=(Disagreement(query, "blue-left", answers),),
        dropped=("Seeds 3 and 4: time was up.",),
        protocol={"Seeds": "0, 1, 2", "Photos": "20 in 4 classes"},
        command="hdml compare discs/ --seeds 3",
    )
