"""Manifests: a CSV, JSONL or Parquet file with one photo a row, for photos that do not lie in a folder of their class."""

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hdml.data import PARTS, LabelledPhotos, Photo, label_photos
from indexing.errors import HdmlError
from indexing.preprocess import Box
from indexing.tables import Row, malformed, read_rows

_REQUIRED = ("path", "label")
_COLUMNS = (*_REQUIRED, "split", "group", "box")
_BOX_FORM = "x y width height in pixels, such as 12 30 200 150"


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
    entries: dict[Photo, tuple[str, _Entry]] = {}
    left_out: list[tuple[str, str]] = []
    has_split: bool | None = None
    for row in read_rows(file, _REQUIRED, wanted=_COLUMNS):
        entry = _entry(file, row)
        has_split = entry.part is not None if has_split is None else has_split
        if (entry.part is not None) != has_split:
            raise malformed(file, row.where, f"a split like all others or none like all others, but has {entry.part}")
        if entry.photo in entries:
            raise malformed(file, row.where, f"each photo once, but gives {entry.photo} again after {entries[entry.photo][0]}")
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


def _entry(file: Path, row: Row) -> _Entry:
    values = row.values
    path, label = (_text(file, row, column) for column in _REQUIRED)
    if not path or not label:
        raise malformed(file, row.where, f"a path and a label, but has an empty {'label' if path else 'path'}")
    part = _text(file, row, "split") if "split" in values else None
    if part is not None and part not in PARTS:
        raise malformed(file, row.where, f"a split out of {', '.join(PARTS)}, but has {part!r}")
    return _Entry(Photo(Path(path), _box(file, row)), label, _text(file, row, "group") or None, part)


def _text(file: Path, row: Row, column: str) -> str:
    """Text or a whole number as text; empty where there is none."""
    value = row.values.get(column)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise malformed(file, row.where, f"text or a whole number as its {column}, but has {value!r}")
    return str(value).strip()


def _box(file: Path, row: Row) -> Box | None:
    given = row.values.get("box")
    if given is None or (isinstance(given, str) and not given.strip()):
        return None
    problem = malformed(file, row.where, f"a box as {_BOX_FORM}, but has {given!r}")
    numbers = given.replace(",", " ").split() if isinstance(given, str) else given
    try:
        x, y, width, height = (float(number) for number in numbers)
    except (TypeError, ValueError) as error:
        raise problem from error
    if not all(map(math.isfinite, (x, y, width, height))) or min(x, y) < 0 or min(round(width), round(height)) < 1:
        raise problem
    return Box(round(x), round(y), round(width), round(height))
