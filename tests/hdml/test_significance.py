"""Statistics against scipy's own tests, plain loops and simulations."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

import hdml.significance
from hdml.significance import Verdict, class_bootstrap, holm, judge_arms, paired_t


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_paired_t_equals_scipys_ttest_rel(seeds: int, level: float) -> None:
    rng = np.random.default_rng(seeds)
    arm, reference = rng.normal(0.6, 0.02, seeds), rng.normal(0.58, 0.02, seeds)
    expected = stats.ttest_rel(arm, reference)
    found, interval = paired_t(arm - reference, level=level), expected.confidence_interval(level)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx(arm.mean() - reference.mean())


def test_paired_t_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng, truth, runs = np.random.default_rng(0), 0.01, 4000
    intervals = [paired_t(rng.normal(truth, 0.02, 3), level=0.9) for _ in range(runs)]
    covered = np.mean([found.low <= truth <= found.high for found in intervals])
    assert abs(covered - 0.9) < 4 * math.sqrt(0.9 * 0.1 / runs)


def test_one_seed_says_nothing() -> None:
    found = paired_t([0.03])
    assert (found.difference, found.low, found.high, found.p) == (0.03, -math.inf, math.inf, 1.0)


def test_seeds_that_change_nothing_say_nothing_unless_the_arms_answer_alike() -> None:
    same = paired_t([0.3 - 0.2, 0.2 - 0.1, 0.1])  # equal but for binary fractions
    assert same.difference == pytest.approx(0.1)
    assert (same.low, same.high, same.p) == (-math.inf, math.inf, 1.0)
    alike = paired_t([0.0, 0.0, (0.3 - 0.2) - 0.1])
    assert (alike.difference, alike.low, alike.high, alike.p) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(("values", "told"), [([], "0 of 0"), ([0.1, math.nan], "1 of 2"), ([math.inf, 0.0, math.nan], "2 of 3")])
def test_differences_that_are_no_numbers_raise(values: list[float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        paired_t(values)
    with pytest.raises(ValueError, match=told):
        judge_arms({"arm": values})
    with pytest.raises(ValueError, match=told):
        class_bootstrap(values, np.zeros(len(values), int))


def test_level_outside_zero_and_one_raises() -> None:
    with pytest.raises(ValueError, match="between 0 and 1, not 95"):
        paired_t([0.1, 0.2], level=95)


def rejected_by_loop(p_values: list[float], alpha: float) -> set[int]:
    """Holm's procedure as he states it: reject the least while it is below alpha over the number that is left."""
    left, rejected = list(range(len(p_values))), set()
    while left:
        least = min(left, key=lambda position: p_values[position])
        if p_values[least] >= alpha / len(left):
            break
        rejected.add(least)
        left.remove(least)
    return rejected


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    rng = np.random.default_rng(1)
    for arms in (1, 2, 3, 6):
        for _ in range(50):
            p_values = (rng.random(arms) ** 3).tolist()
            adjusted = holm(p_values)
            for alpha in (0.01, 0.05, 0.2, 0.5):
                assert {arm for arm in range(arms) if adjusted[arm] < alpha} == rejected_by_loop(p_values, alpha)


def test_holm_keeps_the_order_given_and_never_passes_one() -> None:
    assert holm([0.04, 0.001, 0.9]) == pytest.approx([0.08, 0.003, 0.9])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def arms_at(means: list[float], spread: float, seeds: int, rng: np.random.Generator) -> dict[str, list[float]]:
    return {f"arm {number}": rng.normal(mean, spread, seeds).tolist() for number, mean in enumerate(means)}


def test_false_verdicts_among_several_arms_stay_below_alpha() -> None:
    """Four arms: two without a difference, one just at the margin, one far ahead. Without Holm 10 % of comparisons would err."""
    rng, runs, wrong = np.random.default_rng(2), 1500, [0, 0]
    for _ in range(runs):
        judged = judge_arms(arms_at([0.0, 0.0, 0.01, 0.1], 0.004, 4, rng), margin=0.01)
        none = [judged[name].verdict for name in ("arm 0", "arm 1")]
        wrong[0] += any(verdict in (Verdict.BETTER, Verdict.WORSE) for verdict in none)
        wrong[1] += judged["arm 2"].verdict == Verdict.EQUIVALENT
    allowed = 0.05 + 4 * math.sqrt(0.05 * 0.95 / runs)
    assert wrong[0] / runs < allowed
    assert wrong[1] / runs < allowed


def test_each_verdict_can_be_read_off_its_interval() -> None:
    rng, seen = np.random.default_rng(3), set()
    for spread, seeds in itertools.product((0.0005, 0.003, 0.02), (3, 5, 8)):
        for _ in range(20):
            for found in judge_arms(arms_at([-0.05, -0.002, 0.0, 0.004, 0.03], spread, seeds, rng)).values():
                seen.add(found.verdict)
                assert (found.verdict == Verdict.BETTER) == (found.low > 0)
                assert (found.verdict == Verdict.WORSE) == (found.high < 0)
                assert (found.verdict == Verdict.EQUIVALENT) == (
                    found.low <= 0 <= found.high and -found.low <= 0.01 >= found.high
                )
                assert (found.holm_p < 0.05) == (found.low > 0 or found.high < 0)
    assert seen == set(Verdict)


