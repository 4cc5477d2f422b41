"""hdml doctor, on this machine as it is and on broken ones."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

import indexing.memory
from cli import doctor
from cli.main import app


@pytest.fixture
def without_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying the libraries takes seconds; most tests look at something else."""
    monkeypatch.setattr(doctor, "PROBED", ())


def own_module(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Put a faiss.py in place of the installed one."""
    (folder / "faiss.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_this_installation_is_healthy(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--json", "--workspace", str(tmp_path)])
    report = json.loads(result.stdout)
    assert result.exit_code == 0, report
    assert report["healthy"] is True
    assert report["versions"]["torch"] == version("torch")
    devices = {check["name"]: check["device"] for check in report["checks"] if check["device"]}
    assert devices.keys() == {"torch", "onnxruntime", "faiss"}
    assert set(devices.values()) <= {"cpu", "cuda"}


@pytest.mark.usefixtures("without_libraries")
def test_report_is_a_readable_table(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--workspace", str(tmp_path / "new")])
    assert result.exit_code == 0
    assert f"pillow {version('pillow')}" in result.stdout.replace("\n", " ")
    for word in ("disk", "memory", "workspace", "chromium", "does not exist yet"):
        assert word in result.stdout


def test_library_that_cannot_be_imported_is_a_line_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_module(tmp_path, monkeypatch, "raise ImportError('libopenblas.so.0 is missing')")
    check = doctor.try_library("faiss")
    assert (check.state, check.device) == ("broken", None)
    assert check.found == "ImportError: libopenblas.so.0 is missing"
    assert check.advice


def test_library_that_crashes_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_module(tmp_path, monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    check = doctor.try_library("faiss")
    assert (check.state, check.found) == ("broken", "crashed with signal 11")


def test_library_that_never_answers_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_module(tmp_path, monkeypatch, "import time; time.sleep(600)")
    monkeypatch.setattr(doctor, "_PROBE_SECONDS", 1)
    check = doctor.try_library("faiss")
    assert (check.state, check.found) == ("broken", "did not answer within 1 s")


def test_users_own_file_is_not_taken_for_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("faiss", "cli", "indexing"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('the user wrote this')")
    monkeypatch.chdir(tmp_path)
    assert doctor.try_library("faiss").state == "ok"


def test_unused_gpu_is_noted_with_what_the_library_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexing.device.cuda_device_count", lambda: 2)
    evidence = {"device": "cpu", "detail": "CPUExecutionProvider"}
    check = doctor.judge_library("onnxruntime", evidence, ["first", "libcurand.so.10: cannot open"])
    assert (check.state, check.device) == ("note", "cpu")
    assert "2 GPU(s)" in check.advice
    assert check.advice.endswith("libcurand.so.10: cannot open")
    assert doctor.judge_library("onnxruntime", {**evidence, "device": "cuda"}, []).state == "ok"


@pytest.mark.usefixtures("without_libraries")
def test_missing_package_is_broken(tmp_path: Path) -> None:
    versions = {**doctor.installed_versions(), "gradio": None}
    broken = [check for check in doctor.examine(tmp_path, versions) if check.state == "broken"]
    assert [(check.name, check.found) for check in broken] == [("gradio", "not installed")]


@pytest.mark.usefixtures("without_libraries")
def test_workspace_that_cannot_be_made_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["doctor", "--json", "--workspace", str(tmp_path / "file" / "workspace")])
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    (broken,) = (check for check in report["checks"] if check["state"] == "broken")
    assert report["healthy"] is False
    assert broken["name"] == "workspace"
    assert str(tmp_path / "file") in broken["found"]
    assert "--workspace" in broken["advice"]


def test_workspace_tells_what_it_holds(tiny_run: Path) -> None:
    check = doctor.check_workspace(tiny_run.parent.parent)
    assert check.state == "ok"
    assert check.found.endswith("1 finished run, the newest tiny; no indexes")


def test_little_room_is_broken_for_the_disk_and_noted_for_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 10**18)
    monkeypatch.setattr(doctor, "LEAST_MEMORY", 10**18)
    monkeypatch.setattr(indexing.memory, "available_memory", lambda: 10**9)
    assert doctor.check_disk(tmp_path / "not" / "yet").state == "broken"
    assert (doctor.check_memory().state, doctor.check_memory().found) == ("note", "1.0 GB available")
