"""Running a command in this process, which saves the start of an interpreter, and a workspace that needs no training."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit code and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The object of the last line of standard output, as programs read it."""
        return dict(json.loads(self.stdout.splitlines()[-1]))

    @property
    def sentence(self) -> str:
        """What a failed command says: one line on standard error, told without a traceback; nothing on standard output."""
        assert self.code == 1, (self.code, self.stdout, self.stderr)
        errors = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, self.stderr
        assert self.stderr.endswith(errors[0] + "\n")
        return errors[0].removeprefix("error: ")


Command = Callable[..., Done]


@pytest.fixture
def workspace(tiny_run: Path) -> Path:
    """One with a finished run."""
    return tiny_run.parents[1]


@pytest.fixture
def hdml(tmp_path: Path) -> Command:
    """Run ``hdml ARGUMENTS`` in the workspace tmp_path/workspace, or another one; what is not foreseen is raised."""

    def run(*arguments: object, workspace: Path | None = None, stdin: bytes | None = None) -> Done:
        words = [*map(str, arguments), "--workspace", str(workspace or tmp_path / "workspace")]
        result = CliRunner().invoke(app, words, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return run
