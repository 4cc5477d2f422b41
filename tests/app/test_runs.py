"""The runs as their own files tell them: finished, under way, stopped, or damaged with the reason; and curves of any length."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.runs import thinned
from indexing.workspace import Workspace


def write_run(folder: Path, record: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def measures(value: float) -> dict[str, Any]:
    return {"recall_at_k": {"1": value, "2": value}, "map_at_r": value / 2, "nmi": value / 4}


RECORD = {
    "status": "finished",
    "started": "2026-01-02T03:04:05+00:00",
    "finished": "2026-01-02T04:04:05+00:00",
    "method": "hdml",
    "loss": "npair",
    "data": {"name": "mugs", "root": "/secret/place/mugs"},
    "config": {
        "backbone": "resnet18",
        "weights": "/secret/place/weights.safetensors",
        "steps": 6,
        "dimension": 16,
        "variants": [],
    },
    "before": measures(0.2),
    "after": measures(0.8),
    "chosen_step": 4,
    "lambda": 0.5,
    "seconds": 12.5,
}
ROWS = [
    {
        "step": step,
        "metric_loss": 3.0 - step / 10,
        "pulling_share": 1.0 - step / 10,
        "real_weight": 0.9,
        "validation": measures(step / 10) if step % 2 else None,
    }
    for step in range(6)
]


@pytest.fixture
def runs(workspace: Workspace) -> Path:
    write_run(workspace.runs_dir / "mine", RECORD, ROWS)
    return workspace.runs_dir


def find(client: TestClient, name: str) -> dict[str, Any]:
    (run,) = [run for run in client.get("/v1/runs").json()["runs"] if run["name"] == name]
    return dict(run)


@pytest.mark.usefixtures("runs")
def test_a_finished_run_tells_what_it_is_and_came_to(client: TestClient) -> None:
    run = find(client, "mine")
    assert (run["status"], run["step"], run["steps"], run["chosen_step"], run["lambda"]) == ("finished", 6, 6, 4, 0.5)
    assert (run["method"], run["loss"], run["backbone"], run["data"], run["seconds"]) == (
        "hdml",
        "npair",
        "resnet18",
        "mugs",
        12.5,
    )
    assert (run["before"]["recall_at_1"], run["after"]["recall_at_1"], run["after"]["map_at_r"]) == (0.2, 0.8, 0.4)
    assert run["weights"] == "weights.safetensors"
    assert "secret" not in client.get("/v1/runs").text + client.get("/v1/runs/mine").text


@pytest.mark.usefixtures("runs")
def test_curves_are_those_of_the_log(client: TestClient) -> None:
    curves = client.get("/v1/runs/mine").json()["curves"]
    for name in ("metric_loss", "pulling_share", "real_weight"):
        assert curves[name] == [[row["step"] + 1, row[name]] for row in ROWS]
    assert curves["recall_at_1"] == [[2, 0.1], [4, 0.3], [6, 0.5]]
    assert curves["map_at_r"] == [[2, 0.05], [4, 0.15], [6, 0.25]]
    assert "label_loss" not in curves


def test_the_index_that_a_run_serves_is_named_and_no_other(client: TestClient, runs: Path) -> None:
    assert find(client, "tiny")["serves"] == ["photos"]
    assert find(client, "mine")["serves"] == []
    shutil.copy(runs / "tiny" / "encoder.onnx", runs / "mine" / "encoder.onnx")
    assert find(client, "mine")["serves"] == ["photos"]
    (runs / "mine" / "encoder.onnx").write_bytes((runs / "tiny" / "encoder.onnx").read_bytes() + b" ")
    assert find(client, "mine")["serves"] == []


def test_a_run_under_way_has_its_progress_and_one_that_rests_is_stopped(client: TestClient, runs: Path) -> None:
    unfinished = {name: value for name, value in RECORD.items() if name not in ("finished", "after", "seconds")}
    run = write_run(runs / "going", {**unfinished, "status": "training"}, ROWS[:3])
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 3, "metr')
    found = find(client, "going")
    assert (found["status"], found["step"], found["steps"], found["after"]["map_at_r"]) == ("under way", 3, 6, None)
    assert len(client.get("/v1/runs/going").json()["curves"]["metric_loss"]) == 3
    for name in ("log.jsonl", "run.json"):
        os.utime(run / name, (time.time() - 3600,) * 2)
    assert find(client, "going")["status"] == "stopped"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "it has no run.json"),
        ("{", "its run.json is no JSON"),
        ("[" * 100_000, "its run.json is no JSON"),
        ("[1]", "its run.json holds no object"),
    ],
)
def test_a_damaged_run_is_listed_with_the_reason(client: TestClient, runs: Path, content: str | None, reason: str) -> None:
    (runs / "<b>torn").mkdir()
    if content is not None:
        (runs / "<b>torn" / "run.json").write_text(content)
    answer = client.get("/v1/runs").json()
    (damaged,) = answer["damaged"]
    assert (damaged["name"], damaged["reason"].startswith(reason)) == ("<b>torn", True)
    assert "mine" in [run["name"] for run in answer["runs"]]


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"config": [], "data": 3, "before": "x", "after": {"recall_at_k": [1]}, "lambda": "y", "started": 5, "feedback": [1]},
        {"lambda": float("nan"), "seconds": float("inf"), "chosen_step": 10**400, "config": {"weights": 3, "variants": [1, "a"]}},
    ],
)
def test_strange_records_are_shown_as_far_as_they_go(client: TestClient, runs: Path, record: dict[str, Any]) -> None:
    write_run(runs / "strange", record, [{"step": 0, "metric_loss": float("nan"), "validation": 3}])
    assert find(client, "strange")["lambda"] is None
    assert client.get("/v1/runs/strange").json()["curves"] == {}


@pytest.mark.parametrize("name", ["nothing", "%2e%2e%2fruns%2fmine", "%2fetc", ".hidden"])
def test_only_the_runs_there_are_can_be_asked_for(client: TestClient, runs: Path, name: str) -> None:
    write_run(runs / ".hidden", RECORD, ROWS)
    assert client.get(f"/v1/runs/{name}").status_code == 404


def test_long_curves_are_means_of_steps_of_equal_length() -> None:
    curve = [(step, float(step)) for step in range(1, 1001)]
    assert thinned(curve, 1000) == curve
    means = thinned(curve, 100)
    assert len(means) == 100
    assert means[0] == (10, 5.5)
    assert means[-1] == (1000, 995.5)


def test_nothing_of_it_needs_torch(workspace: Workspace) -> None:
    code = (
        "import sys; from pathlib import Path; from app.galleries import Galleries; from app.runs import list_runs; "
        "from indexing.workspace import Workspace; "
        f"print(len(list_runs(Galleries(Workspace(Path({str(workspace.root)!r}))))['runs']), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "False"]
