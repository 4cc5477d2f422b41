"""``hdml compare``: from one command to a report, killed and run again, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdml.run import read_record, status_of
from tests.cli.conftest import Command
from tests.conftest import write_stranger

SMALL = ["--weights", "none", "--image-size", "32", "--steps", "4", "--classes-per-batch", "4"]
ARMS = ["untrained", "npair", "npair+hdml"]


def asked(shapes: Path, workspace: Path) -> list[str]:
    command = [str(Path(sys.executable).with_name("hdml")), "compare", str(shapes), "--json", "--workspace", str(workspace)]
    return [*command, "--arms", ",".join(ARMS), "--seeds", "2", *SMALL]


def untimed(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer less what the clock and the memory of the machine say."""
    arms = [{key: value for key, value in arm.items() if "seconds" not in key and "memory" not in key} for arm in answer["arms"]]
    # The verdict names the cheapest arm, by the clock.
    return {key: value for key, value in answer.items() if key not in ("report", "verdict")} | {"arms": arms}


@pytest.fixture(scope="module")
def finished(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A comparison that nothing interrupted: its folder, and what it answered."""
    workspace = tmp_path_factory.mktemp("whole")
    told = subprocess.run(asked(shapes, workspace), check=True, stdout=subprocess.PIPE, text=True).stdout
    return workspace / "comparisons" / "shapes", json.loads(told.splitlines()[-1])


def test_answer_has_every_arm_with_every_seed(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, answer = finished
    assert answer["report"] == str(folder / "report.html")
    assert [arm["name"] for arm in answer["arms"]] == ARMS
    for arm in answer["arms"]:
        slug = arm["name"].replace(" ", "_")
        records = [read_record(folder / "runs" / f"{slug}-seed{seed}") for seed in range(2)]
        for measure, of in (
            ("recall_at_1", lambda after: after["recall_at_k"]["1"]),
            ("map_at_r", lambda after: after["map_at_r"]),
        ):
            seeds = [of(record["after"]) for record in records]
            assert arm[measure]["seeds"] == seeds
            assert arm[measure]["mean"] == pytest.approx(np.mean(seeds))
            assert arm[measure]["std"] == pytest.approx(np.std(seeds, ddof=1))
        assert arm["seconds"] == pytest.approx(np.mean([record["seconds"] for record in records]))


def test_differences_are_paired_by_seed(finished: tuple[Path, dict[str, Any]]) -> None:
    _, answer = finished
    by_name = {arm["name"]: arm for arm in answer["arms"]}
    against = {(pair["arm"], pair["against"]) for pair in answer["paired"]}
    assert against == {("npair+hdml", "npair"), ("untrained", "npair")}
    for pair in answer["paired"]:
        first, second = (by_name[pair[side]][pair["measure"]]["seeds"] for side in ("arm", "against"))
        assert pair["seeds"] == pytest.approx(np.subtract(first, second))
        assert pair["difference"] == pytest.approx(np.mean(pair["seeds"]))


def test_two_seeds_conclude_nothing(finished: tuple[Path, dict[str, Any]]) -> None:
    _, answer = finished
    assert answer["verdict"].startswith("With 2 seeds nothing can be concluded about hardness-aware training on these photos")
    assert {pair["verdict"] for pair in answer["paired"]} == {"inconclusive"}


def test_arms_of_one_seed_differ_in_their_own_settings_alone(finished: tuple[Path, dict[str, Any]]) -> None:
    """Batches and augmentation are functions of seed, step and these; the model's start of the seed (tests of training)."""
    folder, _ = finished
    configs = [read_record(folder / "runs" / f"{name}-seed1")["config"] for name in ("npair", "npair+hdml")]
    differing = {key for key in configs[0] if any(config[key] != configs[0][key] for config in configs)}
    assert differing == {"method"}
    assert configs[0]["seed"] == 1
    befores = [read_record(folder / "runs" / f"{name}-seed1")["before"] for name in ("untrained", "npair", "npair+hdml")]
    assert befores[0] == befores[1] == befores[2]


def test_report_is_written_as_page_text_and_json(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, answer = finished
    assert json.loads((folder / "report.json").read_text()) == answer
    assert answer["verdict"].split(". ")[1] in (folder / "report.html").read_text()
    assert "npair+hdml" in (folder / "report.md").read_text()


def test_killed_comparison_goes_on_without_redoing_and_reports_the_same(
    shapes: Path, tmp_path: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    runs = tmp_path / "comparisons" / "shapes" / "runs"
    process = subprocess.Popen(asked(shapes, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(status_of(run) == "training" for run in runs.glob("npair+hdml-seed0")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {run: (run / "run.json").stat().st_mtime_ns for run in runs.glob("*") if status_of(run) == "finished"}
    assert {run.name for run in done} == {"untrained-seed0", "npair-seed0"}
    told = subprocess.run(asked(shapes, tmp_path), check=True, stdout=subprocess.PIPE, text=True).stdout
    assert {run: (run / "run.json").stat().st_mtime_ns for run in done} == done
    assert untimed(json.loads(told.splitlines()[-1])) == untimed(finished[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--arms", "untrained"], "at least one arm that trains"),
        (["--arms", "npair,nothing"], "got 'nothing'"),
        (["--budget", "soon"], "--budget must be a time such as 90s, 30m or 2h, got soon."),
        (["--budget", "1s", *SMALL], "but the budget is 1 seconds"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(hdml: Command, shapes: Path, arguments: list[str], said: str) -> None:
    assert said in hdml("compare", shapes, *arguments, "--weights", "none").sentence


def test_network_that_embeds_no_images_is_refused_before_anything_trains(hdml: Command, shapes: Path, tmp_path: Path) -> None:
    stranger = write_stranger(tmp_path / "stranger.onnx", outputs=["tokens"])
    assert "must give float vectors" in hdml("compare", shapes, "--arms", f"npair,frozen {stranger}", *SMALL).sentence
    assert not (tmp_path / "workspace" / "comparisons").exists()


def test_folder_of_another_request_is_refused_with_what_differs(
    hdml: Command, shapes: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    folder, _ = finished
    sentence = hdml("compare", shapes, "--arms", ",".join(ARMS), "--seeds", 3, *SMALL, workspace=folder.parent.parent).sentence
    assert "holds a comparison with other seeds; choose another --name" in sentence
