"""Manifests: a CSV, JSONL or Parquet file with one photo a row, for photos that do not lie in a folder of their class."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from hdml.data import PARTS, LabelledPhotos, Photo, label_photos
from indexing.errors import HdmlError
from indexing.preprocess import Box

SUFFIXES = (".csv", ".jsonl", ".parquet")
_REQUIRED = ("path", "label")
_BOX_FORM = "x y width height in pixels, such as 12 30 200 150"


class _Row(NamedTuple):
    """A row of a manifest and where it stands, such as ``line 7``."""

    where: str
    values: Mapping[Any, Any]


class _Entry(NamedTuple):
    photo: Photo
    label: str
    group: str | None
    part: str | None


def read_manifest(file: Path) -> LabelledPhotos:
    """The photos that a manifest lists.

    Columns: ``path`` (relative to the manifest's folder, or whole) and ``label``; optional are ``split`` (out of
    ``hdml.data.PARTS``), ``group`` and ``box`` (x, y, width, height in pixels). Others are passed over. A file that is not there
    is left out; what is written wrongly stops everything, since nobody knows what else it means.

    Raises:
        HdmlError: no such file, one that is malformed (with the line), or fewer than two classes.
    """
    if not file.is_file():
        raise HdmlError(
            f"A manifest is a {', '.join(SUFFIXES)} file with the columns path and label, but there is no file {file}."
        )
    entries: dict[Photo, tuple[str, _Entry]] = {}
    left_out: list[tuple[str, str]] = []
    has_split: bool | None = None
    for row in _rows(file):
        entry = _entry(file, row)
        has_split = entry.part is not None if has_split is None else has_split
        if (entry.part is not None) != has_split:
            raise _malformed(file, row.where, f"a split like all others or none like all others, but has {entry.part}")
        if entry.photo in entries:
            raise _malformed(file, row.where, f"each photo once, but gives {entry.photo} again after {entries[entry.photo][0]}")
        if _is_file(file.parent / entry.photo.path):
            entries[entry.photo] = row.where, entry
        else:
            left_out.append((entry.photo.path.as_posix(), f"there is no such file ({row.where} of {file.name})"))
    found = [entry for _, entry in entries.values()]
    classes = sorted({entry.label for entry in found})
    if len(classes) < 2:
        has = f"has photos of one class only ({classes[0]})" if classes else f"lists {len(left_out)} photos, none of them there"
        raise HdmlError(f"Labelled photos need at least 2 classes, but {file} {has}; paths are relative to its folder.")
    photos = label_photos(
        file.parent,
        [entry.photo for entry in found],
        [entry.label for entry in found],
        groups=[entry.group for entry in found],
        parts=[entry.part for entry in found if entry.part is not None],
    )
    return replace(photos, left_out=tuple(left_out))


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # such as a name too long, of a column that holds something else
        return False


def _entry(file: Path, row: _Row) -> _Entry:
    values = row.values
    path, label = (_text(file, row, column) for column in _REQUIRED)
    if not path or not label:
        raise _malformed(file, row.where, f"a path and a label, but has an empty {'label' if path else 'path'}")
    part = _text(file, row, "split") if "split" in values else None
    if part is not None and part not in PARTS:
        raise _malformed(file, row.where, f"a split out of {', '.join(PARTS)}, but has {part!r}")
    return _Entry(Photo(Path(path), _box(file, row)), label, _text(file, row, "group") or None, part)


def _text(file: Path, row: _Row, column: str) -> str:
    """Text or a whole number as text; empty where there is none."""
    value = row.values.get(column)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _malformed(file, row.where, f"text or a whole number as its {column}, but has {value!r}")
    return str(value).strip()


def _box(file: Path, row: _Row) -> Box | None:
    given = row.values.get("box")
    if given is None or (isinstance(given, str) and not given.strip()):
        return None
    problem = _malformed(file, row.where, f"a box as {_BOX_FORM}, but has {given!r}")
    numbers = given.replace(",", " ").split() if isinstance(given, str) else given
    try:
        x, y, width, height = (float(number) for number in numbers)
    except (TypeError, ValueError) as error:
        raise problem from error
    if not all(map(math.isfinite, (x, y, width, height))) or min(x, y) < 0 or min(round(width), round(height)) < 1:
        raise problem
    return Box(round(x), round(y), round(width), round(height))


def _rows(file: Path) -> Iterator[_Row]:
    match file.suffix.lower():
        case ".csv":
            return _csv_rows(file)
        case ".jsonl":
            return _jsonl_rows(file)
        case ".parquet":
            return _parquet_rows(file)
    raise HdmlError(f"A manifest's name must end in {', '.join(SUFFIXES)}, but got {file}; rename it or write it as one of them.")


def _csv_rows(file: Path) -> Iterator[_Row]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        try:
            _check_columns(file, reader.fieldnames or ())
            for values in reader:
                where, columns = f"line {reader.line_num}", len(reader.fieldnames or ())
                cells = sum(value is not None for name, value in values.items() if name is not None) + len(values.get(None) or [])
                if cells != columns:
                    problem = f"{columns} columns like the first line, but has {cells}; quote what holds commas"
                    raise _malformed(file, where, problem)
                yield _Row(where, values)
        except UnicodeDecodeError as error:
            raise HdmlError(f"{file} must be UTF-8 text, but is in another encoding; save it as UTF-8.") from error
        except csv.Error as error:
            raise _malformed(file, f"line {reader.reader.line_num}", f"CSV, but cannot be read ({error})") from error


def _jsonl_rows(file: Path) -> Iterator[_Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"line {number}"
            try:
                values = json.loads(line)
            except ValueError as error:  # of the encoding or of JSON
                raise _malformed(file, where, f"a JSON object in UTF-8, but cannot be read ({error})") from error
            if not isinstance(values, dict):
                raise _malformed(file, where, f"a JSON object, but has {line.decode().strip()[:60]}")
            _check_columns(file, values, where)
            yield _Row(where, values)


def _parquet_rows(file: Path) -> Iterator[_Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as table:
            _check_columns(file, table.schema_arrow.names)
            wanted = [name for name in table.schema_arrow.names if name in (*_REQUIRED, "split", "group", "box")]
            number = 0
            for batch in table.iter_batches(columns=wanted):
                for values in batch.to_pylist():
                    number += 1
                    yield _Row(f"row {number}", values)
    except (pyarrow.ArrowException, OSError) as error:
        raise HdmlError(f"{file} must be a Parquet file, but cannot be read ({error}); write it again.") from error


def _check_columns(file: Path, columns: Any, where: str = "its first line") -> None:
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        listed = ", ".join(map(str, columns)) or "none"
        raise HdmlError(f"{file} must have the columns path and label, but in {where} there is no {missing[0]}, only: {listed}.")


def _malformed(file: Path, where: str, sentence: str) -> HdmlError:
    return HdmlError(f"{where} of {file} must have {sentence}.")
