"""Install hdml, editable, into a virtual environment: what the Makefile runs, with nothing but the standard library.

It has to parse on old Pythons, to be able to say that a newer one is needed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

LEAST_PYTHON = (3, 11)
LEAST_FREE = 10 * 10**9  # bytes: the environment unpacks to 8 GB, most of it CUDA libraries
CONSTRAINTS = "constraints.txt"


def main() -> None:
    """Check the machine, make the environment unless it is there, and install into it."""
    parser = argparse.ArgumentParser(description="Install hdml, editable, into a virtual environment.")
    parser.add_argument("venv", type=Path, help="folder of the environment; made when it does not exist")
    parser.add_argument("--dev", action="store_true", help="what the tests and checks need, too")
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        make_environment(arguments.venv)
        install(arguments.venv, dev=arguments.dev)
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd))
        sys.exit(f"error: the installation stopped at: {command}; run make again, or make clean to start afresh")
    print(f"installed in {time.monotonic() - started:.0f} s")


def make_environment(venv: Path) -> None:
    """A virtual environment with uv, the installer of everything else."""
    python = venv / "bin" / "python"
    if not python.exists():
        reason = obstacle(
            sys.version_info[:2],
            has_venv=importlib.util.find_spec("ensurepip") is not None,
            free=shutil.disk_usage(venv.resolve().parent).free,
        )
        if reason:
            sys.exit("error: " + reason)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    if not (venv / "bin" / "uv").exists():
        quiet = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([python, "-m", "pip", "install", *quiet, "--constraint", CONSTRAINTS, "uv"], check=True)


def obstacle(python: tuple[int, ...], *, has_venv: bool, free: int) -> str | None:
    """Why an environment cannot be made here, as a sentence that says what to do; None when it can.

    Args:
        python: version of the running Python, major and minor.
        has_venv: whether that Python can make environments with pip in them; Debian's cannot as it comes.
        free: bytes free on the disk of the environment.
    """
    if python < LEAST_PYTHON:
        found = ".".join(map(str, python))
        return f"hdml needs Python 3.11 or newer, but python3 is {found}; name a newer one, as in: make PYTHON=python3.12"
    if not has_venv:
        return "python3 must be able to make virtual environments, but has no ensurepip; on Debian: apt install python3-venv"
    if free < LEAST_FREE:
        return (
            f"installing takes {LEAST_FREE / 1e9:.0f} GB of disk, but {free / 1e9:.1f} GB are free; free some and run make again"
        )
    return None


def install(venv: Path, *, dev: bool) -> None:
    """Install this folder's project at the versions of the constraints file, its build backend included."""
    command = [str(venv / "bin" / "uv"), "pip", "install", "--python", str(venv / "bin" / "python")]
    command += ["--constraints", CONSTRAINTS, "--build-constraints", CONSTRAINTS, "--editable", "."]
    subprocess.run([*command, "--group", "dev"] if dev else command, check=True, env=uv_environment(venv))


def uv_environment(venv: Path) -> dict[str, str]:
    """This process's variables, and what uv would not find out by itself."""
    variables = dict(os.environ)
    cache = Path(output_of(venv, "uv", "cache", "dir"))
    cache.mkdir(parents=True, exist_ok=True)
    if cache.stat().st_dev != venv.stat().st_dev:
        variables.setdefault("UV_LINK_MODE", "copy")  # links cannot cross file systems; uv would try, and warn
    mirror = os.environ.get("PIP_INDEX_URL") or output_of(venv, "python", "-m", "pip", "config", "get", "global.index-url")
    if mirror and "UV_INDEX_URL" not in variables:
        variables.setdefault("UV_DEFAULT_INDEX", mirror)  # uv does not read pip's settings
    return variables


def output_of(venv: Path, program: str, *arguments: str) -> str:
    """What one of the environment's programs prints; empty when it fails, as pip does for a setting that is not set."""
    command = [str(venv / "bin" / program), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()


if __name__ == "__main__":
    main()
