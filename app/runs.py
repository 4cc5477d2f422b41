"""The runs of the workspace as the page shows them, read from their own files: run.json and log.jsonl; never with torch."""

import json
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from app.galleries import Galleries
from indexing.checksum import checksum
from indexing.encoder import ENCODER, INT8_ENCODER
from indexing.errors import HdmlError, UnknownItem
from indexing.workspace import IndexInfo

RECORD, LOG = "run.json", "log.jsonl"
UNDER_WAY, STOPPED, FINISHED = "under way", "stopped", "finished"
_QUIET_S = 120.0  # since the last step was logged, after which a run is taken to have stopped
_POINTS = 400  # of a curve; what is denser is averaged
_LARGEST = 1e300  # of a number that is shown; neither infinity nor what is no number is below it
_TAIL = 1 << 16  # bytes of a log that its last step is looked for in
_LOGGED = (
    "metric_loss",
    "synthetic_loss",
    "reconstruction_loss",
    "label_loss",
    "classifier_loss",
    "pulling_share",
    "real_weight",
    "real_distance",
    "pulled_distance",
    "synthetic_distance",
    "label_preservation",
    "violations",
)
"""Names in a log (hdml.diagnostics.StepFigures) that curves are drawn of; those of the validation classes beside."""
_VALIDATION = {"recall_at_1": ("recall_at_k", "1"), "map_at_r": ("map_at_r",)}
_CONFIG = ("backbone", "image_size", "dimension", "steps", "setting", "classes_per_batch", "photos_per_class", "seed")

Curve = list[tuple[int, float]]


class UnknownRun(UnknownItem):
    """A request names a run that the workspace does not have."""


class DamagedRun(HdmlError):
    """A folder among the runs that cannot be read as one; the message is the reason."""


def make_router(galleries: Galleries) -> APIRouter:
    """The routes of the runs page."""
    router = APIRouter()

    @router.get("/v1/runs")
    def runs() -> dict[str, Any]:
        """All runs of the workspace, the last begun first, and folders among them that cannot be read, each with the reason."""
        return list_runs(galleries)

    @router.get("/v1/runs/{name}")
    def run(name: str) -> dict[str, Any]:
        """A run and its curves: losses, λ, the weight of real tuples, and the figures of the validation classes, by step."""
        # Compared with what there is: a name from the network must not become a path.
        found = next((folder for folder in _folders(galleries) if folder.name == name), None)
        if found is None:
            raise UnknownRun(f"the workspace has no run {name}")
        return {**summary(found, galleries.listed()), "curves": curves_of(found)}

    return router


def list_runs(galleries: Galleries) -> dict[str, Any]:
    """Summaries of the runs, the last begun first, and the damaged ones."""
    indexes, found, damaged = galleries.listed(), [], []
    for folder in _folders(galleries):
        try:
            found.append(summary(folder, indexes))
        except DamagedRun as error:
            damaged.append({"name": folder.name, "reason": str(error)})
    return {
        "runs": sorted(found, key=lambda run: (run["started"] or run["finished"] or "", run["name"]), reverse=True),
        "damaged": damaged,
    }


def _folders(galleries: Galleries) -> list[Path]:
    return sorted(path for path in galleries.workspace.runs_dir.glob("*") if path.is_dir() and not path.name.startswith("."))


def summary(run: Path, indexes: Iterable[IndexInfo]) -> dict[str, Any]:
    """What a run is, how far it is and what it came to; None for whatever its files do not tell.

    Raises:
        DamagedRun: the folder has no record, or one that cannot be read.
    """
    record = _record(run)
    status, step = _status(run, record)
    config = _part(record, "config")
    weights = config.get("weights")
    return {
        "name": run.name,
        "status": status,
        "step": step,
        "quiet_s": _quiet(run) if status != FINISHED else None,
        **{name: _text(record.get(name)) for name in ("method", "loss", "started", "finished", "measured_on")},
        "data": _text(_part(record, "data").get("name")),
        **{name: _scalar(config.get(name)) for name in _CONFIG},
        "weights": Path(weights).name if isinstance(weights, str) else None,
        "variants": [str(one) for one in config.get("variants") or [] if isinstance(one, str)],
        "chosen_step": _number(record, "chosen_step"),
        "lambda": _number(record, "lambda"),
        "seconds": _number(record, "seconds"),
        "before": _measures(record, "before"),
        "after": _measures(record, "after"),
        "feedback": record.get("feedback") if _is_plain(record.get("feedback")) else None,
        "encoder": (run / ENCODER).is_file(),
        "serves": _served(run, indexes),
    }


