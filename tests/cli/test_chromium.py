"""Which browser the page's tests take; the browsers here are small programs that only answer --version."""

from pathlib import Path

import pytest

from cli.chromium import VARIABLE, find_chromium
from indexing.errors import HdmlError


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, on a machine without any browser."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "none"))
    monkeypatch.setattr("cli.chromium.NAMES", ("chromium", "chromium-browser", "google-chrome"))
    return folder


def browser(path: Path, *, exit_code: int = 0) -> Path:
    path.write_text(f"#!/bin/sh\nexit {exit_code}\n")
    path.chmod(0o755)
    return path


def test_variable_comes_first(empty_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser(empty_machine / "chromium")
    named = browser(empty_machine / "mine")
    monkeypatch.setenv(VARIABLE, str(named))
    assert find_chromium() == named


@pytest.mark.parametrize("name", ["missing", "stub"])
def test_variable_that_names_no_browser_is_an_error(empty_machine: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    browser(empty_machine / "chromium")
    stub = browser(empty_machine / "stub", exit_code=1)
    monkeypatch.setenv(VARIABLE, str(stub.with_name(name)))
    with pytest.raises(HdmlError, match=name):
        find_chromium()


def test_stub_that_does_not_start_is_passed_over(empty_machine: Path) -> None:
    browser(empty_machine / "chromium-browser", exit_code=1)
    chrome = browser(empty_machine / "google-chrome")
    assert find_chromium() == chrome


@pytest.mark.usefixtures("empty_machine")
def test_machine_without_a_browser_has_none() -> None:
    assert find_chromium() is None
