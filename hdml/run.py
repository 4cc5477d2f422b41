"""A run folder: its record (run.json), its log (log.jsonl, one line a step) and the files that training leaves in it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from indexing.errors import HdmlError

RECORD = "run.json"
LOG = "log.jsonl"
CHECKPOINT = "checkpoint.safetensors"
MODEL = "model.safetensors"
ENCODER = "encoder.onnx"
SYNTHESIZER = "synthesizer.onnx"
SPLIT = "split.json"
LEAKS = "leaks.json"
REFIT = "refit"
FEEDBACK = "feedback.json"
FEEDBACK_USED = "feedback-used.json"


def write_record(run: Path, record: dict[str, Any]) -> None:
    """Write run.json, making the folder; a reader, or a killed process, leaves or sees the old one or the new one, whole."""
    run.mkdir(parents=True, exist_ok=True)
    write_whole(run / RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def write_whole(file: Path, text: str) -> None:
    """Write a text file so that a reader, or a killed process, sees the old one or the new one, whole."""
    temporary = file.with_name(f"{file.name}.writing")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def read_record(run: Path) -> dict[str, Any]:
    """The record of a run.

    Raises:
        HdmlError: the folder is not a run, or its record is damaged.
    """
    file = run / RECORD
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HdmlError(f"A run is a folder that holds a {RECORD}, but {run} has none.") from error
    except ValueError as error:
        raise HdmlError(f"{file} should be JSON but cannot be read ({error}); start a new run.") from error
    return record


def write_lists(file: Path, lists: Mapping[str, list[Any]]) -> None:
    """Write a JSON object of lists, whole or not at all, with one entry a line."""
    listed = (
        f"{json.dumps(name)}: [" + ",".join(f"\n  {json.dumps(entry, ensure_ascii=False)}" for entry in entries) + "]"
        for name, entries in lists.items()
    )
    write_whole(file, "{\n" + ",\n".join(listed) + "\n}\n")


def read_split(run: Path) -> dict[str, list[Any]] | None:
    """The photos of each part of a run; None where a run has not got so far, or is of before they were listed.

    Raises:
        HdmlError: the file is damaged.
    """
    if not (run / SPLIT).exists():
        return None
    try:
        parts: dict[str, list[Any]] = json.loads((run / SPLIT).read_text(encoding="utf-8"))
    except ValueError as error:
        raise HdmlError(f"{run / SPLIT} should be JSON but cannot be read ({error}); start a new run.") from error
    return parts


def status_of(run: Path) -> str | None:
    """``training`` or ``finished``; None for a run that was never planned."""
    return str(read_record(run)["status"]) if (run / RECORD).exists() else None


def unfinished_runs(runs: Path) -> list[Path]:
    """Folders of the runs that training has begun and not ended, the newest first."""
    records = {file.parent: read_record(file.parent) for file in runs.glob(f"*/{RECORD}")}
    unfinished = [run for run, record in records.items() if record["status"] != "finished"]
    return sorted(unfinished, key=lambda run: (records[run]["started"], run.name), reverse=True)


class StepLog:
    """Appends one JSON object a step; what a killed run logged beyond its checkpoint is dropped when it goes on."""

    def __init__(self, run: Path, *, steps_done: int) -> None:
        kept = [row for row in read_log(run) if row["step"] < steps_done]
        write_whole(run / LOG, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = (run / LOG).open("a", encoding="utf-8", buffering=1)

    def add(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        self._file.close()


def read_log(run: Path) -> Iterator[dict[str, Any]]:
    """The rows of a run's log; a last line that a kill cut short is left out."""
    path = run / LOG
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