def _record(run: Path) -> dict[str, Any]:
    try:
        record = json.loads((run / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (run / ENCODER).is_file():
            return {"status": FINISHED}  # an encoder that somebody put there
        raise DamagedRun(f"it has no {RECORD}; remove the folder, or train anew") from None
    except OSError as error:
        raise DamagedRun(f"its {RECORD} cannot be read: {error.strerror}; change the permissions") from error
    except (ValueError, RecursionError) as error:
        raise DamagedRun(f"its {RECORD} is no JSON; remove the folder, or train anew") from error
    if not isinstance(record, dict):
        raise DamagedRun(f"its {RECORD} holds no object; remove the folder, or train anew")
    return record


def _status(run: Path, record: dict[str, Any]) -> tuple[str, int | None]:
    """Whether a run goes on, and its last step (from 1)."""
    step = _last_step(run)
    if record.get("status") == FINISHED or "finished" in record:
        return FINISHED, step
    return UNDER_WAY if _quiet(run) < _QUIET_S else STOPPED, step


def _quiet(run: Path) -> float:
    """Seconds since anything was written of the run."""
    written = [0.0]
    for name in (LOG, RECORD):
        with suppress(OSError):
            written.append((run / name).stat().st_mtime)
    return max(0.0, time.time() - max(written))


def _last_step(run: Path) -> int | None:
    """From the end of the log alone, which may be long."""
    try:
        with (run / LOG).open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - _TAIL))
            lines = log.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        row = _row(line)
        if row is not None:
            return int(row["step"]) + 1
    return None


def curves_of(run: Path) -> dict[str, Curve]:
    """The curves of a run by name: pairs of a step (from 1) and a value, no more than a figure can show."""
    curves: dict[str, Curve] = {name: [] for name in (*_LOGGED, *_VALIDATION)}
    for row in _rows(run):
        step = int(row["step"]) + 1
        for name in _LOGGED:
            if (value := _number(row, name)) is not None:
                curves[name].append((step, value))
        for name, keys in _VALIDATION.items():
            if (value := _number(row, "validation", *keys)) is not None:
                curves[name].append((step, value))
    return {name: thinned(curve, _POINTS) for name, curve in curves.items() if curve}


def thinned(curve: Curve, most: int) -> Curve:
    """A curve of at most so many points: means over runs of steps of equal length, each at the last of its steps."""
    size = math.ceil(len(curve) / most)
    if size < 2:
        return curve
    parts = [curve[start : start + size] for start in range(0, len(curve), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _rows(run: Path) -> Iterator[dict[str, Any]]:
    """The rows of a log, up to one that a kill cut short."""
    try:
        with (run / LOG).open("rb") as log:
            for line in log:
                row = _row(line)
                if row is None:
                    return
                yield row
    except OSError:
        return


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _served(run: Path, indexes: Iterable[IndexInfo]) -> list[str]:
    """Names of the indexes that are searched by this run's encoder: their own copy of it has the same bytes."""
    own = {_sum(run / name) for name in (ENCODER, INT8_ENCODER)} - {None}
    return [index.name for index in indexes if own and _sum(index.encoder) in own]


def _sum(encoder: Path) -> tuple[int, int] | None:
    """Size and checksum of an encoder's file; None when there is none."""
    try:
        about = encoder.stat()
        return about.st_size, _checksum(encoder, about.st_size, about.st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=1024)
def _checksum(encoder: Path, size: int, changed: int) -> int:
    # Size and time are part of the key, so that a file that is written anew is read anew.
    return checksum(encoder, whole=False)


def _measures(record: dict[str, Any], name: str) -> dict[str, float | None]:
    found = {"recall_at_1": _number(record, name, "recall_at_k", "1")}
    return found | {each: _number(record, name, each) for each in ("map_at_r", "r_precision", "nmi", "f1")}


def _part(record: dict[str, Any], name: str) -> dict[str, Any]:
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _number(record: dict[str, Any], *keys: str) -> float | None:
    """A number deep in a record; None where there is none, or none that JSON knows."""
    found: Any = record
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, int | float) and not isinstance(found, bool) and abs(found) < _LARGEST else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _scalar(value: Any) -> str | float | None:
    return value if isinstance(value, str) else _number({"value": value}, "value")


def _is_plain(value: Any) -> bool:
    """Whether a value is an object of numbers and texts."""
    return isinstance(value, dict) and all(_scalar(each) is not None for each in value.values())
