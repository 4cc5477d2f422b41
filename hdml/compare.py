"""``hdml compare``: which way to train pays on some photos, over arms and seeds, as a folder of runs and a report.

The folder holds ``comparison.json``, what was asked for and decided, and one run for every arm and seed. A finished run is never
done again, wherever it was done: copy run folders between machines, and say the same command.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hdml.arms import ArmSpec, arm_specs, trials
from hdml.budget import Plan, measure_costs, within_budget
from hdml.cells import Cell, CellWatcher, carry_out_cells
from hdml.comparison import MEASURES, Arm, Comparison, Paired, conclude, find_disagreements
from hdml.evaluate import QueryOutcomes
from hdml.fit import plan_run
from hdml.outcomes import Outcomes, read_outcomes
from hdml.run import SPLIT, read_log, read_record, read_split, status_of, write_lists, write_record, write_whole
from hdml.significance import MARGIN, class_bootstrap, judge_arms
from hdml.sources import read_photos
from hdml.watcher import Watcher
from indexing.errors import HdmlError
from indexing.foreign import open_encoder

COMPARISON = "comparison.json"
_JUDGED = ("map_at_r", "recall_at_1")
_USES = {"train": "to learn", "validation": "to choose the step", "test": "to test"}
_SHOWN_SEED = 0  # position of the seed whose answers are shown


@dataclass(frozen=True)
class Request:
    """What a comparison is asked for.

    Attributes:
        data: folder, manifest, or where ``data_set`` lies.
        arms: names of arms.
        seeds: number of seeds, from 0.
        settings: of :func:`hdml.fit.plan_run`, the same for all arms.
        steps: of every arm; None as :func:`hdml.fit.plan_run` decides.
        budget: seconds; None for none.
        data_set: one of :data:`hdml.public_sets.PUBLISHED`.
    """

    data: Path
    arms: tuple[str, ...]
    seeds: int
    settings: Mapping[str, Any]
    steps: int | None = None
    budget: float | None = None
    data_set: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As kept in comparison.json, to tell whether a folder is this request's."""
        asked = {"data": str(self.data.resolve()), "arms": list(self.arms), "seeds": self.seeds, "steps": self.steps}
        return {
            **asked,
            "data_set": self.data_set,
            "budget": self.budget,
            "settings": dict(self.settings),
        }


class CompareWatcher(CellWatcher, Watcher, Protocol):
    """Whoever is told how a comparison goes: its cells, and what is read while runs are planned."""


def compare(
    request: Request,
    folder: Path,
    *,
    device: str,
    watcher: CompareWatcher,
    jobs: int = 1,
) -> Comparison:
    """Run what is missing of a comparison, then judge it.

    Args:
        folder: of this comparison, made when missing.
        jobs: how many runs are carried out at once.

    Raises:
        HdmlError: an arm cannot be, the folder is another request's, the budget is too small, or a run cannot be done.
    """
    specs = arm_specs(request.arms)
    if not any(spec.trains for spec in specs):
        raise HdmlError("A comparison needs at least one arm that trains; add one to --arms.")
    for spec in specs:
        if spec.frozen is not None and spec.frozen.encoder is not None:
            open_encoder(spec.frozen.encoder, device="cpu")  # what is wrong with it is told before anything trains
    if request.settings.get("test_classes") is None and not read_photos(request.data, request.data_set).parts:
        request = replace(request, settings={**request.settings, "test_classes": "half"})
    decided = _decided(request, specs, folder, device=device, watcher=watcher)
    kept = [spec for spec in specs if spec.name in decided.arms]
    planned = _Cells(decided, request, folder, watcher)
    carry_out_cells(planned.trials(kept), device=device, jobs=jobs, watcher=watcher)
    carry_out_cells(planned.of_seeds(kept), device=device, jobs=jobs, watcher=watcher)
    return _judge(kept, decided, request, folder)


