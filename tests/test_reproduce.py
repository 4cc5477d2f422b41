"""The commands of docs/reproduce.md: what each is configured to do, to the last field, and every loss of them run to its end.

The snapshot is written anew by ``HDML_WRITE_SNAPSHOT=1 pytest tests/test_reproduce.py``; read the difference first.
"""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import cli.training
from cli.main import app
from hdml.run import read_record
from tests.hdml.public_copies import write_cars196_one_list, write_cub200, write_sop
from tests.hdml.test_public_sets import SMALL

SNAPSHOT = Path(__file__).parent / "snapshots" / "reproduce.json"
DOCUMENT = Path(__file__).parents[1] / "docs" / "reproduce.md"
COMMANDS = [line.strip() for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("    hdml train")]
WRITERS = {"cub200": write_cub200, "cars196": write_cars196_one_list, "sop": write_sop}


@pytest.fixture(autouse=True)
def _small_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdml.public_sets.PUBLISHED", SMALL)


def on_a_small_copy(command: str, folder: Path, *more: str) -> list[str]:
    """The command's words with a small copy of its data set, and random weights: ImageNet's are not at hand."""
    words = shlex.split(command)[1:]
    name = words[1]
    WRITERS[name](folder / name)
    words[words.index("--root") + 1] = str(folder / name)
    words[words.index("--weights") + 1] = "none"
    return [*words, *more, "--workspace", str(folder / "workspace"), "--run", "mine"]


def planned(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configuration that a command plans, without training."""

    def stop(*_: object, **__: object) -> None:
        raise typer.Exit

    monkeypatch.setattr(cli.training, "carry_out", stop)
    result = CliRunner().invoke(app, on_a_small_copy(command, folder))
    assert result.exit_code == 0, result.output
    config: dict[str, Any] = read_record(folder / "workspace" / "runs" / "mine")["config"]
    return config


def test_document_has_a_command_for_every_row_of_every_data_set() -> None:
    assert len(COMMANDS) == len(set(COMMANDS)) == 7 * 3


def test_every_command_is_configured_as_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {command: planned(command, tmp_path / str(number), monkeypatch) for number, command in enumerate(COMMANDS)}
    if os.environ.get("HDML_WRITE_SNAPSHOT"):
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    assert found == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("command", COMMANDS[:7])
def test_every_row_runs_to_its_end(command: str, tmp_path: Path) -> None:
    """On a small copy of CUB, with a small network and two steps."""
    quick = ("--backbone", "resnet18", "--image-size", "32", "--steps", "2", "--json")
    result = CliRunner().invoke(app, on_a_small_copy(command, tmp_path, *quick))
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout.splitlines()[-1])
    assert 0 <= answer["after"]["recall_at_k"]["1"] <= 1
    assert Path(answer["encoder"]).is_file()
