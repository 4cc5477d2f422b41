"""Runs carried out in processes of their own, one or several at a time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hdml.cells import Cell, carry_out_cells
from hdml.fit import plan_run
from hdml.run import status_of
from hdml.watcher import Silent
from indexing.errors import HdmlError


class Heard(Silent):
    def __init__(self) -> None:
        self.steps: dict[str, list[int]] = {}

    def cell_step(self, cell: str, done: int, total: int) -> None:
        self.steps.setdefault(cell, []).append(done)


def planned(shapes: Path, folder: Path, count: int, steps: int = 3) -> list[Cell]:
    runs = [folder / f"run{number}" for number in range(count)]
    for run in runs:
        plan_run(
            shapes, run, watcher=Silent(), weights="none", image_size=32, steps=steps, classes_per_batch=4, test_classes="half"
        )
    return [Cell(run, frozen=None) for run in runs]


def test_next_run_is_asked_for_when_a_process_is_free_for_it(shapes: Path, tmp_path: Path) -> None:
    cells, heard = planned(shapes, tmp_path, 3), Heard()
    finished_before = []

    def asked() -> Iterator[Cell]:
        for cell in cells:
            finished_before.append(sum(status_of(other.run) == "finished" for other in cells))
            yield cell

    carry_out_cells(asked(), device="cpu", jobs=2, watcher=heard)
    assert finished_before[:2] == [0, 0]
    assert finished_before[2] >= 1
    assert heard.steps == {cell.run.name: [1, 2, 3] for cell in cells}
    assert {status_of(cell.run) for cell in cells} == {"finished"}


def test_failure_is_told_in_its_own_words_and_ends_the_runs_beside_it(shapes: Path, tmp_path: Path) -> None:
    cells = planned(shapes, tmp_path, 2, steps=100_000)
    record = cells[1].run / "run.json"
    record.write_text(record.read_text().replace('"digest": "', '"digest": "0'))
    with pytest.raises(HdmlError, match="A run goes on with the photos it began with"):
        carry_out_cells(cells, device="cpu", jobs=2, watcher=Heard())
    assert status_of(cells[0].run) == "training"
