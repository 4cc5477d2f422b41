"""Tables with a photo a row: CSV, JSONL or Parquet files with named columns."""

import csv
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from indexing.errors import HdmlError

SUFFIXES = (".csv", ".jsonl", ".parquet")


class Row(NamedTuple):
    """A row of a table and where it stands, such as ``line 7``."""

    where: str
    values: Mapping[Any, Any]


def read_rows(file: Path, required: Sequence[str], *, wanted: Container[str] | None = None) -> Iterator[Row]:
    """The rows of a table, one after the other.

    Args:
        required: columns that there must be.
        wanted: of a Parquet file, the only columns that are read, since others may be large; None reads all.

    Raises:
        HdmlError: no such file, one of another kind, or one that is malformed, with the line.
    """
    if not file.is_file():
        raise HdmlError(
            f"A manifest is a {', '.join(SUFFIXES)} file with the columns {' and '.join(required)}, but there is no file {file}."
        )
    match file.suffix.lower():
        case ".csv":
            return _csv_rows(file, required)
        case ".jsonl":
            return _jsonl_rows(file, required)
        case ".parquet":
            return _parquet_rows(file, required, wanted)
    raise HdmlError(f"A manifest's name must end in {', '.join(SUFFIXES)}, but got {file}; rename it or write it as one of them.")


def malformed(file: Path, where: str, sentence: str) -> HdmlError:
    """The error of a place in a file that must have something else."""
    return HdmlError(f"{where} of {file} must have {sentence}.")


def _csv_rows(file: Path, required: Sequence[str]) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        try:
            _check_columns(file, required, reader.fieldnames or ())
            for values in reader:
                where, columns = f"line {reader.line_num}", len(reader.fieldnames or ())
                cells = sum(value is not None for name, value in values.items() if name is not None) + len(values.get(None) or [])
                if cells != columns:
                    problem = f"{columns} columns like the first line, but has {cells}; quote what holds commas"
                    raise malformed(file, where, problem)
                yield Row(where, values)
        except UnicodeDecodeError as error:
            raise HdmlError(f"{file} must be UTF-8 text, but is in another encoding; save it as UTF-8.") from error
        except csv.Error as error:
            raise malformed(file, f"line {reader.reader.line_num}", f"CSV, but cannot be read ({error})") from error


def _jsonl_rows(file: Path, required: Sequence[str]) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"line {number}"
            try:
                values = json.loads(line)
            except ValueError as error:  # of the encoding or of JSON
                raise malformed(file, where, f"a JSON object in UTF-8, but cannot be read ({error})") from error
            if not isinstance(values, dict):
                raise malformed(file, where, f"a JSON object, but has {line.decode().strip()[:60]}")
            _check_columns(file, required, values, where)
            yield Row(where, values)


def _parquet_rows(file: Path, required: Sequence[str], wanted: Container[str] | None) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as table:
            _check_columns(file, required, table.schema_arrow.names)
            columns = [name for name in table.schema_arrow.names if wanted is None or name in wanted]
            number = 0
            for batch in table.iter_batches(columns=columns):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"row {number}", values)
    except (pyarrow.ArrowException, OSError) as error:
        raise HdmlError(f"{file} must be a Parquet file, but cannot be read ({error}); write it again.") from error


def _check_columns(file: Path, required: Sequence[str], columns: Any, where: str = "its first line") -> None:
    missing = [name for name in required if name not in columns]
    if missing:
        listed = ", ".join(map(str, columns)) or "none"
        raise HdmlError(
            f"{file} must have the columns {' and '.join(required)}, but in {where} there is no {missing[0]}, only: {listed}."
        )
