"""Right and wrong marks on results: what people say of pairs of a query and an item, to be learned from later."""

from dataclasses import dataclass
from typing import Any

QUERY_SIDE = 1024
"""Longer side, in pixels, of what is kept of a query photo that was sent."""

MARKS_SCHEMA = """
CREATE TABLE query_photos (
    hash BLOB PRIMARY KEY,                 -- of the bytes that were sent
    name TEXT NOT NULL,                    -- as the client gave it, to be shown
    size INTEGER NOT NULL,                 -- bytes that were sent
    jpeg BLOB NOT NULL                     -- encoded anew, of bounded size
) WITHOUT ROWID;
CREATE TABLE marks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    query INTEGER,                         -- an item's id; null where the query was sent
    photo BLOB REFERENCES query_photos CHECK ((photo IS NULL) != (query IS NULL)),
    query_path TEXT,                       -- where the item was when it was marked, for when it is known no more
    query_hash BLOB,                       -- of its bytes then: with others, it is another photo; null where not known
    item INTEGER NOT NULL,                 -- no reference: what was said stays, whatever becomes of the item
    item_path TEXT NOT NULL,
    item_hash BLOB,
    is_right INTEGER NOT NULL CHECK (is_right IN (0, 1)),
    marked TEXT NOT NULL                   -- ISO 8601, UTC
);
CREATE UNIQUE INDEX marks_of_pairs ON marks (IFNULL(query, photo), item);
"""
MARKS = """
SELECT marks.id, marks.query, photo, IFNULL(query_photos.name, IFNULL(asked.path, query_path)), asked.label, marks.item,
    IFNULL(found.path, item_path), found.label, is_right, marked,
    photo IS NOT NULL OR (asked.state IS 'ready' AND IFNULL(query_hash, asked.hash) IS asked.hash),
    found.state IS 'ready' AND IFNULL(item_hash, found.hash) IS found.hash
FROM marks
LEFT JOIN query_photos ON query_photos.hash = photo
LEFT JOIN items AS asked ON asked.id = marks.query
LEFT JOIN items AS found ON found.id = marks.item
"""
MARK = """
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


def as_mark(row: tuple[Any, ...]) -> Mark:
    """A mark from a row that ``MARKS`` gives."""
    (number, query, photo, query_path, query_label, item, item_path, item_label, right, marked, asked, found) = row
    digest = None if photo is None else photo.hex()
    of_query = (query, digest, query_path, query_label)
    return Mark(number, *of_query, item, item_path, item_label, bool(right), marked, bool(asked), bool(found))
