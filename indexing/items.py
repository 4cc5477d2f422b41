"""Searchable items: what the catalogue tells of them, and the orders that they are listed in."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexing.schema import SEARCHABLE

_FINGERPRINT = "SELECT fingerprint FROM models WHERE id = model"
_ITEM = f"items.id, path, label, attributes, width, height, vector, norm, ({_FINGERPRINT})"
ORDERS = {
    "id": "id",
    "path": "path",
    "label": "label IS NULL, label, path",
    "newest": "mtime_ns DESC, id",
    "oldest": "mtime_ns IS NULL, mtime_ns, id",
    "largest": "width * height DESC, id",
    "smallest": "width IS NULL, width * height, id",
}
"""Orders that items can be listed in."""


@dataclass(frozen=True)
class Item:
    """A photo of an index.

    Attributes:
        id: its own for ever.
        path: relative to the gallery.
        label, attributes: what is known of it besides.
        width, height: original size in pixels; None of a vector from a table, without a photo.
        vector: [D] of unit length.
        norm: length of the embedding before.
        model: fingerprint of the encoder that gave the vector.
    """

    id: int
    path: str
    label: str | None
    attributes: dict[str, str]
    width: int | None
    height: int | None
    vector: NDArray[np.float32]
    norm: float
    model: str


@dataclass(frozen=True)
class PhotoRecord:
    """What an index knows of a photo beside its vector; width and height in pixels, size in bytes, hash None where not known."""

    id: int
    path: str
    label: str | None
    width: int
    height: int
    size: int
    mtime_ns: int
    hash: bytes | None


@dataclass(frozen=True)
class Listed:
    """What a list shows of an item; width, height (pixels), size (bytes) and time are None where no photo has been seen."""

    id: int
    path: str
    label: str | None
    attributes: dict[str, str]
    width: int | None
    height: int | None
    size: int | None
    mtime_ns: int | None


def read_items(connection: sqlite3.Connection, condition: str = "TRUE", *values: Any) -> Iterator[Item]:
    """The searchable items that a condition holds of, by id."""
    rows = connection.execute(f"SELECT {_ITEM} {SEARCHABLE} AND {condition} ORDER BY items.id", values)
    return map(_as_item, rows)


def _as_item(row: tuple[Any, ...]) -> Item:
    item_id, path, label, attributes, width, height, vector, norm, model = row
    return Item(item_id, path, label, json.loads(attributes), width, height, np.frombuffer(vector, np.float32), norm, model)


def list_items(connection: sqlite3.Connection, ids: list[int]) -> list[Listed]:
    """As :meth:`indexing.catalogue.Catalogue.listed`."""
    columns = "id, path, label, attributes, width, height, size, mtime_ns"
    query = f"SELECT {columns} FROM items WHERE state = 'ready' AND id IN (SELECT value FROM json_each(?))"
    found = {
        item_id: Listed(item_id, path, label, json.loads(attributes), *seen)
        for item_id, path, label, attributes, *seen in connection.execute(query, (json.dumps(ids),))
    }
    return [found[item_id] for item_id in ids if item_id in found]


def list_photos(connection: sqlite3.Connection, ids: list[int] | None) -> list[PhotoRecord]:
    """As :meth:`indexing.catalogue.Catalogue.photo_records`."""
    columns = "id, path, label, width, height, size, mtime_ns, hash"
    query = f"SELECT {columns} FROM items WHERE state = 'ready' AND source = 'folder'"
    if ids is None:
        rows = connection.execute(f"{query} ORDER BY id")
    else:
        rows = connection.execute(f"{query} AND id IN (SELECT value FROM json_each(?)) ORDER BY id", (json.dumps(ids),))
    return [PhotoRecord(*row) for row in rows]