def _decided(
    request: Request,
    specs: Sequence[ArmSpec],
    folder: Path,
    *,
    device: str,
    watcher: CompareWatcher,
) -> Plan:
    """The plan of an earlier start of the same request, else a new one, written down before anything is run."""
    file = folder / COMPARISON
    if file.exists():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["request"] != request.to_json():
            changed = sorted(key for key, value in request.to_json().items() if found["request"].get(key) != value)
            raise HdmlError(f"{folder} holds a comparison with other {', '.join(changed)}; choose another --name.")
        return Plan.from_json(found["plan"])
    folder.mkdir(parents=True, exist_ok=True)
    needs_costs = request.budget is not None or any(spec.equal_compute for spec in specs)
    probes = {method: folder / "probes" / method for method in (("plain", "hdml") if needs_costs else ("plain",))}
    for method, probe in probes.items():
        if status_of(probe) is None:
            settings = {**request.settings, "steps": request.steps, "method": method}
            plan_run(request.data, probe, watcher=watcher, data_set=request.data_set, **settings)
    costs = None
    if needs_costs:
        watcher.say("Timing some steps.")
        costs = measure_costs(probes["plain"], probes["hdml"], device)
    plan = Plan(
        arms=tuple(spec.name for spec in specs),
        seeds=request.seeds,
        steps=int(read_record(probes["plain"])["config"]["steps"]),
        hdml_step_cost=costs.hdml_step / costs.plain_step if costs else 1.0,
    )
    if request.budget is not None and costs is not None:
        plan = within_budget(plan, specs, costs, request.budget)
        for sentence in plan.dropped:
            watcher.say(sentence)
    decision = {"request": request.to_json(), "plan": plan.to_json()}
    write_whole(file, json.dumps(decision, indent=2, ensure_ascii=False) + "\n")
    watcher.say(f"{sum(spec.trains for spec in specs)} arms that train, {plan.seeds} seeds, {plan.steps} steps each.")
    return plan


@dataclass(frozen=True)
class _Cells:
    """Plans the runs of a comparison, one by one as they are asked for, and leaves out the finished ones."""

    plan: Plan
    request: Request
    folder: Path
    watcher: CompareWatcher

    def trials(self, specs: Sequence[ArmSpec]) -> Iterator[Cell]:
        """The runs that tuned arms choose by, under the first seed."""
        for spec in specs:
            if spec.tuned:
                for number, trial in enumerate(trials(spec)):
                    yield from self._planned(self._trial_folder(spec, number), spec, 0, trial)

    def of_seeds(self, specs: Sequence[ArmSpec]) -> Iterator[Cell]:
        """Every arm under every seed, once the trials are finished."""
        for seed in range(self.plan.seeds):
            for spec in specs:
                yield from self._planned(cell_folder(self.folder, spec, seed), spec, seed, self._chosen(spec))

    def _planned(self, run: Path, spec: ArmSpec, seed: int, chosen: Mapping[str, Any]) -> Iterator[Cell]:
        if status_of(run) == "finished":
            return
        if status_of(run) is None:
            request, steps = self.request, self.plan.steps
            steps = round(steps * self.plan.hdml_step_cost) if spec.equal_compute else steps
            # Two photos of each class in every arm, so that the arms of one seed see the same batches.
            settings = {**request.settings, "photos_per_class": 2, "steps": steps, "seed": seed, **spec.settings, **chosen}
            plan_run(request.data, run, watcher=self.watcher, data_set=request.data_set, **settings)
            _measure_before_once(run)
        self.watcher.say(f"{spec.name}, seed {seed}")
        yield Cell(run, spec.frozen)

    def _chosen(self, spec: ArmSpec) -> Mapping[str, Any]:
        """The settings of the trial whose model did best on validation classes; test classes choose nothing."""
        if not spec.tuned:
            return {}
        settings = trials(spec)
        scores = [max(_validation_scores(self._trial_folder(spec, number)), default=0.0) for number in range(len(settings))]
        return settings[int(np.argmax(scores))]

    def _trial_folder(self, spec: ArmSpec, number: int) -> Path:
        return self.folder / "runs" / f"{spec.slug}-trial{number}"


