"""What a comparison costs, from timed steps, and what it has to leave out to fit a budget."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hdml.arms import ArmSpec, trials
from hdml.config import TrainConfig
from hdml.measure import evaluate_network_on, measured_photos
from hdml.model import EncoderNetwork
from hdml.run import read_record
from hdml.run_photos import read_run_photos
from hdml.trainee import Trainee, choose_autocast, make_loss, starting_backbone, step_losses, update
from hdml.watcher import Silent
from indexing.errors import HdmlError

LEAST_SEEDS = 3
LEAST_ARMS = 2
LEAST_STEPS = 100
_WARM_UP = 2
_TIMED = 6
_START_SECONDS = 8.0  # imports


@dataclass(frozen=True)
class Costs:
    """Seconds on this machine: of a step with the loss alone and with HDML, and of a run's start and measuring."""

    plain_step: float
    hdml_step: float
    run: float


@dataclass(frozen=True)
class Plan:
    """What a comparison will run.

    Attributes:
        arms: names, in order.
        seeds: number of them.
        steps: of each run.
        hdml_step_cost: a step with HDML as a multiple of one without.
        dropped: what was left out for the budget, a sentence each.
    """

    arms: tuple[str, ...]
    seeds: int
    steps: int
    hdml_step_cost: float
    dropped: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Plan":
        return cls(**{**found, "arms": tuple(found["arms"]), "dropped": tuple(found["dropped"])})


def estimate(plan: Plan, specs: Sequence[ArmSpec], costs: Costs) -> float:
    """Seconds of a plan from nothing."""
    total = 0.0
    for spec in specs:
        if spec.name not in plan.arms:
            continue
        if not spec.trains:
            total += costs.run * plan.seeds
            continue
        longer = plan.hdml_step_cost if spec.equal_compute else 1.0
        step = costs.hdml_step if spec.is_hdml else costs.plain_step
        runs = plan.seeds + (len(trials(spec)) if spec.tuned else 0)
        total += runs * (costs.run + longer * plan.steps * step)
    return total


def within_budget(plan: Plan, specs: Sequence[ArmSpec], costs: Costs, budget: float) -> Plan:
    """The plan with as little left out as fits: arms first, the last ones first, then steps, then seeds.

    The first two arms that train stay (or all, if there are fewer), with three seeds, and as many steps as half of those planned,
    but no fewer than a hundred.

    Raises:
        HdmlError: not even that fits.
    """
    trained = [spec.name for spec in specs if spec.trains]
    keep = set(trained[:LEAST_ARMS]) | {spec.name for spec in specs if not spec.trains}
    dropped: list[str] = []
    for spec in reversed(specs):
        if estimate(plan, specs, costs) <= budget:
            return replace(plan, dropped=tuple(dropped))
        if spec.name not in keep:
            plan = replace(plan, arms=tuple(name for name in plan.arms if name != spec.name))
            dropped.append(f"Left out for the budget: the arm {spec.name}.")
    least = min(plan.steps, max(LEAST_STEPS, plan.steps // 2))
    fewest = min(plan.seeds, LEAST_SEEDS)
    for seeds in range(plan.seeds, fewest - 1, -1):
        fixed = estimate(replace(plan, steps=0, seeds=seeds), specs, costs)
        per_step = (estimate(replace(plan, steps=1000, seeds=seeds), specs, costs) - fixed) / 1000
        steps = min(plan.steps, math.floor((budget - fixed) / per_step))
        if steps >= least:
            if steps < plan.steps:
                dropped.append(f"Shortened for the budget: {steps} steps instead of {plan.steps}.")
            if seeds < plan.seeds:
                dropped.append(f"Left out for the budget: {plan.seeds - seeds} of {plan.seeds} seeds.")
            return replace(plan, steps=steps, seeds=seeds, dropped=tuple(dropped))
    needed = estimate(replace(plan, steps=least, seeds=fewest), specs, costs)
    raise HdmlError(
        f"A comparison that says anything needs {LEAST_ARMS} arms, {fewest} seeds and {least} steps, about "
        f"{_minutes(needed)} here, but the budget is {_minutes(budget)}; raise it, or lower --image-size."
    )


def measure_costs(plain: Path, hdml: Path, device: str) -> Costs:
    """Time steps of two planned runs, the loss alone and with HDML, and one measuring of the test photos."""
    where = torch.device(device)
    record = read_record(plain)
    config, with_hdml = TrainConfig(**record["config"]), TrainConfig(**read_record(hdml)["config"])
    began = time.monotonic()
    split, *_ = read_run_photos(plain, record, config, Silent())
    reading = time.monotonic() - began
    _, measured = measured_photos(split)
    network = EncoderNetwork(starting_backbone(config), None)
    began = time.monotonic()
    evaluate_network_on(network, measured, config.image_size, where)
    once = time.monotonic() - began
    validation = 0.0
    if split.validation_set is not None:  # among twice as many distractors
        validation = config.evaluations * once * 3 * len(split.validation_set.paths) / max(1, measured.size)
    return Costs(
        plain_step=_step_seconds(config, where),
        hdml_step=_step_seconds(with_hdml, where),
        run=_START_SECONDS + reading + once + validation,
    )


def timed_trainee(config: TrainConfig, device: torch.device) -> Trainee:
    """What a configuration trains, ready for steps on random images of ``classes_per_batch`` classes."""
    classes = config.classes_per_batch
    backbone = starting_backbone(config)
    loss = make_loss(config, classes_per_batch=classes, classes=classes)
    trainee = Trainee(backbone, config, loss=loss, classes=classes, window=64, device=device)
    trainee.train()
    return trainee


def _step_seconds(config: TrainConfig, device: torch.device) -> float:
    """Median seconds of a step on random images; the loader's threads work beside it in a real run."""
    trainee = timed_trainee(config, device)
    labels = torch.arange(config.classes_per_batch).repeat(config.photos_per_class)
    images = torch.randn(len(labels), 3, config.image_size, config.image_size).to(device, memory_format=torch.channels_last)
    seconds = []
    for _ in range(_WARM_UP + _TIMED):
        began = time.monotonic()
        update(trainee, step_losses(trainee, images, labels, autocast=choose_autocast(device)))
        seconds.append(time.monotonic() - began)
    return sorted(seconds[_WARM_UP:])[_TIMED // 2]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
