"""A comparison's record, its words, and the photos that arms disagree about."""

import dataclasses
import json
import math
import statistics
from pathlib import Path

import numpy as np
import pytest

from hdml.comparison import Arm, Comparison, Paired, conclude, deviation, find_disagreements, percent, points
from hdml.evaluate import evaluate_embeddings
from hdml.significance import Verdict
from tests.hdml.conftest import arm, pair

PLAIN = arm("plain", (0.40, 0.41, 0.42, 0.405), seconds=10.0)


def beside_plain(*differences: float, name: str = "hdml", seconds: float = 12.0) -> Arm:
    """An arm that differs from PLAIN by so much under each seed."""
    return arm(name, tuple(a + b for a, b in zip(PLAIN.map_at_r, differences, strict=False)), seconds=seconds)


def first_seeds(of: Arm, seeds: int) -> Arm:
    return arm(of.name, of.map_at_r[:seeds], seconds=of.seconds[0])


def words(method: Arm, *others: Arm, still_rising: bool = False, **changes: float) -> str:
    """The conclusion about a method against PLAIN, with as many seeds as the method has."""
    plain = first_seeds(PLAIN, len(method.map_at_r))
    judged = dataclasses.replace(pair(method, plain, still_rising=still_rising), **changes)  # type: ignore[arg-type]
    return conclude([plain, method, *others], [judged], method=method.name, reference="plain")


def test_json_has_the_figures_in_0_to_1_under_the_agreed_names(comparison: Comparison) -> None:
    found = json.loads(json.dumps(comparison.to_json(Path("out/report.html")), allow_nan=False))
    assert {"report", "arms", "paired", "verdict"} <= set(found)
    assert (found["report"], found["verdict"]) == ("out/report.html", comparison.verdict)
    assert [row["name"] for row in found["arms"]] == ["plain", "hdml", "no-pull"]
    for row, told in zip(found["arms"], comparison.arms, strict=True):
        for measure in ("recall_at_1", "map_at_r", "r_precision", "nmi"):
            seeds = list(told.measured(measure))
            expected = {"mean": statistics.fmean(seeds), "std": statistics.stdev(seeds), "seeds": seeds}
            assert row[measure] == expected
        assert row["seconds"] == pytest.approx(statistics.fmean(told.seconds))
    first, told = found["paired"][0], comparison.paired[0]
    expected_pair = ("hdml", "plain", "map_at_r", told.difference, told.low, told.high, "better")
    assert tuple(first[key] for key in ("arm", "against", "measure", "difference", "low", "high", "verdict")) == expected_pair
    assert found["disagreements"][0]["answers"]["hdml"] == {"path": "blue-left/1.jpg", "label": "blue-left", "right": True}


def test_json_of_a_single_seed_has_null_where_nothing_can_be_said(comparison: Comparison) -> None:
    plain, hdml = arm("plain", (0.4,)), arm("hdml", (0.5,))
    single = dataclasses.replace(comparison, arms=(plain, hdml), paired=(pair(hdml, plain),))
    found = json.loads(json.dumps(single.to_json(Path("report.html")), allow_nan=False))
    assert found["arms"][0]["map_at_r"] == {"mean": 0.4, "std": None, "seeds": [0.4]}
    assert [found["paired"][0][key] for key in ("low", "high", "bootstrap_low", "bootstrap_high")] == [None] * 4


def test_comparison_refuses_unknown_arms_twins_and_uneven_seeds(comparison: Comparison) -> None:
    with pytest.raises(ValueError, match=r"\['hdml', 'no-pull', 'other', 'plain'\]"):
        dataclasses.replace(comparison, reference="other")
    with pytest.raises(ValueError, match="once among its arms"):
        dataclasses.replace(comparison, arms=(*comparison.arms, comparison.arms[0]))
    uneven = dataclasses.replace(comparison.arms[2], seconds=(1.0,))
    with pytest.raises(ValueError, match="'no-pull' differ in number"):
        dataclasses.replace(comparison, arms=(*comparison.arms[:2], uneven))


def test_conclusion_better_says_by_how_much_and_to_use_it() -> None:
    told = words(beside_plain(0.05, 0.052, 0.048, 0.05))
    assert told.startswith("On these photos hardness-aware training (hdml) is better than plain; use hdml. ")
    assert "MAP@R is 5.0 points higher (95 % interval +4.7 to +5.3, 4 seeds)." in told


def test_conclusion_worse_says_to_use_the_reference() -> None:
    told = words(beside_plain(-0.05, -0.052, -0.048, -0.05))
    assert told.startswith("On these photos hardness-aware training (hdml) is worse than plain; use plain. ")
    assert "MAP@R is 5.0 points lower (95 % interval −5.3 to −4.7, 4 seeds)." in told


def test_conclusion_equivalent_says_to_use_the_cheaper() -> None:
    even = (0.001, -0.001, 0.002, 0.0)
    told = words(beside_plain(*even))
    advice = "; use plain, the cheapest arm within 1 point of the best mean. "
    assert told.startswith("On these photos hardness-aware training (hdml) and plain are equivalent" + advice)
    assert "all of it within ±1 point." in told
    assert "; use hdml, the cheapest arm within" in words(beside_plain(*even, seconds=8.0))