def _measure_before_once(run: Path) -> None:
    """Take what the untrained features reach from another run that begins with the same weights, when there is one."""
    record = read_record(run)
    config = record["config"]
    same = ("backbone", "weights", "image_size")
    for other in sorted(run.parent.glob("*/run.json")):
        found = read_record(other.parent)
        begins_alike = all(found["config"][key] == config[key] for key in same)
        begins_alike &= config["weights"] != "none" or found["config"]["seed"] == config["seed"]
        if "before" in found and "seen" not in found and begins_alike:
            write_lists(run / SPLIT, read_split(other.parent) or {})
            write_record(run, record | {key: found[key] for key in ("before", "measured_on", "classes", "data", "leaks")})
            return


def _judge(specs: Sequence[ArmSpec], plan: Plan, request: Request, folder: Path) -> Comparison:
    runs = {spec.name: [cell_folder(folder, spec, seed) for seed in range(plan.seeds)] for spec in specs}
    records = {name: [read_record(run) for run in found] for name, found in runs.items()}
    outcomes = {name: [read_outcomes(run) for run in found] for name, found in runs.items()}
    _check_alike(records)
    arms = tuple(_arm(spec, records[spec.name]) for spec in specs)
    rising = {spec.name for spec in specs if spec.trains and any(map(still_rising, runs[spec.name]))}
    paired = tuple(
        pair
        for reference, compared in comparisons(specs)
        for measure in _JUDGED
        for pair in _pairs(arms, outcomes, reference, compared, measure, rising)
    )
    method, reference = _main_pair(specs)
    first = {name: found[_SHOWN_SEED] for name, found in outcomes.items()}
    shown = next(iter(first.values()))
    record = records[reference][0]
    return Comparison(
        data=record["data"]["name"],
        photos=read_photos(request.data, request.data_set).root,  # a run may come from another machine
        method=method,
        reference=reference,
        arms=arms,
        paired=paired,
        verdict=conclude(arms, paired, method=method, reference=reference),
        disagreements=find_disagreements({name: found.of_queries for name, found in first.items()}, shown.paths, shown.labels),
        dropped=plan.dropped,
        protocol=_protocol(record, plan),
        command=command_of(request),
    )


def comparisons(specs: Sequence[ArmSpec]) -> list[tuple[str, list[str]]]:
    """Which arms are held against which: all against the first plain loss, every HDML arm against its own plain one, if that is
    another, and the method that the verdict is about against its controls.
    """
    method, reference = _main_pair(specs)
    against = [(reference, [spec.name for spec in specs if spec.name != reference])]
    names = {spec.name for spec in specs}
    for spec in specs:
        if spec.is_hdml and spec.plain in names - {reference}:
            against.append((spec.plain, [spec.name]))
    controls = [spec.name for spec in specs if spec.name not in (method, reference) and " " in spec.name and spec.trains]
    if controls and method != reference:
        against += [(control, [method]) for control in controls]
    return against


def _main_pair(specs: Sequence[ArmSpec]) -> tuple[str, str]:
    """The arm that the verdict is about, and the one that it is held against."""
    plain = [spec.name for spec in specs if spec.trains and not spec.is_hdml]
    aware = [spec for spec in specs if spec.is_hdml]
    if aware:
        own = [name for name in plain if name == aware[0].loss]
        others = [spec.name for spec in specs if spec.name != aware[0].name]
        return aware[0].name, (own or plain or others or [aware[0].name])[0]
    others = [spec.name for spec in specs if spec.name != plain[0]]
    return (others or plain)[0], plain[0]


