"""Take in what a table of vectors gives, some thousand rows at a time, in tables of the connection alone."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from operator import add
from typing import NamedTuple

from indexing.schema import LIVE
from indexing.sequence import next_sequence

# given: the rows, each with what there is at its path; taken: the paths that the table has given so far.
_GIVEN = """
DROP TABLE IF EXISTS given; DROP TABLE IF EXISTS taken;
CREATE TEMP TABLE given (
    number INTEGER PRIMARY KEY, path TEXT UNIQUE, label TEXT, attributes TEXT, norm REAL, vector BLOB,
    item INTEGER, state TEXT, source TEXT, same INTEGER  -- what there is at that path
);
CREATE TEMP TABLE taken (path TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_FIND_GIVEN = f"""
UPDATE given SET (item, state, source, same) = (
    SELECT items.id, items.state, items.source, vectors.vector = given.vector
    FROM items LEFT JOIN vectors ON vectors.item = items.id AND model = ({LIVE})
    WHERE items.path = given.path AND items.state != 'gone')
"""
_RELABEL_GIVEN = """
UPDATE items SET label = given.label, attributes = given.attributes FROM given
WHERE given.same AND items.id = given.item AND (items.label IS NOT given.label OR items.attributes != given.attributes)
"""
_STORE_GIVEN = """
INSERT INTO items (path, source, label, attributes, state, changed)
SELECT path, 'table', label, attributes, 'ready', ? FROM given WHERE TRUE ORDER BY number
ON CONFLICT (path) WHERE state != 'gone' DO UPDATE SET source = 'table', size = NULL, mtime_ns = NULL, hash = NULL,
    label = excluded.label, attributes = excluded.attributes, state = 'ready', reason = NULL, width = NULL, height = NULL,
    changed = excluded.changed
"""
_STORE_GIVEN_VECTORS = f"""
INSERT OR REPLACE INTO vectors SELECT items.id, ({LIVE}), norm, vector
FROM given CROSS JOIN items ON items.path = given.path AND items.state != 'gone' ORDER BY number
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
    connection.executescript(_GIVEN)


def take_rows(connection: sqlite3.Connection, rows: Iterable[GivenVector]) -> Taken:
    """As :meth:`indexing.catalogue.Catalogue.take_in`, within a transaction of its caller."""
    rows = list(rows)
    repeated = [path for path, times in Counter(row.path for row in rows).items() if times > 1]
    connection.execute("DELETE FROM given")
    insert = "INSERT OR IGNORE INTO given (path, label, attributes, norm, vector) VALUES (?, ?, ?, ?, ?)"
    connection.executemany(insert, rows)
    again = connection.execute("DELETE FROM given WHERE path IN taken RETURNING path").fetchall()
    connection.execute("INSERT INTO taken SELECT path FROM given")
    connection.execute(_FIND_GIVEN)
    kept = connection.execute("DELETE FROM given WHERE state = 'ready' AND source = 'folder'").rowcount
    relabelled = connection.execute(_RELABEL_GIVEN).rowcount
    unchanged = connection.execute("DELETE FROM given WHERE same").rowcount
    ((count, updated),) = connection.execute("SELECT COUNT(*), COUNT(NULLIF(state, 'failed')) FROM given")
    if count:
        connection.execute(_STORE_GIVEN, (next_sequence(connection),))
        connection.execute(_STORE_GIVEN_VECTORS)
    return Taken(count - updated, updated, unchanged, relabelled, kept, (*repeated, *(path for (path,) in again)))
