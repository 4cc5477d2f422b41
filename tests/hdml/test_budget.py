"""What a budget leaves of a comparison."""

import pytest

from hdml.arms import arm_specs
from hdml.budget import Costs, Plan, estimate, within_budget
from indexing.errors import HdmlError

NAMES = ("untrained", "npair", "npair+hdml", "multi-similarity", "npair equal-compute")
SPECS = arm_specs(NAMES)
COSTS = Costs(plain_step=1.0, hdml_step=1.5, run=10.0)
PLAN = Plan(NAMES, seeds=4, steps=300, hdml_step_cost=1.5)


def test_estimate_is_the_sum_over_runs() -> None:
    runs = [10, 10 + 300, 10 + 450, 10 + 300, 10 + 450]
    assert estimate(PLAN, SPECS, COSTS) == 4 * sum(runs)


def test_tuned_arms_cost_their_trials() -> None:
    specs = arm_specs(["npair tuned"])
    assert estimate(Plan(("npair tuned",), 2, 100, 1.0), specs, COSTS) == (2 + 3) * 110


def test_plan_that_fits_is_left_alone() -> None:
    assert within_budget(PLAN, SPECS, COSTS, 1e9) == PLAN


def test_last_arms_go_first_and_are_told() -> None:
    plan = within_budget(PLAN, SPECS, COSTS, 4 * (10 + 310 + 460 + 310))
    assert plan.arms == NAMES[:4]
    assert (plan.seeds, plan.steps) == (4, 300)
    assert plan.dropped == ("Left out for the budget: the arm npair equal-compute.",)


def test_then_steps_then_seeds() -> None:
    shorter = within_budget(PLAN, SPECS, COSTS, 4 * (30 + 2.5 * 200))
    assert (shorter.arms, shorter.seeds, shorter.steps) == (NAMES[:3], 4, 200)
    fewer = within_budget(PLAN, SPECS, COSTS, 3 * (30 + 2.5 * 160))
    assert (fewer.seeds, fewer.steps) == (3, 160)
    assert fewer.dropped[-2:] == (
        "Shortened for the budget: 160 steps instead of 300.",
        "Left out for the budget: 1 of 4 seeds.",
    )


@pytest.mark.parametrize("budget", [3 * (30 + 2.5 * 150) + 1, 1500.0, 3000.0, 5000.0])
def test_what_is_left_fits(budget: float) -> None:
    assert estimate(within_budget(PLAN, SPECS, COSTS, budget), SPECS, COSTS) <= budget


def test_budget_for_nothing_sound_is_refused_with_an_estimate() -> None:
    with pytest.raises(HdmlError, match=r"2 arms, 3 seeds and 150 steps, about 20 minutes here, but the budget is 10 minutes"):
        within_budget(PLAN, SPECS, COSTS, 600.0)


def test_plan_survives_json() -> None:
    plan = within_budget(PLAN, SPECS, COSTS, 3000.0)
    assert Plan.from_json(plan.to_json()) == plan
