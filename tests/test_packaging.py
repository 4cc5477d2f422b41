"""The wheel: what is in it, and that it works from a folder whose own files have the names of our packages."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("hdml", "indexing", "cli", "app")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, built as it is now."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("hdml-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment that holds the wheel and borrows the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    where = sysconfig.get_path("purelib", vars={"base": str(folder)})
    # This environment's own .pth files, the one of the editable installation among them, are not read from there.
    Path(where, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel]
    subprocess.run(install, check=True)
    return folder / "bin"


@pytest.fixture
def crowded_folder(tmp_path: Path) -> Path:
    """A folder of the user's own, with files that have the names of our packages and must never be imported."""
    for name in (*PACKAGES, "tests", "benchmarks", "tools"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user wrote this file')\n")
    return tmp_path


def run_in(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def files_of(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    folders = {name.split("/")[0] for name in files_of(wheel)}
    assert folders - {name for name in folders if name.endswith(".dist-info")} == set(PACKAGES)


def test_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    files = (path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    wanted = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    assert {"cli/main.py", "hdml/py.typed"} <= wanted
    assert wanted - files_of(wheel) == set()


def test_wheel_holds_the_pages_styles_and_scripts(wheel: Path) -> None:
    """Whatever the page loads is a file beside its Python, which a build may leave out without anybody's noticing."""
    page = {name for name in files_of(wheel) if name.startswith("app/page/")}
    written = {path.relative_to(ROOT).as_posix() for path in (ROOT / "app" / "page").rglob("*") if path.is_file()}
    assert page == written
    assert {Path(name).suffix for name in page} >= {".css", ".js"}


def test_wheel_names_the_console_script_and_the_licence(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        about = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert "hdml = cli.main:main" in about["entry_points.txt"]
    assert about["LICENSE"].startswith("MIT License")


def test_installed_command_ignores_the_users_files_of_the_same_names(installed: Path, crowded_folder: Path) -> None:
    where = run_in(crowded_folder, installed / "python", "-P", "-c", "import cli; print(cli.__file__)").stdout
    assert Path(where).is_relative_to(installed.parent)
    for arguments in (["--help"], ["search", "--help"], ["serve", "--help"]):
        done = run_in(crowded_folder, installed / "hdml", *arguments)
        assert done.returncode == 0, done.stderr
        assert "Usage: " in done.stdout


def test_installed_command_imports_every_package_from_the_wheel(installed: Path, crowded_folder: Path) -> None:
    done = run_in(crowded_folder, installed / "hdml", "search", "q.jpg", "--workspace", "missing")
    assert done.stderr.startswith("error: the workspace missing must hold an index")
    names = "app.server, hdml.train, indexing.search"
    done = run_in(crowded_folder, installed / "python", "-P", "-c", f"import {names}; print('imported')")
    assert done.stdout == "imported\n", done.stderr


def test_doctor_starts_its_probes_from_the_wheel(installed: Path, crowded_folder: Path) -> None:
    done = run_in(crowded_folder, installed / "hdml", "doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["healthy"] is True
