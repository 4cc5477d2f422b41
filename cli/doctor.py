"""``hdml doctor``: what is installed, what it really computes on, how much room there is, and what to do about what is wrong."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer

from cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

PROBED = ("torch", "onnxruntime", "faiss")
# A package may come under either of two names: with GPU support on Linux x86-64, without elsewhere.
PACKAGES = {
    "hdml": ("hdml",),
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "faiss": ("faiss-gpu", "faiss-cpu"),
    "gradio": ("gradio",),
    "pillow": ("pillow",),
}
LEAST_FREE = 10**9  # bytes of disk: below, neither a run nor an index can be counted on to fit
LEAST_MEMORY = 2 * 10**9  # bytes: training the default network takes more than one
_PROBE_SECONDS = 60
_REINSTALL = 'install hdml again, into a fresh virtual environment: "make clean install", or pip install'


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was looked at.
        state: ``"ok"``; ``"note"``: hdml works, with less than it could have; ``"broken"``: hdml needs it.
        found: what was found.
        advice: what to do about it, empty when there is nothing to do.
        device: ``"cpu"`` or ``"cuda"`` of a library that computes; None of everything else and of a broken library.
    """

    name: str
    state: Literal["ok", "note", "broken"]
    found: str
    advice: str = ""
    device: str | None = None


def doctor(workspace: WorkspaceOption = DEFAULT_WORKSPACE, json_output: JsonOption = False) -> None:
    """Tell what is installed, which devices are really used, how much room there is, and what to do about what is wrong.

    Exits with 1 when something that hdml needs is broken.

    Example: hdml doctor
    """
    versions = installed_versions()
    checks = examine(workspace, versions)
    healthy = all(check.state != "broken" for check in checks)
    if json_output:
        report = {"healthy": healthy, "versions": versions, "checks": [asdict(check) for check in checks]}
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        _show(checks, versions)
    if not healthy:
        raise typer.Exit(1)


def installed_versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that matter most, None for one that is missing; imports none of them."""
    found = {name: next(filter(None, map(_version, candidates)), None) for name, candidates in PACKAGES.items()}
    return {"python": sys.version.split()[0], **found}


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine(workspace: Path, versions: Mapping[str, str | None]) -> list[Check]:
    """Every check, the libraries at the same time."""
    with ThreadPoolExecutor() as pool:
        libraries = list(pool.map(try_library, PROBED))
    missing = [name for name in PACKAGES if versions[name] is None and name not in PROBED]
    return [
        *libraries,
        *(Check(name, "broken", "not installed", _REINSTALL) for name in missing),
        check_disk(workspace),
        check_memory(),
        check_workspace(workspace),
        check_chromium(),
    ]


def try_library(name: str) -> Check:
    """Use a library in an interpreter of its own, so that its crash is a line of the report and not the end of it."""
    # -P: a file of the user's own, such as app.py in the current folder, must not be imported in place of ours.
    command = [sys.executable, "-P", "-m", "cli.probes", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return Check(name, "broken", f"did not answer within {_PROBE_SECONDS} s", _REINSTALL)
    said = done.stderr.strip().splitlines()
    if done.returncode < 0:
        return Check(name, "broken", f"crashed with signal {-done.returncode}", _REINSTALL)
    if done.returncode != 0:
        return Check(name, "broken", said[-1] if said else f"ended with exit code {done.returncode}", _REINSTALL)
    return judge_library(name, json.loads(done.stdout), said)


def judge_library(name: str, evidence: Mapping[str, str], said: list[str]) -> Check:
    """Whether the device that a library computed on is the one that this machine has to offer.

    Args:
        name: of the library.
        evidence: its probe's answer, see cli.probes.Evidence.
        said: lines that it wrote to standard error, the reason for a silent fall-back among them.
    """
    from indexing.device import cuda_device_count

    device, detail = evidence["device"], evidence["detail"]
    found = f"computes on {device}"
    if name == "torch":
        found += f"; ImageNet weights on disk: {detail or 'none, --weights imagenet downloads them'}"
    elif detail:
        found += f" ({detail})"
    if device == "cpu" and (gpus := cuda_device_count()):
        advice = f"{gpus} GPU(s) here, but {name} does not use one: update the NVIDIA driver, then install hdml again"
        return Check(name, "note", found, ": ".join([advice, *said[-1:]]), device)
    return Check(name, "ok", found, device=device)


def check_disk(workspace: Path) -> Check:
    """Free room on the file system where the workspace is, or will be."""
    free = shutil.disk_usage(_nearest(workspace)).free
    found = f"{free / 1e9:.1f} GB free for {workspace}"
    if free < LEAST_FREE:
        return Check("disk", "broken", found, "free 1 GB or more, or choose another disk with --workspace")
    return Check("disk", "ok", found)


def check_memory() -> Check:
    """Memory that programs can still have."""
    from indexing.memory import available_memory

    available = available_memory()
    if available is None:
        return Check("memory", "ok", "this system does not tell how much is available")
    found = f"{available / 1e9:.1f} GB available"
    if available < LEAST_MEMORY:
        return Check("memory", "note", found, "close other programs, or train with fewer --classes-per-batch")
    return Check("memory", "ok", found)


def check_workspace(workspace: Path) -> Check:
    """Whether the workspace can be written to, and what it holds."""
    from indexing.workspace import Workspace

    folder = _nearest(workspace)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = f"{folder} cannot be written to: {error.strerror}"
        return Check("workspace", "broken", reason, "change its permissions, or choose another folder with --workspace")
    if not workspace.is_dir():
        return Check("workspace", "ok", f"{workspace} does not exist yet; the first run makes it")
    place = Workspace(workspace)
    runs, indexes = [run.name for run in place.finished_runs()], [index.name for index in place.indexes()]
    return Check("workspace", "ok", f"{workspace}: {_counted('finished run', runs)}; {_counted('index', indexes)}")


def check_chromium() -> Check:
    """The browser of the page's tests; nothing else needs it."""
    from cli.chromium import find_chromium
    from indexing.errors import HdmlError

    try:
        found = find_chromium()
    except HdmlError as error:
        return Check("chromium", "note", str(error))
    return Check("chromium", "ok", str(found or "none; only the page's tests need one, and make test installs it where it may"))


def _nearest(path: Path) -> Path:
    """The path itself, or the first above it that exists."""
    resolved = path.resolve()
    return next(place for place in (resolved, *resolved.parents) if place.exists())


def _counted(what: str, names: list[str]) -> str:
    plural = {"index": "indexes"}.get(what, f"{what}s")
    newest = f", the newest {names[0]}" if names else ""
    return f"{len(names) or 'no'} {what if len(names) == 1 else plural}{newest}"


def _show(checks: list[Check], versions: Mapping[str, str | None]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print("  ".join(f"{name} {number or 'missing'}" for name, number in versions.items()), markup=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    colours = {"ok": "green", "note": "yellow", "broken": "red"}
    for check in checks:
        table.add_row(Text(check.state, style=colours[check.state]), check.name, Text(check.found))
        if check.advice:
            table.add_row("", "", Text(f"→ {check.advice}", style="bold"))
    console.print(table)
