"""Right and wrong marks on results: what people say of pairs of a query and an item, to be learned from later."""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from indexing.errors import HdmlError

QUERY_SIDE = 1024
"""Longer side, in pixels, of what is kept of a query photo that was sent."""

_MARKS = """
SELECT marks.id, marks.query, photo, IFNULL(query_photos.name, IFNULL(asked.path, query_path)), asked.label, marks.item,
    IFNULL(found.path, item_path), found.label, is_right, marked,
    photo IS NOT NULL OR (asked.state IS 'ready' AND IFNULL(query_hash, asked.hash) IS asked.hash),
    found.state IS 'ready' AND IFNULL(item_hash, found.hash) IS found.hash
FROM marks
LEFT JOIN query_photos ON query_photos.hash = photo
LEFT JOIN items AS asked ON asked.id = marks.query
LEFT JOIN items AS found ON found.id = marks.item
"""
_MARK = """
INSERT INTO marks (query, photo, query_path, query_hash, item, item_path, item_hash, is_right, marked)
SELECT :query, :photo, asked.path, asked.hash, found.id, found.path, found.hash, :right, :marked
FROM items AS found LEFT JOIN items AS asked ON asked.id = :query WHERE found.id = :item
ON CONFLICT (IFNULL(query, photo), item) DO UPDATE SET is_right = excluded.is_right, marked = excluded.marked,
    query_hash = excluded.query_hash, item_hash = excluded.item_hash
RETURNING id
"""


@dataclass(frozen=True)
class QueryPhoto:
    """A query photo that was sent, as it is kept with its marks.

    Attributes:
        hash: of the bytes that were sent.
        name: as the client gave it.
        size: number of the bytes that were sent.
        jpeg: encoded anew, at most ``QUERY_SIDE`` pixels long.
    """

    hash: bytes
    name: str
    size: int
    jpeg: bytes


@dataclass(frozen=True)
class Mark:
    """What somebody said of a result.

    Attributes:
        id: its own for ever.
        query: id of the item that was the query; None of a photo that was sent.
        photo: hash of the photo that was sent, as hexadecimal digits; None of an item.
        query_path: of the item, or the name of the photo that was sent.
        query_label: of the item.
        item, item_path, item_label: of the result.
        right: whether it is the same thing.
        marked: when, ISO 8601 in UTC.
        query_present, item_present: whether these photos are still there, with the bytes that they had; one that was sent is.
    """

    id: int
    query: int | None
    photo: str | None
    query_path: str
    query_label: str | None
    item: int
    item_path: str
    item_label: str | None
    right: bool
    marked: str
    query_present: bool
    item_present: bool

    @property
    def present(self) -> bool:
        """Whether both photos are still there, so that the mark can be learned from."""
        return self.query_present and self.item_present


def add_mark(connection: sqlite3.Connection, query: int | QueryPhoto, item: int, *, right: bool, index: str) -> int:
    """As :meth:`indexing.catalogue.Catalogue.mark`, within a transaction of its caller; ``index`` is the index's name."""
    if query == item:
        raise HdmlError(f"a mark is of two photos, but item {item} was marked as an answer to itself; choose another result")
    for each in [item] if isinstance(query, QueryPhoto) else [query, item]:
        if connection.execute("SELECT 1 FROM items WHERE id = ? AND state = 'ready'", (each,)).fetchone() is None:
            raise HdmlError(f"a mark is of photos that can be found, but the index {index} has no item with id {each}")
    marked = datetime.now(UTC).isoformat()
    values: dict[str, Any] = {"query": query, "photo": None, "item": item, "right": right, "marked": marked}
    if isinstance(query, QueryPhoto):
        kept = (query.hash, query.name, query.size, query.jpeg)
        connection.execute("INSERT OR IGNORE INTO query_photos VALUES (?, ?, ?, ?)", kept)
        values |= {"query": None, "photo": query.hash}
    ((mark_id,),) = connection.execute(_MARK, values).fetchall()
    return int(mark_id)


def list_marks(connection: sqlite3.Connection) -> list[Mark]:
    """As :meth:`indexing.catalogue.Catalogue.marks`."""
    return [_as_mark(row) for row in connection.execute(f"{_MARKS} ORDER BY marks.id")]


def find_query_photo(connection: sqlite3.Connection, mark_id: int) -> QueryPhoto | None:
    """As :meth:`indexing.catalogue.Catalogue.query_photo`."""
    query = "SELECT query_photos.* FROM query_photos JOIN marks ON photo = hash WHERE id = ?"
    found = connection.execute(query, (mark_id,)).fetchone()
    return QueryPhoto(*found) if found else None


def remove_mark(connection: sqlite3.Connection, mark_id: int) -> bool:
    """As :meth:`indexing.catalogue.Catalogue.unmark`, within a transaction of its caller."""
    count = connection.execute("DELETE FROM marks WHERE id = ?", (mark_id,)).rowcount
    connection.execute("DELETE FROM query_photos WHERE hash NOT IN (SELECT photo FROM marks WHERE photo IS NOT NULL)")
    return count > 0


def _as_mark(row: tuple[Any, ...]) -> Mark:
    (number, query, photo, query_path, query_label, item, item_path, item_label, right, marked, asked, found) = row
    digest = None if photo is None else photo.hex()
    of_query = (query, digest, query_path, query_label)
    return Mark(number, *of_query, item, item_path, item_label, bool(right), marked, bool(asked), bool(found))