def test_conclusion_better_by_less_than_the_margin_still_names_the_cheaper() -> None:
    told = words(beside_plain(0.005, 0.0052, 0.0048, 0.005))
    assert "is better than plain, by less than 1 point; use plain, the cheapest arm within 1 point of the best mean." in told


def test_conclusion_inconclusive_says_what_would_decide() -> None:
    scattered = beside_plain(0.03, -0.02, 0.04, 0.0)
    told = words(scattered)
    assert told.startswith(
        "On these photos it stays open whether hardness-aware training (hdml) is better than plain; use hdml for now"
    )
    assert told.endswith("More seeds would narrow the interval.")
    rising = words(beside_plain(0.05, 0.052, 0.048, 0.05), still_rising=True)
    assert "it stays open" in rising
    assert rising.endswith("Validation was still rising when training stopped: train longer.")


def test_conclusion_below_three_seeds_concludes_nothing_and_names_the_cheapest_near_the_best() -> None:
    cheap, far = beside_plain(0.045, 0.045, name="cheap", seconds=5.0), beside_plain(-0.2, -0.2, name="untrained", seconds=0.0)
    told = words(beside_plain(0.05, 0.052), cheap, far)
    assert told.startswith(
        "With 2 seeds nothing can be concluded about hardness-aware training on these photos; use cheap for now, "
    )
    assert told.endswith("A verdict takes 3 seeds at least.")
    single = words(beside_plain(0.05))
    assert single.startswith("With 1 seed nothing can be concluded")
    assert "use hdml for now, whose mean is the best so far. MAP@R is 5.0 points higher in a single seed." in single


def test_conclusion_tells_when_other_classes_could_undo_it() -> None:
    ahead = beside_plain(0.05, 0.052, 0.048, 0.05)
    undone = "With other classes of the same kind the difference could vanish (−0.4 to +11.0)."
    assert undone in words(ahead, bootstrap_low=-0.004, bootstrap_high=0.11)
    assert "could vanish" not in words(ahead, bootstrap_low=0.004, bootstrap_high=0.11)
    assert "could vanish" not in words(ahead, bootstrap_low=-math.inf, bootstrap_high=math.inf)


def test_conclusion_tells_when_another_measure_disagrees() -> None:
    ahead = beside_plain(0.05, 0.052, 0.048, 0.05)
    pairs = [pair(ahead, PLAIN), dataclasses.replace(pair(ahead, PLAIN, "recall_at_1"), verdict=Verdict.INCONCLUSIVE)]
    told = conclude([PLAIN, ahead], pairs, method="hdml", reference="plain")
    assert told.endswith("In R@1 the verdict is inconclusive.")
    assert "R@1" not in conclude([PLAIN, ahead], [pairs[0], pair(ahead, PLAIN, "recall_at_1")], method="hdml", reference="plain")


def test_conclusion_needs_the_pair_that_it_is_about() -> None:
    pairs: list[Paired] = [pair(beside_plain(0.1, 0.1, 0.1, 0.1, name="other"), PLAIN)]
    with pytest.raises(ValueError, match="'hdml' against 'plain' in map_at_r"):
        conclude([PLAIN], pairs, method="hdml", reference="plain")


def test_disagreements_are_the_queries_that_some_get_right_and_others_wrong() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 5)
    names, paths = [f"class {label}" for label in labels], [Path(f"{number}.jpg") for number in range(40)]
    outcomes, right = {}, {}
    for name, noise in (("a", 0.8), ("b", 1.0)):
        drawn = (np.eye(8)[labels] + noise * rng.standard_normal((40, 8))).astype(np.float32)
        embeddings = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        outcomes[name] = evaluate_embeddings(embeddings, labels).outcomes
        scores = embeddings @ embeddings.T - 9 * np.eye(40)
        right[name] = scores.argmax(1)
    wins = {name: labels[nearest] == labels for name, nearest in right.items()}
    found = find_disagreements(outcomes, paths, names)
    assert {one.query for one in found} == {paths[query] for query in np.flatnonzero(wins["a"] != wins["b"])}
    for one in found:
        query = paths.index(one.query)
        assert one.label == names[query]
        for name, answer in one.answers.items():
            assert (answer.path, answer.right) == (paths[right[name][query]], wins[name][query])
            assert answer.label == names[right[name][query]]
    winners = [one.answers["a"].right for one in found]
    fewer = min(sum(winners), len(winners) - sum(winners))
    assert fewer > 1
    assert sum(winners[: 2 * fewer]) == fewer  # they take turns while both have some left


def test_figures_are_written_for_people() -> None:
    assert [points(value) for value in (0.0213, -0.004, 0.0, -0.0001, math.inf, None)] == [
        "+2.1",
        "−0.4",
        "0.0",
        "0.0",
        *["unknown"] * 2,
    ]
    assert [percent(level) for level in (0.95, 1 - 0.05 / 3)] == ["95 %", "98.3 %"]
    assert deviation([0.5]) is None
