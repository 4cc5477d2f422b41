"""The curves of a run."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from hdml.curves import PANELS, running_mean, write_curves
from hdml.diagnostics import Spread, StepFigures
from hdml.run import write_record
from indexing.errors import HdmlError
from tests.hdml.elements import Elements


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_record(tmp_path / "mine", {"config": {"loss": "npair", "method": "hdml", "steps": 9}})
    return tmp_path / "mine"


def test_everything_that_is_logged_is_drawn() -> None:
    drawn = {key for _, names in PANELS for key in names}
    assert drawn == {field.name for part in (StepFigures, Spread) for field in fields(part)} | {"recall_at_1", "map_at_r"}


def test_page_holds_its_curves_and_needs_nothing_else(run: Path) -> None:
    rows = [{"step": step, "metric_loss": 3.5 - step, "pulling_share": None, "validation": None} for step in range(3)]
    rows[-1]["validation"] = {"map_at_r": 0.25, "recall_at_k": {"1": 0.5}}
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_curves(run).read_text()
    assert "mine: npair, hdml, 3 of 9 steps" in page
    assert "J_m, real tuples" in page
    assert "MAP@R" in page
    assert '"name":"J_syn, synthetic tuples"' not in page, "nothing was logged of it"
    assert Elements(page).addresses() == []


def test_run_without_a_step_is_refused(run: Path) -> None:
    with pytest.raises(HdmlError, match=r"at least one step, but .*mine has logged none"):
        write_curves(run)


def test_running_mean_begins_with_what_there_is() -> None:
    assert running_mean([1.0, 3.0, 5.0, 7.0], 2) == [1.0, 2.0, 4.0, 6.0]
