"""Compare a walk of the gallery with the catalogue: what is new, changed, gone or described anew; and settle what it can.

Photos, items and what a manifest says come in the order of their paths and are read side by side, so that a gallery of any
size needs no memory. Only what differs is written down, in tables of the connection alone.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from indexing.descriptions import Described, as_json
from indexing.gallery import Failure, PhotoFile
from indexing.sequence import take_away

# walk: photos that are not as the catalogue has them, each with the item at its path, and whatever cannot be read.
_TABLES = (
    *(f"DROP TABLE IF EXISTS temp.{table}" for table in ("walk", "described", "pending", "missing")),
    """
CREATE TEMP TABLE walk (
    path TEXT PRIMARY KEY, label TEXT, size INTEGER, mtime_ns INTEGER, reason TEXT, unseen INTEGER, attributes TEXT, item INTEGER
) WITHOUT ROWID
""",
    "CREATE TEMP TABLE described (path TEXT PRIMARY KEY, label TEXT, attributes TEXT) WITHOUT ROWID",
    "CREATE TEMP TABLE pending (number INTEGER PRIMARY KEY, path TEXT UNIQUE)",
    "CREATE TEMP TABLE missing (id INTEGER PRIMARY KEY, path TEXT, state TEXT)",
)
_ITEMS = """
SELECT path, id, state, source, size, mtime_ns, label, attributes FROM items INDEXED BY items_by_path
WHERE state != 'gone' ORDER BY path
"""
_DESCRIBE_UNREADABLE = """
UPDATE walk SET label = COALESCE(described.label, walk.label), attributes = json_patch(walk.attributes, described.attributes)
FROM described WHERE described.path = walk.path AND reason IS NOT NULL
"""
_COUNT_DESCRIBED_UNREADABLE = "SELECT COUNT(*) FROM walk CROSS JOIN described USING (path) WHERE reason IS NOT NULL"
# Of what could not be looked at, and below a folder that could not, files may be there for all that is known: '0' follows '/'.
_KEEP_UNSEEN = """
DELETE FROM missing WHERE id IN (
    SELECT id FROM walk JOIN missing ON missing.path = walk.path AND state = 'ready'
        OR missing.path > walk.path || '/' AND missing.path < walk.path || '0'
    WHERE unseen
)
"""
_FIND_UNSEEN = """
SELECT path, walk.reason FROM walk CROSS JOIN items USING (path)
WHERE unseen AND state != 'gone' AND state = 'ready' ORDER BY path
"""
_DESCRIBE_ANEW = """
UPDATE items SET label = walk.label, attributes = walk.attributes FROM walk
WHERE items.id = walk.item AND (items.label IS NOT walk.label OR items.attributes != walk.attributes)
"""
# Of one that could be found once, searches may still have to learn that it cannot any more.
_FORGET_FAILED = (
    "DELETE FROM items WHERE state = 'failed' AND changed = 0",
    "UPDATE items SET state = 'gone', reason = NULL WHERE state = 'failed'",
)
_RECORD_UNREADABLE = """
INSERT INTO items (path, size, mtime_ns, label, attributes, state, reason, changed)
SELECT path, size, mtime_ns, label, attributes, 'failed', reason, 0 FROM walk WHERE reason IS NOT NULL
ON CONFLICT (path) WHERE state != 'gone' DO NOTHING
"""


@dataclass(frozen=True)
class Comparison:
    """What a walk of the gallery means, in numbers.

    Items stay that may have their file still: those below a folder that could not be listed, and the ``unseen``.

    Attributes:
        pending: photos to embed.
        unchanged: photos with the file that they had.
        gone: items whose file is gone.
        relabelled: items that have another label or other attributes than before.
        absent: photos that a manifest tells of and that are not there.
        unseen: items whose file could not be looked at, each with the reason.
    """

    pending: int
    unchanged: int
    gone: int
    relabelled: int
    absent: int
    unseen: list[Failure]


def compare_walk(
    connection: sqlite3.Connection, photos: Iterable[PhotoFile], described: Iterable[Described], *, retry_failed: bool
) -> Comparison:
    """As :meth:`indexing.catalogue.Catalogue.compare`, within a transaction of its caller.

    It leaves the tables ``walk``, ``pending`` (paths to embed, numbered in their order) and ``missing`` (items without a file).
    """
    for statement in _TABLES:
        connection.execute(statement)
    told = ((one.path, one.label, as_json(one.attributes)) for one in described)
    connection.executemany("INSERT INTO described VALUES (?, ?, ?)", told)
    counts: Counter[str] = Counter()
    readable = _with_descriptions(connection, _readable(connection, photos), counts)
    for photo, item in _side_by_side(readable, connection.execute(_ITEMS)):
        if photo is None:
            path, item_id, state, source, *_ = item
            if source == "folder":
                connection.execute("INSERT INTO missing VALUES (?, ?, ?)", (item_id, path, state))
            continue
        attributes = as_json(photo.attributes)
        if not item:
            item_id, changed, relabelled = None, True, False
        else:
            _, item_id, state, _, size, mtime_ns, label, known = item
            changed = size != photo.size or mtime_ns != photo.mtime_ns or (retry_failed and state == "failed")
            relabelled = label != photo.label or known != attributes
        if changed:
            connection.execute("INSERT INTO pending (path) VALUES (?)", (photo.path,))
        if changed or relabelled:
            _note(connection, photo, attributes, item_id)
        counts["pending" if changed else "unchanged"] += 1
        counts["relabelled"] += relabelled
    connection.execute(_DESCRIBE_UNREADABLE)
    connection.execute(_KEEP_UNSEEN)
    ((gone,),) = connection.execute("SELECT COUNT(*) FROM missing WHERE state = 'ready'")
    ((unreadable_told,),) = connection.execute(_COUNT_DESCRIBED_UNREADABLE)
    return Comparison(
        pending=counts["pending"],
        unchanged=counts["unchanged"],
        gone=gone,
        relabelled=counts["relabelled"],
        absent=counts["not found"] - unreadable_told,
        unseen=[Failure(*row) for row in connection.execute(_FIND_UNSEEN)],
    )


def settle_walk(connection: sqlite3.Connection) -> None:
    """As :meth:`indexing.catalogue.Catalogue.settle`, within a transaction of its caller, after a compare."""
    connection.execute(_DESCRIBE_ANEW)
    rows = connection.execute("SELECT id FROM missing WHERE state = 'ready'").fetchall()
    take_away(connection, [item_id for (item_id,) in rows])
    forget_failed(connection, "id IN (SELECT id FROM missing)")
    connection.execute(_RECORD_UNREADABLE)


def forget_failed(connection: sqlite3.Connection, condition: str, *values: Any) -> None:
    """Items that a condition holds of, and whose photos could not be read, are no more."""
    for statement in _FORGET_FAILED:
        connection.execute(f"{statement} AND {condition}", values)


def _readable(connection: sqlite3.Connection, photos: Iterable[PhotoFile]) -> Iterator[PhotoFile]:
    """The photos less those that cannot be read, which are written down, and whose paths may be in any order."""
    for photo in photos:
        if photo.reason is None:
            yield photo
        else:
            _note(connection, photo, as_json(photo.attributes), None)


def _with_descriptions(connection: sqlite3.Connection, photos: Iterator[PhotoFile], counts: Counter[str]) -> Iterator[PhotoFile]:
    """The photos with what is told of them; what is told of others is counted as not found."""
    told = connection.execute("SELECT path, label, attributes FROM described ORDER BY path")
    for photo, description in _side_by_side(photos, told):
        if photo is None:
            counts["not found"] += 1
        elif not description:
            yield photo
        else:
            _, label, attributes = description
            yield photo._replace(label=label or photo.label, attributes={**photo.attributes, **json.loads(attributes)})


def _side_by_side(
    photos: Iterable[PhotoFile], rows: Iterator[tuple[Any, ...]]
) -> Iterator[tuple[PhotoFile | None, tuple[Any, ...]]]:
    """Each photo with the row that begins with its path, or an empty one, and each other row with None; in the order of paths."""
    row, last = next(rows, None), ""
    for photo in photos:
        path = photo.path
        if path <= last:
            raise ValueError(f"photos must come in the order of their paths, but {path} comes after {last}")
        last = path
        while row is not None and row[0] < path:
            yield None, row
            row = next(rows, None)
        if row is not None and row[0] == path:
            yield photo, row
            row = next(rows, None)
        else:
            yield photo, ()
    while row is not None:
        yield None, row
        row = next(rows, None)


def _note(connection: sqlite3.Connection, photo: PhotoFile, attributes: str, item_id: int | None) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO walk VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (photo.path, photo.label, photo.size, photo.mtime_ns, photo.reason, photo.unseen, attributes, item_id),
    )
