"""Take in what a table of vectors gives, some thousand rows at a time: what is new and what is other than it was."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from operator import add
from typing import NamedTuple

from indexing.schema import LIVE
from indexing.sequence import next_sequence

# The paths that the table has given so far; a table of this connection alone.
_TAKEN = """
DROP TABLE IF EXISTS taken;
CREATE TEMP TABLE taken (path TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_TAKE = "INSERT OR IGNORE INTO taken SELECT value FROM json_each(?) RETURNING path"
_PRESENT = f"""
SELECT items.path, items.id, state, source, label, attributes, vector
FROM json_each(?) CROSS JOIN items ON items.path = json_each.value AND state != 'gone'
LEFT JOIN vectors ON item = items.id AND model = ({LIVE})
"""
_STORE = """
INSERT INTO items (path, source, label, attributes, state, changed) VALUES (?, 'table', ?, ?, 'ready', ?)
ON CONFLICT (path) WHERE state != 'gone' DO UPDATE SET source = 'table', size = NULL, mtime_ns = NULL, hash = NULL,
    label = excluded.label, attributes = excluded.attributes, state = 'ready', reason = NULL, width = NULL, height = NULL,
    changed = excluded.changed
"""
_STORE_VECTOR = f"""
INSERT OR REPLACE INTO vectors SELECT id, ({LIVE}), ?, ? FROM items WHERE path = ? AND state != 'gone'
"""


class GivenVector(NamedTuple):
    """A row of a table of vectors.

    Attributes:
        path: relative to the gallery.
        label: or None.
        attributes: as :func:`indexing.descriptions.as_json` has them.
        norm: length of the vector as it was.
        vector: bytes of the float32 vector at unit length.
    """

    path: str
    label: str | None
    attributes: str
    norm: float
    vector: bytes


@dataclass(frozen=True)
class Taken:
    """What storing some rows of a table of vectors came to.

    Attributes:
        added, updated, unchanged: numbers of items that are new, have another vector, or have the one that they had.
        relabelled: number of those unchanged with another label or other attributes than before.
        kept: number of photos that the index has embedded itself, and whose rows were passed over.
        repeated: paths that the table had given before, whose first row counts.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    relabelled: int = 0
    kept: int = 0
    repeated: tuple[str, ...] = ()

    def __add__(self, other: "Taken") -> "Taken":
        return Taken(*map(add, astuple(self), astuple(other)))


def begin_taking(connection: sqlite3.Connection) -> None:
    """As :meth:`indexing.catalogue.Catalogue.begin_table`."""
    connection.executescript(_TAKEN)


def take_rows(connection: sqlite3.Connection, rows: Iterable[GivenVector]) -> Taken:
    """As :meth:`indexing.catalogue.Catalogue.take_in`, within a transaction of its caller."""
    rows = list(rows)
    fresh = {path for (path,) in connection.execute(_TAKE, (json.dumps([row.path for row in rows]),))}
    wanted, repeated = dict[str, GivenVector](), list[str]()
    for row in rows:
        if row.path in fresh and row.path not in wanted:
            wanted[row.path] = row
        else:
            repeated.append(row.path)
    updated, unchanged, kept, relabelled = 0, 0, 0, []
    for path, item_id, state, source, label, attributes, vector in connection.execute(_PRESENT, (json.dumps([*wanted]),)):
        row = wanted[path]
        if state == "ready" and source == "folder":
            kept += 1
            del wanted[path]
        elif vector == row.vector:
            unchanged += 1
            if (label, attributes) != (row.label, row.attributes):
                relabelled.append((row.label, row.attributes, item_id))
            del wanted[path]
        else:
            updated += state == "ready"
    connection.executemany("UPDATE items SET label = ?, attributes = ? WHERE id = ?", relabelled)
    if wanted:
        changed = next_sequence(connection)
        connection.executemany(_STORE, [(row.path, row.label, row.attributes, changed) for row in wanted.values()])
        connection.executemany(_STORE_VECTOR, [(row.norm, row.vector, row.path) for row in wanted.values()])
    return Taken(len(wanted) - updated, updated, unchanged, len(relabelled), kept, tuple(repeated))
