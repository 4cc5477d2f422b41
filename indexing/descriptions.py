"""What is known of photos besides their pixels: labels and attributes, by the names of folders and by a manifest."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexing.errors import HdmlError
from indexing.gallery import PhotoFile
from indexing.tables import Row, malformed, read_rows

LABEL = "label"
_NO_ATTRIBUTES = ("path", LABEL, "box")


@dataclass(frozen=True)
class Descriptions:
    """Where labels and attributes of a gallery's photos come from.

    Attributes:
        folder_names: what the folders below the gallery name, level by level: ``label`` for the label, anything else for an
            attribute of that name.
        manifest: a table of photos, which is read anew each time; what it says goes before what the folders say.
    """

    folder_names: tuple[str, ...] = (LABEL,)
    manifest: Path | None = None


@dataclass(frozen=True)
class Described:
    """What a manifest says of a photo, by its path relative to the gallery."""

    path: str
    label: str | None
    attributes: Mapping[str, str]


def parse_folder_names(words: str) -> tuple[str, ...]:
    """Names of the levels of folders, such as ``visit/label``.

    Raises:
        HdmlError: a level has no name, or two have the same.
    """
    names = tuple(name.strip() for name in words.split("/"))
    if not all(names) or len(set(names)) < len(names) or any('"' in name for name in names):
        raise HdmlError(
            f"the names of the folders must be words with slashes between, each once, such as visit/label, not {words}"
        )
    return names


def name_by_folders(photos: Iterator[PhotoFile], names: tuple[str, ...]) -> Iterator[PhotoFile]:
    """The photos with label and attributes as the folders on their paths say."""
    if names == (LABEL,):  # as the walk has it
        return photos
    return (_named(photo, names) for photo in photos)


def _named(photo: PhotoFile, names: tuple[str, ...]) -> PhotoFile:
    known = dict(zip(names, photo.path.split("/")[:-1], strict=False))
    label = known.pop(LABEL, None)
    return photo._replace(label=label, attributes=known)


def read_descriptions(manifest: Path, gallery: Path) -> Iterator[Described]:
    """What a manifest says of the photos of a gallery.

    Columns: ``path``, relative to the manifest's folder or whole; optional is ``label``. All others are attributes, text or
    numbers; an empty cell is none. Photos outside the gallery are given by whatever path leads there: none of its photos has it.

    Raises:
        HdmlError: no such file, one that is malformed, or one that has a photo twice, with the line.
    """
    seen: set[str] = set()
    for row in read_rows(manifest, ("path",)):
        given = _as_text(manifest, row, "path")
        if given is None:
            raise malformed(manifest, row.where, "a path, but it is empty")
        path = Path(os.path.relpath(manifest.parent.resolve() / given, gallery)).as_posix()
        if path in seen:
            raise malformed(manifest, row.where, f"each photo once, but has {given} again")
        seen.add(path)
        columns = [name for name in row.values if name not in _NO_ATTRIBUTES]
        if any('"' in name for name in columns):
            raise malformed(manifest, row.where, f'columns without " in their names, but has {columns}')
        found = {name: value for name in columns if (value := _as_text(manifest, row, name)) is not None}
        yield Described(path, _as_text(manifest, row, LABEL), found)


def _as_text(manifest: Path, row: Row, column: str) -> str | None:
    value: Any = row.values.get(column)
    if value is not None and not isinstance(value, str | int | float):
        raise malformed(manifest, row.where, f"text, a number or true or false as its {column}, but has {value!r}")
    return as_text(value)


def as_text(value: object) -> str | None:
    """A cell of a table as the text that attributes are; None for an empty one."""
    if value is None:
        return None
    return json.dumps(value) if isinstance(value, bool) else str(value).strip() or None


def as_json(attributes: Mapping[str, str]) -> str:
    """Attributes as the catalogue keeps them: the same for the same, in whatever order they come."""
    if not attributes:
        return "{}"
    return json.dumps(dict(sorted(attributes.items())), ensure_ascii=False, separators=(",", ":"))
