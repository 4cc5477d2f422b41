"""The command as a whole: its exit codes, what it says when something fails, and how little it loads to start."""

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.main import SentenceGroup, app
from indexing.errors import HdmlError, UnreadableImage

HDML = Path(sys.executable).with_name("hdml")


def full_database() -> sqlite3.OperationalError:
    """What SQLite raises when a database may not grow."""
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(sqlite3.OperationalError) as raised:
        connection.execute("CREATE TABLE items (id)")
    return raised.value


def failing_with(failure: BaseException) -> typer.Typer:
    """A program with hdml's kind of group and one command, ``fail``."""
    program = typer.Typer(cls=SentenceGroup, pretty_exceptions_enable=False)

    @program.callback()
    def start() -> None: ...

    @program.command()
    def fail() -> None:
        raise failure

    return program


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (HdmlError("a must hold, but b; do c"), 1, "error: a must hold, but b; do c\n"),
        (UnreadableImage("the file is empty"), 1, "error: the file is empty\n"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/a.pt"), 1, "error: runs/a.pt: the disk is full"),
        (full_database(), 1, "error: the disk is full"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_failure_of_the_users_world_becomes_a_sentence(failure: BaseException, code: int, said: str) -> None:
    result = CliRunner().invoke(failing_with(failure), ["fail"])
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "failure", [ValueError("ours"), OSError(errno.EACCES, "Permission denied"), sqlite3.OperationalError("x")]
)
def test_other_failure_keeps_its_traceback(failure: Exception) -> None:
    assert CliRunner().invoke(failing_with(failure), ["fail"]).exception is failure


def test_missing_index_is_a_sentence_of_the_real_command(tmp_path: Path) -> None:
    done = subprocess.run([HDML, "search", "q.jpg", "--workspace", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert str(tmp_path) in done.stderr


@pytest.mark.parametrize("arguments", [["search", "--no-such-option"], ["no-such-command"], ["index"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_no_argument_shows_help() -> None:
    output = CliRunner().invoke(app, []).output
    assert "Usage: " in output
    assert all(command.name in output for command in app.registered_commands if command.name)


def test_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"hdml {version('hdml')}\n")


def test_closed_pipe_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([HDML, "--version"], stdout=writing, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writing)
    assert done.stderr == ""


def test_start_loads_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "PIL", "onnxruntime", "faiss", "gradio", "fastapi", "rich", "plotly"}
    program = f"import sys, cli.main; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
