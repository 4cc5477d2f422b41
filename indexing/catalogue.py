"""The catalogue: a SQLite file that holds the truth about an index, its items and their vectors."""

import json
import sqlite3
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, astuple, dataclass
from datetime import UTC, datetime
from operator import add
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from indexing.database import connect, in_words, transaction, understood
from indexing.descriptions import Described, Descriptions, parse_folder_names
from indexing.encoder import ENCODER
from indexing.errors import HdmlError, UnknownItem
from indexing.filters import Filter
from indexing.gallery import Failure, PhotoFile, any_glob
from indexing.marks import MARK, MARKS, MARKS_SCHEMA, Mark, QueryPhoto, as_mark
from indexing.walk import DESCRIBE_ANEW, RECORD_UNREADABLE, Comparison, compare_walk

CATALOGUE = "catalogue.sqlite"
MODELS = "models"  # folder of the encoders that came after the first
SCHEMA_VERSION = 3
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
{MARKS_SCHEMA}
PRAGMA user_version = {SCHEMA_VERSION};
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
_FROM_VERSION_2 = f"{MARKS_SCHEMA} PRAGMA user_version = 3;"
_MIGRATIONS = {1: _FROM_VERSION_1, 2: _FROM_VERSION_2}
_RECORD = """
INSERT INTO items (path, size, mtime_ns, label, attributes, hash, state, reason, width, height, changed)
SELECT path, size, mtime_ns, label, attributes, :hash, :state, :reason, :width, :height, :changed FROM walk WHERE path = :path
ON CONFLICT (path) WHERE state != 'gone' DO UPDATE SET source = excluded.source, size = excluded.size,
    mtime_ns = excluded.mtime_ns, label = excluded.label, attributes = excluded.attributes, hash = excluded.hash,
    state = excluded.state, reason = excluded.reason, width = excluded.width, height = excluded.height,
    changed = MAX(changed, excluded.changed)
RETURNING id
"""
# Of one that could be found once, searches may still have to learn that it cannot any more.
_FORGET_FAILED = (
    "DELETE FROM items WHERE state = 'failed' AND changed = 0",
    "UPDATE items SET state = 'gone', reason = NULL WHERE state = 'failed'",
)
_COME_BACK = """
UPDATE items SET state = 'ready', source = 'folder', changed = :changed, path = :path,
    (size, mtime_ns, label, attributes) = (SELECT size, mtime_ns, label, attributes FROM walk WHERE path = :path)
WHERE id = :id
"""
# What a table of vectors gives, some thousand rows at a time, and the paths that it has given; tables of this connection alone.
_GIVEN = """
DROP TABLE IF EXISTS given; DROP TABLE IF EXISTS taken;
CREATE TEMP TABLE given (
    number INTEGER PRIMARY KEY, path TEXT UNIQUE, label TEXT, attributes TEXT, norm REAL, vector BLOB,
    item INTEGER, state TEXT, source TEXT, same INTEGER  -- what there is at that path
);
CREATE TEMP TABLE taken (path TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_FIND_GIVEN = """
UPDATE given SET (item, state, source, same) = (
    SELECT items.id, items.state, items.source, vectors.vector = given.vector
    FROM items LEFT JOIN vectors ON vectors.item = items.id AND model = (SELECT value FROM meta WHERE key = 'model')
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
_STORE_GIVEN_VECTORS = """
INSERT OR REPLACE INTO vectors SELECT items.id, value, norm, vector
FROM given CROSS JOIN items ON items.path = given.path AND items.state != 'gone' CROSS JOIN meta ON key = 'model' ORDER BY number
"""
_ADD_VECTOR = "INSERT INTO vectors SELECT ?, value, ?, ? FROM meta WHERE key = 'model'"
_LIVE = "SELECT value FROM meta WHERE key = 'model'"
_KNOWN_TO = """
SELECT items.id, state, changed, width, height, norm, vector FROM items JOIN vectors ON item = items.id
WHERE hash = ? AND state = ? AND model = {model}
ORDER BY items.id LIMIT 1
"""
_KNOWN, _KNOWN_TO_MODEL = _KNOWN_TO.format(model=f"({_LIVE})"), _KNOWN_TO.format(model="?")
_KNOWN_STATES = ("gone", "ready")  # one that is gone may have become this photo; of one that is there it is a copy
_SEARCHABLE = f"""
FROM items JOIN vectors ON item = items.id AND model = ({_LIVE}) WHERE state = 'ready'
"""
# SQLite would rather go through all items, which come in the right order, than look up those few.
_CHANGED = f"SELECT items.id, vector {_SEARCHABLE} AND changed > ? ORDER BY items.id".replace(
    "FROM items", "FROM items INDEXED BY items_by_change"
)
_SOME = """
SELECT item, vector FROM json_each(?) CROSS JOIN vectors ON item = json_each.value
    AND model = (SELECT id FROM models WHERE fingerprint = ?)
CROSS JOIN items ON items.id = item AND state = 'ready' AND changed <= ? ORDER BY item
"""
_OF_MODEL = "FROM items JOIN vectors ON item = items.id AND model = ? WHERE state = 'ready'"
_LACKING = """
FROM items WHERE state = 'ready' AND NOT EXISTS (SELECT 1 FROM vectors WHERE item = items.id AND model = ?)
"""
_MODELS = f"""
SELECT id, fingerprint, dimension, (SELECT COUNT(*) FROM vectors WHERE model = models.id), id = ({_LIVE}) FROM models ORDER BY id
"""
_FINGERPRINT = "SELECT fingerprint FROM models WHERE id = model"
_ITEM = f"items.id, path, label, attributes, width, height, vector, norm, ({_FINGERPRINT})"
_KEEP_MIGRATION = "INSERT OR REPLACE INTO meta VALUES ('migration', ?)"
_LIVE_MODEL = f"SELECT id, fingerprint, dimension FROM models WHERE id = ({_LIVE})"
_ROWS_AT_A_TIME = 4096
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
class About:
    """What an index is of.

    Attributes:
        gallery: resolved path of the folder of photos.
        fingerprint: of the encoder that searches compare by.
        dimension: length of its vectors.
        encoder: its file, beside which lies what came with it.
        sequence: grows with every change of the vectors; names the faiss cache that belongs to them.
        updated: when the index was last brought up to date, ISO 8601 in UTC; before the first time, when it was made.
    """

    gallery: Path
    fingerprint: str
    dimension: int
    encoder: Path
    sequence: int
    updated: str


@dataclass(frozen=True)
class Model:
    """An encoder that an index has vectors of.

    Attributes:
        id: of the index's own.
        fingerprint: of the encoder.
        dimension: length of its vectors.
        vectors: how many there are, those of photos that are gone included.
        live: whether searches compare by it.
        encoder: its file.
    """

    id: int
    fingerprint: str
    dimension: int
    vectors: int
    live: bool
    encoder: Path


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
    some: "Look"
    model: str = ""


Look = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.float32]]]
"""Gives the vectors of some items, by ids [n]: ids [m], ascending, and vectors float32 [m, D], of those that it has."""


