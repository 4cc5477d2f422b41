"""The catalogue's tables, how those of older versions become them, and what every reader of them asks."""

import sqlite3
from pathlib import Path

from indexing.errors import HdmlError

_VERSION = 3
_MARKS = """
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
SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;  -- 'model' is the one that searches compare by
CREATE TABLE models (
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    dimension INTEGER NOT NULL
);
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again for another photo
    path TEXT NOT NULL,                    -- relative to the gallery, forward slashes; of one that is gone, where it was last
    source TEXT NOT NULL DEFAULT 'folder' CHECK (source IN ('folder', 'table')),  -- the gallery, or a table of vectors
    size INTEGER,                          -- bytes; null, like the time, of what no file has been seen of
    mtime_ns INTEGER,
    hash BLOB,                             -- of the file's bytes; null where they could not be read, or not since version 1
    label TEXT,
    attributes TEXT NOT NULL DEFAULT '{{}}', -- a JSON object of texts
    state TEXT NOT NULL CHECK (state IN ('ready', 'failed', 'gone')),
    reason TEXT CHECK ((reason IS NOT NULL) = (state = 'failed')),
    width INTEGER,                         -- of the original, upright, in pixels
    height INTEGER,
    changed INTEGER NOT NULL               -- sequence number at which searches last had to learn of it
);
CREATE UNIQUE INDEX items_by_path ON items (path) WHERE state != 'gone';
CREATE INDEX items_by_label ON items (label) WHERE state = 'ready';
CREATE INDEX items_by_hash ON items (hash, state);
CREATE INDEX items_by_change ON items (changed);
CREATE TABLE vectors (
    item INTEGER NOT NULL REFERENCES items ON DELETE CASCADE,
    model INTEGER NOT NULL REFERENCES models,
    norm REAL NOT NULL,                    -- length of the embedding before normalisation
    vector BLOB NOT NULL,                  -- float32, unit length
    PRIMARY KEY (item, model)
);
CREATE TABLE excluded (glob TEXT PRIMARY KEY) WITHOUT ROWID;  -- of paths that are left out though their files are there
{_MARKS}
PRAGMA user_version = {_VERSION};
"""
# Items keep their ids; what version 1 numbered its changes by is kept as the number of every item's last one.
_FROM_VERSION_1 = f"""
DROP TRIGGER vector_added; DROP TRIGGER vector_removed; DROP TRIGGER vector_changed; DROP INDEX items_by_label;
ALTER TABLE items RENAME TO items_1;
ALTER TABLE meta RENAME TO meta_1;
CREATE TEMP TABLE last_id AS SELECT seq FROM sqlite_sequence WHERE name = 'items_1';
{SCHEMA}
INSERT INTO meta SELECT key, value FROM meta_1 WHERE key NOT IN ('fingerprint', 'dimension');
INSERT INTO meta VALUES ('model', 1);
INSERT INTO models SELECT 1, found.value, wide.value FROM meta_1 AS found, meta_1 AS wide
    WHERE found.key = 'fingerprint' AND wide.key = 'dimension';
INSERT INTO items (id, path, size, mtime_ns, label, state, reason, width, height, changed)
    SELECT id, path, size, mtime_ns, label, state, reason, width, height, value FROM items_1, meta WHERE key = 'sequence';
INSERT INTO vectors SELECT id, 1, norm, vector FROM items_1 WHERE vector IS NOT NULL;
DROP TABLE items_1; DROP TABLE meta_1;
DELETE FROM sqlite_sequence WHERE name = 'items';
INSERT INTO sqlite_sequence SELECT 'items', seq FROM last_id;
DROP TABLE last_id;
"""
_FROM_VERSION_2 = f"{_MARKS} PRAGMA user_version = 3;"
_MIGRATIONS = {1: _FROM_VERSION_1, 2: _FROM_VERSION_2}
LIVE = "SELECT value FROM meta WHERE key = 'model'"
SEARCHABLE = f"""
FROM items JOIN vectors ON item = items.id AND model = ({LIVE}) WHERE state = 'ready'
"""


def upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the tables of an older version up to this one; raises HdmlError when they are of another that is not known."""
    for version, statements in _MIGRATIONS.items():
        if _version(connection) == version:
            _migrate(connection, version, statements)
    if (version := _version(connection)) != _VERSION:
        raise HdmlError(
            f"{path} must be a catalogue of version {_VERSION}, but is of version {version}, of another hdml; update this one"
        )


def _migrate(connection: sqlite3.Connection, version: int, statements: str) -> None:
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {statements} COMMIT;")
    except sqlite3.OperationalError:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if _version(connection) == version:  # else another process has done it meanwhile
            raise


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