def _pairs(
    arms: Sequence[Arm],
    outcomes: Mapping[str, Sequence[Outcomes]],
    reference: str,
    compared: Sequence[str],
    measure: str,
    rising: set[str],
) -> list[Paired]:
    values = {arm.name: np.array(arm.measured(measure)) for arm in arms}
    differences = {name: values[name] - values[reference] for name in compared}
    unsettled = {name for name in compared if name in rising or reference in rising}
    pairs = []
    for name, found in judge_arms(differences, still_rising=unsettled).items():
        low, high = _bootstrap(outcomes[name], outcomes[reference], measure)
        pairs.append(
            Paired(
                arm=name,
                against=reference,
                measure=measure,
                per_seed=tuple(differences[name].tolist()),
                difference=found.difference,
                low=found.low,
                high=found.high,
                level=found.level,
                p=found.holm_p,
                verdict=found.verdict,
                bootstrap_low=low,
                bootstrap_high=high,
                still_rising=name in unsettled,
            )
        )
    return pairs


def _bootstrap(arm: Sequence[Outcomes], reference: Sequence[Outcomes], measure: str) -> tuple[float, float]:
    def of(found: QueryOutcomes) -> np.ndarray:
        return found.average_precision_at_r if measure == "map_at_r" else found.hit_at_1.astype(float)

    per_query = np.stack([of(a.of_queries) - of(b.of_queries) for a, b in zip(arm, reference, strict=True)])
    asked = arm[0].of_queries.queries
    labels = np.array(arm[0].labels)[asked]
    return class_bootstrap(per_query, np.unique(labels, return_inverse=True)[1])


def _arm(spec: ArmSpec, records: Sequence[Mapping[str, Any]]) -> Arm:
    after = [record["after"] for record in records]
    peaks = [record["peak_memory"] for record in records if record["peak_memory"] is not None]
    return Arm(
        name=spec.name,
        description=spec.description,
        recall_at_1=tuple(found["recall_at_k"]["1"] for found in after),
        **{measure: tuple(found[measure] for found in after) for measure in MEASURES if measure != "recall_at_1"},
        seconds=tuple(record["seconds"] for record in records),
        peak_memory=max(peaks, default=None),
    )


def still_rising(run: Path) -> bool:
    """Whether the last stretch of training still brought more than the margin in validation's MAP@R."""
    scores = _validation_scores(run)
    return len(scores) > 1 and scores[-1] - max(scores[:-1]) > MARGIN


def _validation_scores(run: Path) -> list[float]:
    """MAP@R of the validation classes, each time that a run measured it."""
    return [row["validation"]["map_at_r"] for row in read_log(run) if row["validation"]]


def _check_alike(records: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Runs from several machines must be of the same photos."""
    digests = {(record["data"]["digest"]): name for name, found in records.items() for record in found}
    if len(digests) > 1:
        names = ", ".join(sorted(digests.values()))
        raise HdmlError(
            f"All runs of a comparison must be of the same photos, but those of {names} are not; remove the strangers."
        )


def _protocol(record: Mapping[str, Any], plan: Plan) -> dict[str, str]:
    config, classes = record["config"], record["classes"]
    return {
        "photos": f"{record['data']['name']}, hash {record['data']['digest']}",
        "classes": ", ".join(f"{len(classes[part])} {use}" for part, use in _USES.items()),
        "measured on": str(record["measured_on"]),
        "network": f"{config['backbone']} at {config['image_size']} px, starting weights {Path(config['weights']).name}",
        "batches": f"2 photos of each of {config['classes_per_batch']} classes, the same for all arms of a seed",
        "training": f"{plan.steps} steps, seeds 0 to {plan.seeds - 1}",
    }


def command_of(request: Request) -> str:
    """The command that asks for the same."""
    photos = [request.data_set, "--root", str(request.data)] if request.data_set else [str(request.data)]
    words = ["hdml", "compare", *photos, "--seeds", str(request.seeds), "--arms", ",".join(request.arms)]
    for key, value in request.settings.items():
        words += [f"--{key.replace('_', '-')}", str(value)] if value is not None else []
    words += ["--steps", str(request.steps)] if request.steps else []
    words += ["--budget", f"{request.budget:.0f}s"] if request.budget else []
    return shlex.join(words)


def cell_folder(folder: Path, spec: ArmSpec, seed: int) -> Path:
    return folder / "runs" / f"{spec.slug}-seed{seed}"