@dataclass(frozen=True)
class Plan:
    """What is asked of an index's bases.

    Attributes:
        kind: one of :data:`indexing.kinds.KINDS`; None chooses.
        target: share of the true ten nearest that a search is to find.
        memory: bytes that a base may take; None for no bound.
    """

    kind: str | None = None
    target: float = 0.99
    memory: int | None = None


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


def has_catalogue(index_dir: Path) -> bool:
    """Whether a folder is an index; raises HdmlError when that cannot be told, as of a folder that is closed to this user."""
    path = index_dir / CATALOGUE
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise HdmlError(f"{path} cannot be reached: {error.strerror}; change the permissions of its folder") from error


def unfinished_catalogue(index_dir: Path) -> Path:
    """The file that is to become an index's catalogue when it is whole."""
    return index_dir / f"{CATALOGUE}.part"


class Catalogue:
    """An open catalogue; a context manager. Reading is safe from several threads."""

    def __init__(self, index_dir: Path) -> None:
        """Open an index's catalogue; raises HdmlError when there is none, or when it is damaged or of another version."""
        self.path = index_dir / CATALOGUE
        if not has_catalogue(index_dir):
            raise HdmlError(f'{index_dir} must be an index, but it has no {CATALOGUE}; make an index with "hdml index FOLDER"')
        self._lock = threading.Lock()
        self._compared_at = 0
        with in_words(self.path):
            self._connection = connect(self.path)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    @classmethod
    def create(cls, index_dir: Path, *, gallery: Path, fingerprint: str, dimension: int) -> Self:
        """Make and open an empty catalogue; it appears whole or not at all, and raises HdmlError where there is one already."""
        unfinished = unfinished_catalogue(index_dir)
        unfinished.unlink(missing_ok=True)
        meta = {"gallery": str(gallery), "model": 1, "sequence": 0, "updated": _now()}
        with in_words(unfinished), closing(connect(unfinished)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # readers go on while the indexer writes; the file remembers it
            connection.executescript(SCHEMA)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.execute("INSERT INTO models VALUES (1, ?, ?)", (fingerprint, dimension))
        _give_name(unfinished, index_dir / CATALOGUE)
        return cls(index_dir)

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA synchronous = NORMAL")
        for version, statements in _MIGRATIONS.items():
            if self._version() == version:
                self._migrate(version, statements)
        if (version := self._version()) != SCHEMA_VERSION:
            raise HdmlError(
                f"{self.path} must be a catalogue of version {SCHEMA_VERSION}, but is of version {version}, of another hdml; "
                "update this one"
            )
        self._connection.execute("PRAGMA foreign_keys = ON")

    def _migrate(self, version: int, statements: str) -> None:
        try:
            self._connection.executescript(f"BEGIN IMMEDIATE; {statements} COMMIT;")
        except sqlite3.OperationalError:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if self._version() == version:  # else another process has done it meanwhile
                raise

    def _version(self) -> int:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        return int(version)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    # Reading

    def about(self) -> About:
        with understood(self.path):
            meta = dict(self._rows("SELECT key, value FROM meta"))
            ((fingerprint, dimension),) = self._rows("SELECT fingerprint, dimension FROM models WHERE id = ?", meta["model"])
            encoder = self._encoder_file(meta["model"], fingerprint)
            return About(Path(meta["gallery"]), fingerprint, dimension, encoder, int(meta["sequence"]), str(meta["updated"]))

    def models(self) -> list[Model]:
        """The encoders that this index has vectors of, in the order in which they came."""
        return self._as_models(self._rows(_MODELS))

    def _as_models(self, rows: list[tuple[Any, ...]]) -> list[Model]:
        return [
            Model(number, fingerprint, dimension, vectors, bool(live), self._encoder_file(number, fingerprint))
            for number, fingerprint, dimension, vectors, live in rows
        ]

    def encoder_of(self, fingerprint: str) -> Path:
        """The file of an encoder that this index has vectors of; raises HdmlError when it has none of it."""
        found = self._rows("SELECT id, fingerprint FROM models WHERE fingerprint = ?", fingerprint)
        if not found:
            raise HdmlError(f"the index {self.path.parent.name} must know the encoder {fingerprint}, but has forgotten it")
        return self._encoder_file(*found[0])

    def _encoder_file(self, model: int, fingerprint: str) -> Path:
        # That the first one lies in the index's own folder is of before an index could have several.
        return (self.path.parent if model == 1 else self.path.parent / MODELS / fingerprint) / ENCODER

    def migration(self) -> dict[str, Any] | None:
        """What comparing two models of this index came to the last time, as set_migration was told; None before the first."""
        with understood(self.path):
            found = self._rows("SELECT value FROM meta WHERE key = 'migration'")
            return dict(json.loads(found[0][0])) if found else None

    def version(self) -> int:
        """A number that is another one after any change by another process, of labels as well as of vectors."""
        ((version,),) = self._rows("PRAGMA data_version")
        return int(version)

    def sequence(self) -> int:
        with understood(self.path):
            ((sequence,),) = self._rows("SELECT value FROM meta WHERE key = 'sequence'")
            return int(sequence)

    def count(self) -> int:
        """Number of searchable items."""
        ((count,),) = self._rows("SELECT COUNT(*) FROM items WHERE state = 'ready'")
        return int(count)

    def failures(self) -> list[Failure]:
        """Files that could not be read, by path."""
        return [Failure(*row) for row in self._rows("SELECT path, reason FROM items WHERE state = 'failed' ORDER BY path")]

    def item(self, item_id: int) -> Item:
        """One searchable item; raises UnknownItem when there is none of that id."""
        try:
            items = self._items("items.id = ?", item_id)
        except OverflowError:  # larger than any number that SQLite can hold
            items = []
        if not items:
            raise UnknownItem(f"the index {self.path.parent.name} has no item with id {item_id}")
        return items[0]

    def item_at(self, path: str) -> Item:
        """One searchable item by its path; raises HdmlError when there is none."""
        items = self._items("path = ?", path)
        if not items:
            raise HdmlError(f"the index {self.path.parent.name} must hold the photo that is asked for, but has none at {path}")
        return items[0]

    def items(self, label: str | None = None) -> list[Item]:
        """All searchable items, or those of a label, by id; vectors included, so mind the memory of large galleries."""
        return self._items("TRUE") if label is None else self._items("label = ?", label)

    def photo_records(self, ids: list[int] | None = None) -> list[PhotoRecord]:
        """Searchable items by id, all of them or some, without their vectors; no photo has been seen of those from tables."""
        columns = "id, path, label, width, height, size, mtime_ns, hash"
        query = f"SELECT {columns} FROM items WHERE state = 'ready' AND source = 'folder'"
        if ids is None:
            return [PhotoRecord(*row) for row in self._rows(f"{query} ORDER BY id")]
        some = f"{query} AND id IN (SELECT value FROM json_each(?)) ORDER BY id"
        return [PhotoRecord(*row) for row in self._rows(some, json.dumps(ids))]

    def plan(self) -> Plan:
        """What is asked of the bases of this index."""
        found = dict(self._rows("SELECT key, value FROM meta WHERE key IN ('kind', 'target', 'memory')"))
        return Plan(**found)

    def descriptions(self) -> Descriptions:
        """Where labels and attributes of the photos come from."""
        found = dict(self._rows("SELECT key, value FROM meta WHERE key IN ('folder_names', 'manifest')"))
        names, manifest = found.get("folder_names"), found.get("manifest")
        return Descriptions(
            Descriptions().folder_names if names is None else parse_folder_names(names), manifest and Path(manifest)
        )

    def false_matches(self) -> float | None:
        """Share of false matches that is asked of the calibration; None when nothing was."""
        found = self._rows("SELECT value FROM meta WHERE key = 'false_matches'")
        return float(found[0][0]) if found else None

    def calibration(self) -> dict[str, Any] | None:
        """What set_calibration stored last; None when nothing was."""
        found = self._rows("SELECT value FROM meta WHERE key = 'calibration'")
        with understood(self.path):
            return dict(json.loads(found[0][0])) if found else None

    def excluded(self) -> list[str]:
        """Globs of the paths that are left out."""
        return [glob for (glob,) in self._rows("SELECT glob FROM excluded ORDER BY glob")]

    def count_gone(self) -> int:
        """Number of items that are kept, though their photos are gone."""
        ((count,),) = self._rows("SELECT COUNT(*) FROM items WHERE state = 'gone'")
        return int(count)

    def find_faults(self) -> list[str]:
        """What is wrong with the catalogue in itself, a sentence each; reads all of it."""
        faults = [f"SQLite says: {found}" for (found,) in self._rows("PRAGMA integrity_check") if found != "ok"]
        faults += [
            f"a row of {table} belongs to none of {parent}" for table, _, parent, _ in self._rows("PRAGMA foreign_key_check")
        ]
        query = f"SELECT id FROM items WHERE state = 'ready' AND id NOT IN (SELECT items.id {_SEARCHABLE})"
        faults += [f"item {item_id} has no vector" for (item_id,) in self._rows(query)]
        wrong = "SELECT item FROM vectors JOIN models ON models.id = model WHERE length(vector) != 4 * dimension"
        if misshapen := [f"the vector of item {item_id} has another length than its model's" for (item_id,) in self._rows(wrong)]:
            return faults + misshapen
        with self.vectors() as vectors:
            for ids, page in vectors.pages():
                lengths = np.linalg.norm(page, axis=1)
                faults += [f"the vector of item {item_id} is not of unit length" for item_id in ids[~(abs(lengths - 1) < 1e-3)]]
        return faults

    def paths(self) -> list[tuple[int, str]]:
        """Id and path of every searchable item, by id."""
        return self._rows("SELECT id, path FROM items WHERE state = 'ready' ORDER BY id")

    def copy_to(self, file: Path) -> None:
        """Write a copy of one moment into a file that must be new."""
        with self._lock, in_words(file):
            self._connection.execute("VACUUM INTO ?", (str(file),))

    def labels(self) -> dict[str, int]:
        """Labels, sorted, with their number of searchable items."""
        query = "SELECT label, COUNT(*) FROM items WHERE state = 'ready' AND label IS NOT NULL GROUP BY label ORDER BY label"
        return dict(self._rows(query))

    def label_numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids [n] of all searchable items, ascending, and the numbers [n] of their labels; −1 for those without one."""
        query = """
            SELECT id, IIF(label IS NULL, -1, DENSE_RANK() OVER (ORDER BY label)) FROM items WHERE state = 'ready' ORDER BY id
        """
        with self._lock, in_words(self.path):
            rows = self._connection.execute(query)
            pairs = np.fromiter((number for row in rows for number in row), np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def known(self, ids: list[int]) -> dict[int, tuple[str, str | None, dict[str, str], int | None, int | None]]:
        """Path, label, attributes, width and height of each of these items; ids that are gone are left out."""
        columns = "id, path, label, attributes, width, height"
        query = f"SELECT {columns} FROM items WHERE state = 'ready' AND id IN (SELECT value FROM json_each(?))"
        rows = self._rows(query, json.dumps(ids))
        with understood(self.path):
            return {item_id: (path, label, json.loads(attributes), *size) for item_id, path, label, attributes, *size in rows}

    @contextmanager
    def vectors(self, of: Model | None = None) -> Iterator[Vectors]:
        """All searchable vectors, which are read while the context lasts; other readers of this catalogue wait for its end.

        Args:
            of: the model; None takes the one that searches compare by.
        """
        with self._lock, in_words(self.path), transaction(self._connection, "DEFERRED"):  # one snapshot for all
            ((sequence,),) = self._connection.execute("SELECT value FROM meta WHERE key = 'sequence'")
            ((live, fingerprint, dimension),) = self._connection.execute(_LIVE_MODEL)
            if of is not None:
                live, fingerprint, dimension = of.id, of.fingerprint, of.dimension
            ((count,),) = self._connection.execute(f"SELECT COUNT(*) {_OF_MODEL}", (live,))
            query = f"SELECT items.id, vector {_OF_MODEL} ORDER BY items.id"
            yield Vectors(
                sequence,
                dimension,
                count,
                lambda: _pages(self._connection.execute(query, (live,)), dimension),
                lambda ids: self._some(ids, fingerprint, dimension, sequence),
                fingerprint,
            )

    def look(self, model: str, dimension: int, until: int) -> Look:
        """Gives a model's vectors of items as they were at a sequence number; those that have changed since are left out."""

        def vectors_of(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            with self._lock, in_words(self.path):
                return self._some(ids, model, dimension, until)

        return vectors_of

    def _some(
        self, ids: NDArray[np.int64], model: str, dimension: int, until: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return _gathered(self._connection.execute(_SOME, (json.dumps(ids.tolist()), model, until)), dimension)

    def changes(self, since: int) -> Changes:
        """What has changed after a sequence number; all of it is held in memory."""
        with self._lock, in_words(self.path), transaction(self._connection, "DEFERRED"):
            ((sequence,),) = self._connection.execute("SELECT value FROM meta WHERE key = 'sequence'")
            ((_, fingerprint, dimension),) = self._connection.execute(_LIVE_MODEL)
            changed = self._connection.execute("SELECT id FROM items WHERE changed > ?", (since,)).fetchall()
            ready, vectors = _gathered(self._connection.execute(_CHANGED, (since,)), dimension)
        return Changes(sequence, np.array([item_id for (item_id,) in changed], np.int64), ready, vectors, fingerprint)

    def matching(self, wanted: Filter) -> NDArray[np.int64]:
        """Ids of the searchable items that a filter lets through, ascending."""
        condition, values = wanted.sql()
        rows = self._rows(f"SELECT id FROM items WHERE state = 'ready' AND {condition} ORDER BY id", *values)
        return np.array([item_id for (item_id,) in rows], np.int64)

    def having(self, one: Model, other: Model) -> NDArray[np.int64]:
        """Ids of the searchable items that have a vector of each of two models, ascending."""
        of_other = "SELECT item FROM vectors WHERE model = ?"
        rows = self._rows(f"SELECT items.id {_OF_MODEL} AND items.id IN ({of_other}) ORDER BY items.id", one.id, other.id)
        return np.array([item_id for (item_id,) in rows], np.int64)

    @contextmanager
    def all_items(self) -> Iterator[Iterator[Item]]:
        """All searchable items of one moment, by id, read while the context lasts; other readers of this catalogue wait."""
        with self._lock, in_words(self.path), transaction(self._connection, "DEFERRED"):
            query = f"SELECT {_ITEM} {_SEARCHABLE} ORDER BY items.id"
            yield map(_as_item, self._connection.execute(query))

    def attribute_names(self) -> list[str]:
        """Names that the searchable items' attributes have, sorted."""
        query = "SELECT DISTINCT key FROM items, json_each(attributes) WHERE state = 'ready' ORDER BY key"
        return [name for (name,) in self._rows(query)]

    def count_changes(self, since: int) -> int:
        """Number of items that have changed after a sequence number."""
        ((count,),) = self._rows("SELECT COUNT(*) FROM items WHERE changed > ?", since)
        return int(count)

    def _items(self, condition: str, *values: Any) -> list[Item]:
        rows = self._rows(f"SELECT {_ITEM} {_SEARCHABLE} AND {condition} ORDER BY items.id", *values)
        with understood(self.path):
            return list(map(_as_item, rows))

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, in_words(self.path):
            return self._connection.execute(query, values).fetchall()

    # Writing, by one thread of the indexer

    def compare(
        self, photos: Iterable[PhotoFile], *, described: Iterable[Described] = (), retry_failed: bool = True
    ) -> Comparison:
        """Take in what a walk of the gallery found and say what it means for the items; none is changed yet.

        Args:
            photos: in the order of their paths, as :func:`indexing.gallery.walk_gallery` gives them.
            described: what a manifest says of them; it goes before what their folders say.
            retry_failed: whether files that could not be read are pending though they look as they did then.

        Raises:
            ValueError: the photos are in no such order.
        """
        with self._lock, in_words(self.path), transaction(self._connection, "DEFERRED"):
            ((self._compared_at,),) = self._connection.execute("SELECT value FROM meta WHERE key = 'sequence'")
            return compare_walk(self._connection, photos, described, retry_failed=retry_failed)

    def pending(self) -> Iterator[str]:
        """Paths of the photos that have to be embedded after a compare: new, changed, or failed before; sorted.

        They are read a page at a time: a cursor left open would hold one snapshot, and the log would grow till its end.
        """
        last = 0
        while page := self._rows(f"SELECT number, path FROM pending WHERE number > ? LIMIT {_ROWS_AT_A_TIME}", last):
            yield from (path for _, path in page)
            last = page[-1][0]

    def settle(self) -> None:
        """After a compare, take in all that needs no embedding.

        Items whose file is gone leave the search, but keep their ids and vectors, should their photos turn up elsewhere. The
        others get the labels and attributes that they have now. Files that are known to be unreadable are noted.
        """
        with self._write() as connection:
            connection.execute(DESCRIBE_ANEW)
            rows = connection.execute("SELECT id FROM missing WHERE state = 'ready'").fetchall()
            self._take_away(connection, [item_id for (item_id,) in rows])
            for statement in _FORGET_FAILED:
                connection.execute(f"{statement} AND id IN (SELECT id FROM missing)")
            connection.execute(RECORD_UNREADABLE)

    def knows(self, digest: bytes, *, by: Model | None = None) -> bool:
        """Whether the vector of a file of these bytes is there already, by a model, or by the one that searches compare by."""
        query, model = (_KNOWN, ()) if by is None else (_KNOWN_TO_MODEL, (by.id,))
        return any(self._rows(query, digest, state, *model) for state in _KNOWN_STATES)

    def record(self, photos: list[tuple[str, EmbeddedPhoto]]) -> Recorded:
        """Store what embedding gave for some pending paths, in one transaction; a changed photo keeps its id.

        A photo of known bytes is an item that was gone and comes back there, or a copy of another. One whose twin has changed
        since it was known stays pending.
        """
        counts: Counter[str] = Counter()
        with self._write() as connection:
            for path, photo in photos:
                counts[counted := self._record(connection, path, photo)] += 1
                if counted != "unknown":
                    connection.execute("DELETE FROM pending WHERE path = ?", (path,))
        del counts["unknown"]
        return Recorded(**counts)

    def _record(self, connection: sqlite3.Connection, path: str, photo: EmbeddedPhoto) -> str:
        """Store one; returns the field of Recorded that it counts in, or ``unknown`` when its bytes no longer are."""
        query = "SELECT state, hash FROM items WHERE path = ? AND state != 'gone'"
        state, digest = connection.execute(query, (path,)).fetchone() or (None, None)
        width, height, norm, vector = photo.width, photo.height, photo.norm, photo.vector
        if photo.reason is None and vector is None:
            twins = (connection.execute(_KNOWN, (photo.hash, state)).fetchone() for state in _KNOWN_STATES)
            known = next(filter(None, twins), None)
            if known is None:
                return "unknown"
            twin, twin_state, twin_changed, width, height, norm, vector = known
            if twin_state == "gone" and state != "ready":
                for statement in _FORGET_FAILED:
                    connection.execute(f"{statement} AND path = ?", (path,))
                connection.execute(_COME_BACK, {"id": twin, "path": path, "changed": self._next()})
                return "moved" if twin_changed > self._compared_at else "added"
        touched = state == "ready" and digest is not None and digest == photo.hash
        in_search = vector is not None or state == "ready"
        values = {
            "path": path,
            "hash": photo.hash,
            "state": "failed" if vector is None else "ready",
            "reason": photo.reason,
            "width": width,
            "height": height,
            "changed": self._next() if in_search and not touched else 0,
        }
        ((item_id,),) = connection.execute(_RECORD, values).fetchall()
        if touched:
            return "touched"
        connection.execute("DELETE FROM vectors WHERE item = ?", (item_id,))
        if vector is None:
            return "failed"
        connection.execute(_ADD_VECTOR, (item_id, norm, bytes(vector)))
        return "updated" if state == "ready" else "added"

    def begin_table(self) -> None:
        """Forget which paths a table has given: another one begins."""
        with self._lock, in_words(self.path):
            self._connection.executescript(_GIVEN)

    def take_in(self, rows: Iterable[GivenVector]) -> Taken:
        """Store some thousand rows of the table that has begun, by their paths, in one transaction and under one number.

        An item keeps its id. A photo that the index has embedded itself keeps its vector too.
        """
        rows = list(rows)
        repeated = [path for path, times in Counter(row.path for row in rows).items() if times > 1]
        with self._write() as connection:
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
                connection.execute(_STORE_GIVEN, (self._next(),))
                connection.execute(_STORE_GIVEN_VECTORS)
        return Taken(count - updated, updated, unchanged, relabelled, kept, (*repeated, *(path for (path,) in again)))

    def _take_away(self, connection: sqlite3.Connection, ids: list[int]) -> None:
        """Items leave the search, but keep their ids and vectors."""
        for item_id in ids:
            connection.execute("UPDATE items SET state = 'gone', changed = ? WHERE id = ?", (self._next(), item_id))

    def _next(self) -> int:
        """The sequence number of one more change."""
        query = "UPDATE meta SET value = value + 1 WHERE key = 'sequence' RETURNING value"
        ((sequence,),) = self._connection.execute(query).fetchall()
        return int(sequence)

    def exclude(self, globs: Iterable[str]) -> int:
        """Leave out the paths that match: photos from the next compare on, and what a table gave at once, which is counted."""
        globs = list(globs)
        if not globs:
            return 0
        matches = any_glob(globs)
        with self._write() as connection:
            connection.executemany("INSERT OR IGNORE INTO excluded VALUES (?)", [(glob,) for glob in globs])
            given = connection.execute("SELECT id, path FROM items WHERE source = 'table' AND state = 'ready'").fetchall()
            left_out = [item_id for item_id, path in given if matches(path)]
            self._take_away(connection, left_out)
        return len(left_out)

    def include(self, globs: Iterable[str]) -> None:
        """Take back globs that were excluded; raises HdmlError when one was not."""
        with self._write() as connection:
            for glob in globs:
                if connection.execute("DELETE FROM excluded WHERE glob = ?", (glob,)).rowcount == 0:
                    known = ", ".join(found for (found,) in connection.execute("SELECT glob FROM excluded")) or "nothing"
                    raise HdmlError(f"only what was removed can be restored, but {glob} was not; removed: {known}")

    def set_plan(self, plan: Plan) -> None:
        """Ask something else of the bases to come."""
        with self._write() as connection:
            connection.execute("DELETE FROM meta WHERE key IN ('kind', 'target', 'memory')")
            asked = [(key, value) for key, value in asdict(plan).items() if value is not None]
            connection.executemany("INSERT INTO meta VALUES (?, ?)", asked)

    def set_descriptions(self, descriptions: Descriptions) -> None:
        """Take labels and attributes from elsewhere, from the next compare on."""
        found = {"folder_names": "/".join(descriptions.folder_names)}
        if descriptions.manifest is not None:
            found["manifest"] = str(descriptions.manifest)
        with self._write() as connection:
            connection.execute("DELETE FROM meta WHERE key IN ('folder_names', 'manifest')")
            connection.executemany("INSERT INTO meta VALUES (?, ?)", found.items())

    def set_false_matches(self, share: float) -> None:
        """Ask another share of false matches of the calibrations to come."""
        self._set("false_matches", share)

    def set_calibration(self, fields: dict[str, Any]) -> None:
        """Store what the scores of this index mean, in place of what was."""
        self._set("calibration", json.dumps(fields))

    def _set(self, key: str, value: float | str) -> None:
        with self._write() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def forget_gone(self) -> int:
        """Delete the items whose photos are gone and give the room back; returns their number. No base may hold them."""
        with self._write() as connection:
            count = connection.execute("DELETE FROM items WHERE state = 'gone'").rowcount
        with self._lock, in_words(self.path):
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return count

    # Right and wrong marks

    def mark(self, query: int | QueryPhoto, item: int, *, right: bool) -> int:
        """Keep what somebody says of an item as an answer to a query, in place of what was said before; returns the mark's id.

        Args:
            query: another searchable item, or a photo that was sent, which is kept while it has a mark.

        Raises:
            HdmlError: the query is the item, or either can not be found.
        """
        if query == item:
            raise HdmlError(f"a mark is of two photos, but item {item} was marked as an answer to itself; choose another result")
        ids = [item] if isinstance(query, QueryPhoto) else [query, item]
        with self._write() as connection:
            for each in ids:
                if connection.execute("SELECT 1 FROM items WHERE id = ? AND state = 'ready'", (each,)).fetchone() is None:
                    raise HdmlError(
                        f"a mark is of photos that can be found, but the index {self.path.parent.name} has no item with id {each}"
                    )
            values: dict[str, Any] = {"query": query, "photo": None, "item": item, "right": right, "marked": _now()}
            if isinstance(query, QueryPhoto):
                kept = (query.hash, query.name, query.size, query.jpeg)
                connection.execute("INSERT OR IGNORE INTO query_photos VALUES (?, ?, ?, ?)", kept)
                values |= {"query": None, "photo": query.hash}
            ((mark_id,),) = connection.execute(MARK, values).fetchall()
        return int(mark_id)

    def marks(self) -> list[Mark]:
        """All marks, in the order in which they were first made; those of photos that are gone too."""
        return [as_mark(row) for row in self._rows(f"{MARKS} ORDER BY marks.id")]

    def query_photo(self, mark_id: int) -> QueryPhoto | None:
        """The photo that was sent as the query of a mark; None when there is none."""
        query = "SELECT query_photos.* FROM query_photos JOIN marks ON photo = hash WHERE id = ?"
        found = self._rows(query, mark_id)
        return QueryPhoto(*found[0]) if found else None

    def unmark(self, mark_id: int) -> bool:
        """Forget a mark, and with its last mark a query photo that was sent; returns whether there was one of that id."""
        with self._write() as connection:
            count = connection.execute("DELETE FROM marks WHERE id = ?", (mark_id,)).rowcount
            connection.execute("DELETE FROM query_photos WHERE hash NOT IN (SELECT photo FROM marks WHERE photo IS NOT NULL)")
        return count > 0

    # Changing over to another model

    def add_model(self, fingerprint: str, dimension: int) -> Model:
        """The model of an encoder, new or known; nothing is found by it before it is swapped in.

        Raises:
            HdmlError: it is known with vectors of another length.
        """
        with self._write() as connection:
            connection.execute("INSERT OR IGNORE INTO models (fingerprint, dimension) VALUES (?, ?)", (fingerprint, dimension))
        (model,) = (model for model in self.models() if model.fingerprint == fingerprint)
        if model.dimension != dimension:
            raise HdmlError(
                f"the encoder {fingerprint} must give vectors of {model.dimension} values, as those that the index "
                f"{self.path.parent.name} has of it, but gives {dimension}; export it again"
            )
        return model

    def lacking(self, model: Model) -> Iterator[str]:
        """Paths of the searchable photos that have no vector of a model, by id; read a page at a time, as pending's are."""
        last = 0
        query = f"SELECT id, path {_LACKING} AND source = 'folder' AND id > ? ORDER BY id LIMIT {_ROWS_AT_A_TIME}"
        while page := self._rows(query, model.id, last):
            yield from (path for _, path in page)
            last = page[-1][0]

    def count_lacking(self, model: Model) -> tuple[int, int]:
        """Number of searchable items that have no vector of a model: those of photos, and those from tables of vectors."""
        ((photos, tables),) = self._rows(
            f"SELECT COUNT(*) FILTER (WHERE source = 'folder'), COUNT(*) FILTER (WHERE source != 'folder') {_LACKING}", model.id
        )
        return int(photos), int(tables)

    def add_vectors(self, model: Model, photos: Iterable[tuple[str, EmbeddedPhoto]]) -> list[Failure]:
        """Store what embedding by a model gave for the items at some paths, in one transaction; returns those that stay without.

        A file with other bytes than the index knows of is another photo than the one that is searched for, and stays without too.
        """
        failed = []
        with self._write() as connection:
            for path, photo in photos:
                query = "SELECT id, hash FROM items WHERE path = ? AND state = 'ready'"
                item_id, digest = connection.execute(query, (path,)).fetchone()
                if photo.reason is not None or digest not in (None, photo.hash):
                    failed.append(Failure(path, photo.reason or "its file has changed since it was indexed"))
                    continue
                norm, vector = photo.norm, photo.vector
                if vector is None:
                    twins = (connection.execute(_KNOWN_TO_MODEL, (photo.hash, of, model.id)).fetchone() for of in _KNOWN_STATES)
                    *_, norm, vector = next(filter(None, twins))
                assert vector is not None
                connection.execute("INSERT INTO vectors VALUES (?, ?, ?, ?)", (item_id, model.id, norm, bytes(vector)))
        return failed

    def swap(self, model: Model, *, sequence: int, failed: Iterable[Failure], found: dict[str, Any]) -> None:
        """Let searches compare by another model from one moment to the next, under the next sequence number.

        Args:
            sequence: that the model's base was built at, and that the catalogue must still have.
            failed: photos without a vector of the model, which are found no more, each with the reason.
            found: what comparing the two came to, as for set_migration.

        Raises:
            HdmlError: the catalogue has changed since, or a searchable item would have no vector.
        """
        with self._write() as connection:
            changed = self._next()
            for failure in failed:
                connection.execute(
                    "UPDATE items SET state = 'failed', reason = ?, changed = ? WHERE path = ? AND state = 'ready'",
                    (failure.reason, changed, failure.path),
                )
            ((lacking,),) = connection.execute(f"SELECT COUNT(*) {_LACKING}", (model.id,))
            if lacking or changed != sequence + 1:
                raise HdmlError(
                    f"{self.path} must stay as it is while it is changed over to {model.fingerprint}, but has changed; "
                    "run the command again"
                )
            connection.execute("UPDATE meta SET value = ? WHERE key = 'model'", (model.id,))
            connection.execute("DELETE FROM meta WHERE key = 'calibration'")  # scores of another model mean something else
            connection.execute(_KEEP_MIGRATION, (json.dumps(found),))

    def set_migration(self, found: dict[str, Any]) -> None:
        """Keep what comparing two models came to."""
        with self._write() as connection:
            connection.execute(_KEEP_MIGRATION, (json.dumps(found),))

    def forget_models(self) -> list[Model]:
        """Delete the models that searches do not compare by, with their vectors; returns them, whose files are still there."""
        with self._write() as connection:
            rows = connection.execute(_MODELS).fetchall()
            connection.execute(f"DELETE FROM vectors WHERE model != ({_LIVE})")
            connection.execute(f"DELETE FROM models WHERE id != ({_LIVE})")
        return [model for model in self._as_models(rows) if not model.live]

    def mark_updated(self) -> None:
        """Note that the index is up to date with its gallery now."""
        with self._write() as connection:
            connection.execute("UPDATE meta SET value = ? WHERE key = 'updated'", (_now(),))

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock, in_words(self.path), transaction(self._connection, "IMMEDIATE"):
            yield self._connection

    # Reading, for pages

    def ordered(self, where: Filter | None, order: str) -> NDArray[np.int64]:
        """Ids of the searchable items that a filter lets through, None for all, in an order of :data:`ORDERS`."""
        condition, values = where.sql() if where else ("TRUE", [])
        rows = self._rows(f"SELECT id FROM items WHERE state = 'ready' AND {condition} ORDER BY {ORDERS[order]}", *values)
        return np.fromiter((item_id for (item_id,) in rows), np.int64, len(rows))

    def listed(self, ids: list[int]) -> list[Listed]:
        """What a list shows of some searchable items, in the order of their ids given; those that are gone are left out."""
        columns = "id, path, label, attributes, width, height, size, mtime_ns"
        query = f"SELECT {columns} FROM items WHERE state = 'ready' AND id IN (SELECT value FROM json_each(?))"
        rows = self._rows(query, json.dumps(ids))
        with understood(self.path):
            found = {
                item_id: Listed(item_id, path, label, json.loads(attributes), *seen)
                for item_id, path, label, attributes, *seen in rows
            }
        return [found[item_id] for item_id in ids if item_id in found]

    def bytes_of_photos(self) -> int:
        """Bytes that the files of all searchable items have together."""
        ((total,),) = self._rows("SELECT TOTAL(size) FROM items WHERE state = 'ready'")
        return int(total)

    def shorter_sides(self) -> dict[int, int]:
        """Lengths of the photos' shorter sides in pixels, ascending, each with its number of searchable items."""
        query = """
            SELECT MIN(width, height) AS side, COUNT(*) FROM items WHERE state = 'ready' AND width IS NOT NULL
            GROUP BY side ORDER BY side
        """
        return dict(self._rows(query))

    def attribute_values(self, most: int) -> list[tuple[str, str, int]]:
        """Names and values of attributes with their number of searchable items, the most frequent ones, by name and number."""
        query = """
            SELECT * FROM (
                SELECT key, value, COUNT(*) AS items FROM items, json_each(attributes) WHERE state = 'ready'
                GROUP BY key, value ORDER BY items DESC, key, value LIMIT ?
            ) ORDER BY key, items DESC, value
        """
        return self._rows(query, most)

    def photos(self, label: str, *, limit: int, offset: int = 0) -> list[tuple[int, str]]:
        """Ids and paths of searchable items of a label, by id; no vector is read."""
        query = "SELECT id, path FROM items WHERE state = 'ready' AND label = ? ORDER BY id LIMIT ? OFFSET ?"
        return self._rows(query, label, limit, offset)


def _give_name(unfinished: Path, path: Path) -> None:
    """Rename a database that is closed, but never onto another: processes that have that one open would go on with its log."""
    try:
        path.hardlink_to(unfinished)
    except FileExistsError as error:
        raise HdmlError(f"{path} must be new, but another process has made it meanwhile; run the command again") from error
    except OSError:  # not every file system has links
        unfinished.rename(path)
    else:
        unfinished.unlink()


def _as_item(row: tuple[Any, ...]) -> Item:
    item_id, path, label, attributes, width, height, vector, norm, model = row
    return Item(item_id, path, label, json.loads(attributes), width, height, np.frombuffer(vector, np.float32), norm, model)


def _pages(rows: sqlite3.Cursor, dimension: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    while page := rows.fetchmany(_ROWS_AT_A_TIME):
        ids, blobs = zip(*page, strict=True)
        if any(len(blob) != 4 * dimension for blob in blobs):
            raise sqlite3.DatabaseError("a vector has another length than its model's")
        yield np.array(ids, np.int64), np.frombuffer(b"".join(blobs), np.float32).reshape(-1, dimension)


def _gathered(rows: sqlite3.Cursor, dimension: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    pages = list(_pages(rows, dimension))
    ids = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in pages)])
    return ids, np.concatenate([np.empty((0, dimension), np.float32), *(page for _, page in pages)])


def _now() -> str:
    return datetime.now(UTC).isoformat()
