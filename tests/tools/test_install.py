"""What the Makefile's installer says and hands to uv; the installation itself is what ``make test`` begins with."""

from pathlib import Path

import pytest

from tools.install import LEAST_FREE, obstacle, uv_environment


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment whose uv knows only where its cache is, and whose pip knows only of a mirror."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, answer in (("uv", tmp_path / "cache"), ("python", "https://mirror.test/simple")):
        (programs / name).write_text(f"#!/bin/sh\necho {answer}\n")
        (programs / name).chmod(0o755)
    return tmp_path / ".venv"


@pytest.fixture(autouse=True)
def plain_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_LINK_MODE", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)


def test_good_machine_has_no_obstacle() -> None:
    assert obstacle((3, 11), has_venv=True, free=LEAST_FREE) is None


@pytest.mark.parametrize(
    ("python", "has_venv", "free", "said"),
    [
        ((3, 10), True, LEAST_FREE, "3.11 or newer, but python3 is 3.10"),
        ((3, 11), False, LEAST_FREE, "apt install python3-venv"),
        ((3, 13), True, LEAST_FREE - 10**9, "takes 10 GB of disk, but 9.0 GB are free"),
    ],
)
def test_obstacle_is_a_sentence_that_says_what_to_do(python: tuple[int, int], has_venv: bool, free: int, said: str) -> None:
    reason = obstacle(python, has_venv=has_venv, free=free)
    assert reason is not None
    assert said in reason


def test_uv_is_told_of_pips_mirror(environment: Path) -> None:
    assert uv_environment(environment)["UV_DEFAULT_INDEX"] == "https://mirror.test/simple"


@pytest.mark.parametrize("name", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_uvs_own_mirror_wins(environment: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "https://own.test/simple")
    variables = uv_environment(environment)
    assert variables[name] == "https://own.test/simple"
    assert "https://mirror.test/simple" not in variables.values()


def test_files_are_copied_only_from_a_cache_on_another_disk(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "UV_LINK_MODE" not in uv_environment(environment)
    other = Path("/dev/shm")
    if not other.exists() or other.stat().st_dev == environment.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    (environment / "bin" / "uv").write_text(f"#!/bin/sh\necho {other}\n")
    assert uv_environment(environment)["UV_LINK_MODE"] == "copy"
