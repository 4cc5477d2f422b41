"""The vectors that a catalogue has of its searchable items: all of them, those of some, and what has changed."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexing.models import Model
from indexing.schema import LIVE, SEARCHABLE
from indexing.sequence import read_sequence

_AT_A_TIME = 4096
_LIVE_MODEL = f"SELECT id, fingerprint, dimension FROM models WHERE id = ({LIVE})"
_OF_MODEL = "FROM items JOIN vectors ON item = items.id AND model = ? WHERE state = 'ready'"
# SQLite would rather go through all items, which come in the right order, than look up those few.
_CHANGED = f"SELECT items.id, vector {SEARCHABLE} AND changed > ? ORDER BY items.id".replace(
    "FROM items", "FROM items INDEXED BY items_by_change"
)
_SOME = """
SELECT item, vector FROM json_each(?) CROSS JOIN vectors ON item = json_each.value
    AND model = (SELECT id FROM models WHERE fingerprint = ?)
CROSS JOIN items ON items.id = item AND state = 'ready' AND changed <= ? ORDER BY item
"""

Look = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.float32]]]
"""Gives the vectors of some items, by ids [n]: ids [m], ascending, and vectors float32 [m, D], of those that it has."""


@dataclass(frozen=True)
class Vectors:
    """All searchable vectors of one moment and one model, in the order of their ids.

    Attributes:
        sequence: that they belong to.
        dimension: D.
        count: how many.
        pages: gives them, as often as they are wanted: ids int64 [n] and vectors float32 [n, D] of some thousand items at a time.
        some: gives those of some items.
        model: fingerprint of the encoder that gave them.
    """

    sequence: int
    dimension: int
    count: int
    pages: Callable[[], Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]]
    some: Look
    model: str = ""


@dataclass(frozen=True)
class Changes:
    """What searches have to learn of after a sequence number.

    Attributes:
        sequence: of the last change.
        ids: [m] of every item that is new, has another vector, is gone or has become unreadable.
        ready: [n] of those that can be found, ascending.
        vectors: [n, D] theirs.
        model: fingerprint of the encoder that gave them.
    """

    sequence: int
    ids: NDArray[np.int64]
    ready: NDArray[np.int64]
    vectors: NDArray[np.float32]
    model: str


def all_vectors(connection: sqlite3.Connection, of: Model | None) -> Vectors:
    """As :meth:`indexing.catalogue.Catalogue.vectors`, within a transaction of its caller that lasts while they are read."""
    sequence = read_sequence(connection)
    ((model, fingerprint, dimension),) = connection.execute(_LIVE_MODEL)
    if of is not None:
        model, fingerprint, dimension = of.id, of.fingerprint, of.dimension
    ((count,),) = connection.execute(f"SELECT COUNT(*) {_OF_MODEL}", (model,))
    query = f"SELECT items.id, vector {_OF_MODEL} ORDER BY items.id"
    return Vectors(
        sequence,
        dimension,
        count,
        lambda: _pages(connection.execute(query, (model,)), dimension),
        lambda ids: some_vectors(connection, ids, fingerprint, dimension, sequence),
        fingerprint,
    )


def some_vectors(
    connection: sqlite3.Connection, ids: NDArray[np.int64], model: str, dimension: int, until: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A model's vectors of those of some items that have not changed after a sequence number, by id: ids [m], vectors [m, D]."""
    return _gathered(connection.execute(_SOME, (json.dumps(ids.tolist()), model, until)), dimension)


def changes_since(connection: sqlite3.Connection, since: int) -> Changes:
    """As :meth:`indexing.catalogue.Catalogue.changes`, within a transaction of its caller."""
    ((_, fingerprint, dimension),) = connection.execute(_LIVE_MODEL)
    changed = connection.execute("SELECT id FROM items WHERE changed > ?", (since,)).fetchall()
    ready, vectors = _gathered(connection.execute(_CHANGED, (since,)), dimension)
    ids = np.array([item_id for (item_id,) in changed], np.int64)
    return Changes(read_sequence(connection), ids, ready, vectors, fingerprint)


def _pages(rows: sqlite3.Cursor, dimension: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    while page := rows.fetchmany(_AT_A_TIME):
        ids, blobs = zip(*page, strict=True)
        if any(len(blob) != 4 * dimension for blob in blobs):
            raise sqlite3.DatabaseError("a vector has another length than its model's")
        yield np.array(ids, np.int64), np.frombuffer(b"".join(blobs), np.float32).reshape(-1, dimension)


def _gathered(rows: sqlite3.Cursor, dimension: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    pages = list(_pages(rows, dimension))
    ids = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in pages)])
    return ids, np.concatenate([np.empty((0, dimension), np.float32), *(page for _, page in pages)])
