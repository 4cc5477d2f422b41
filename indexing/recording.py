"""Record what embedding gave: of the photos that a walk of the gallery has left pending, in the tables that it wrote."""

import sqlite3
from collections import Counter
from dataclasses import astuple, dataclass
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexing.schema import LIVE
from indexing.sequence import next_sequence
from indexing.walk import forget_failed

_RECORD = """
INSERT INTO items (path, size, mtime_ns, label, attributes, hash, state, reason, width, height, changed)
SELECT path, size, mtime_ns, label, attributes, :hash, :state, :reason, :width, :height, :changed FROM walk WHERE path = :path
ON CONFLICT (path) WHERE state != 'gone' DO UPDATE SET source = excluded.source, size = excluded.size,
    mtime_ns = excluded.mtime_ns, label = excluded.label, attributes = excluded.attributes, hash = excluded.hash,
    state = excluded.state, reason = excluded.reason, width = excluded.width, height = excluded.height,
    changed = MAX(changed, excluded.changed)
RETURNING id
"""
_COME_BACK = """
UPDATE items SET state = 'ready', source = 'folder', changed = :changed, path = :path,
    (size, mtime_ns, label, attributes) = (SELECT size, mtime_ns, label, attributes FROM walk WHERE path = :path)
WHERE id = :id
"""
_ADD_VECTOR = f"INSERT INTO vectors VALUES (?, ({LIVE}), ?, ?)"
_KNOWN = f"""
SELECT items.id, state, changed, width, height, norm, vector FROM items JOIN vectors ON item = items.id
WHERE hash = ? AND state = ? AND model = IFNULL(?, ({LIVE}))
ORDER BY items.id LIMIT 1
"""


@dataclass(frozen=True)
class EmbeddedPhoto:
    """What embedding a photo file gave: a vector [D] with its norm and the photo's size, the reason why not, or neither.

    Neither is had of a file whose ``hash``, of its bytes, was known already.
    """

    path: Path
    hash: bytes | None = None
    vector: NDArray[np.float32] | None = None
    norm: float | None = None
    width: int | None = None
    height: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Recorded:
    """What storing some photos came to, in numbers of photos.

    Attributes:
        added: new ones, and those that failed before and are readable now.
        updated: with other bytes than before.
        moved: from where there is none any more; they keep their ids and vectors.
        touched: with the same bytes as before.
        failed: unreadable.
    """

    added: int = 0
    updated: int = 0
    moved: int = 0
    touched: int = 0
    failed: int = 0

    @property
    def photos(self) -> int:
        return sum(astuple(self))

    def __add__(self, other: "Recorded") -> "Recorded":
        return Recorded(*map(add, astuple(self), astuple(other)))


def record_photos(connection: sqlite3.Connection, photos: list[tuple[str, EmbeddedPhoto]], *, compared_at: int) -> Recorded:
    """As :meth:`indexing.catalogue.Catalogue.record`, within a transaction of its caller.

    Args:
        compared_at: sequence number when the walk was compared; what was gone before that has not moved, but is found again.
    """
    counts: Counter[str] = Counter()
    for path, photo in photos:
        counts[counted := _record(connection, path, photo, compared_at)] += 1
        if counted != "unknown":
            connection.execute("DELETE FROM pending WHERE path = ?", (path,))
    del counts["unknown"]
    return Recorded(**counts)


def find_known(connection: sqlite3.Connection, digest: bytes | None, *, model: int | None = None) -> tuple[Any, ...] | None:
    """An item with a file of these bytes and its vector, as ``_KNOWN`` gives it; None when there is none.

    One that is gone goes first, for it may have become this photo; of one that is there it is a copy.

    Args:
        model: number of the model that the vector is of; None takes the one that searches compare by.
    """
    found = (connection.execute(_KNOWN, (digest, state, model)).fetchone() for state in ("gone", "ready"))
    return next(filter(None, found), None)


def _record(connection: sqlite3.Connection, path: str, photo: EmbeddedPhoto, compared_at: int) -> str:
    """Store one; returns the field of Recorded that it counts in, or ``unknown`` when its bytes no longer are."""
    query = "SELECT state, hash FROM items WHERE path = ? AND state != 'gone'"
    state, digest = connection.execute(query, (path,)).fetchone() or (None, None)
    width, height, norm, vector = photo.width, photo.height, photo.norm, photo.vector
    if photo.reason is None and vector is None:
        known = find_known(connection, photo.hash)
        if known is None:
            return "unknown"
        twin, twin_state, twin_changed, width, height, norm, vector = known
        if twin_state == "gone" and state != "ready":
            forget_failed(connection, "path = ?", path)
            connection.execute(_COME_BACK, {"id": twin, "path": path, "changed": next_sequence(connection)})
            return "moved" if twin_changed > compared_at else "added"
    touched = state == "ready" and digest is not None and digest == photo.hash
    in_search = vector is not None or state == "ready"
    values = {
        "path": path,
        "hash": photo.hash,
        "state": "failed" if vector is None else "ready",
        "reason": photo.reason,
        "width": width,
        "height": height,
        "changed": next_sequence(connection) if in_search and not touched else 0,
    }
    ((item_id,),) = connection.execute(_RECORD, values).fetchall()
    if touched:
        return "touched"
    connection.execute("DELETE FROM vectors WHERE item = ?", (item_id,))
    if vector is None:
        return "failed"
    connection.execute(_ADD_VECTOR, (item_id, norm, bytes(vector)))
    return "updated" if state == "ready" else "added"