def test_levels_step_down_for_rejected_arms_only() -> None:
    """p 0.0003 and 0.006 pass 0.05/3 and 0.05/2; p 0.3 does not pass 0.05 and keeps the level of all three."""
    judged = judge_arms({"wide": [0.02, -0.01, 0.03], "far": [0.100, 0.101, 0.104], "near": [0.020, 0.022, 0.027]})
    assert judged["far"].p < judged["near"].p < 0.05 / 2 < judged["wide"].p
    levels = {name: found.level for name, found in judged.items()}
    assert levels == pytest.approx({"far": 1 - 0.05 / 3, "near": 1 - 0.05 / 2, "wide": 1 - 0.05 / 3})
    expected = stats.ttest_1samp([0.020, 0.022, 0.027], 0).confidence_interval(1 - 0.05 / 2)
    assert (judged["near"].low, judged["near"].high) == pytest.approx((expected.low, expected.high))


def test_verdict_waits_for_three_seeds_and_for_validation_to_level_off() -> None:
    clear = [0.10, 0.11, 0.105]
    assert judge_arms({"arm": clear})["arm"].verdict == Verdict.BETTER
    assert judge_arms({"arm": [-value for value in clear]})["arm"].verdict == Verdict.WORSE
    assert judge_arms({"arm": clear}, still_rising={"arm"})["arm"].verdict == Verdict.INCONCLUSIVE
    two = judge_arms({"arm": [0.1, 0.1001]})["arm"]
    assert two.p < 0.05
    assert (two.verdict, two.seeds) == (Verdict.INCONCLUSIVE, 2)
    assert judge_arms({"arm": [0.1]})["arm"].verdict == Verdict.INCONCLUSIVE
    assert judge_arms({"arm": [0.0, 0.0]})["arm"].verdict == Verdict.INCONCLUSIVE


def test_equivalence_is_within_the_margin_given() -> None:
    small = [0.002, -0.001, 0.001, 0.0]
    assert judge_arms({"arm": small})["arm"].verdict == Verdict.EQUIVALENT
    assert judge_arms({"arm": small}, margin=0.001)["arm"].verdict == Verdict.INCONCLUSIVE
    assert judge_arms({"arm": [0.0, 0.0, 0.0]})["arm"].verdict == Verdict.EQUIVALENT
    assert judge_arms({"arm": [0.1, 0.1, 0.1]})["arm"].verdict == Verdict.INCONCLUSIVE


def test_no_arms_and_unknown_arms() -> None:
    assert judge_arms({}) == {}
    with pytest.raises(ValueError, match="other is not"):
        judge_arms({"arm": [0.1, 0.2]}, still_rising={"other"})


@pytest.mark.parametrize("draws_at_once", [1, 1000, 1 << 21])
def test_class_bootstrap_equals_loop_over_resamples(draws_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdml.significance, "_BLOCK_DRAWS", draws_at_once)
    rng = np.random.default_rng(4)
    classes, differences = rng.integers(0, 9, 80) * 3 + 5, rng.normal(0.02, 0.5, (3, 80))
    names, draws, means = np.unique(classes), np.random.default_rng(7), []
    for _ in range(300):
        chosen = [names[position] for position in draws.integers(0, len(names), len(names))]
        queries = [query for name in chosen for query in np.flatnonzero(classes == name)]
        means.append(np.mean([differences[seed, query] for query in queries for seed in range(3)]))
    expected = np.percentile(means, [5, 95])
    assert class_bootstrap(differences, classes, level=0.9, resamples=300, seed=7) == pytest.approx(tuple(expected))
    assert class_bootstrap(differences.mean(0), classes, level=0.9, resamples=300, seed=7) == pytest.approx(tuple(expected))


def test_class_bootstrap_covers_new_classes_where_drawing_queries_would_not() -> None:
    """Forty classes of ten queries that share their class's effect; each query drawn by itself takes them for 400."""
    rng, runs, truth = np.random.default_rng(5), 250, 0.05
    covered = {"classes": 0, "queries": 0}
    for _ in range(runs):
        classes = np.repeat(np.arange(40), 10)
        differences = truth + rng.normal(0, 0.2, 40)[classes] + rng.normal(0, 0.1, 400)
        for name, units in (("classes", classes), ("queries", np.arange(400))):
            low, high = class_bootstrap(differences, units, resamples=400)
            covered[name] += low <= truth <= high
    assert covered["classes"] / runs > 0.95 - 4 * math.sqrt(0.95 * 0.05 / runs)
    assert covered["queries"] / runs < 0.7


def test_class_bootstrap_of_a_single_class_says_nothing() -> None:
    assert class_bootstrap([0.1, 0.2, 0.3], [4, 4, 4]) == (-math.inf, math.inf)


def test_class_bootstrap_needs_a_class_for_each_query() -> None:
    with pytest.raises(ValueError, match=r"each of the 3 queries needs one class, but the classes have shape \(2,\)"):
        class_bootstrap([0.1, 0.2, 0.3], [1, 2])
