"""The catalogue: a SQLite file that holds the truth about an index, its items and their vectors."""

import json
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from indexing.database import connect, in_words, transaction, understood
from indexing.descriptions import Described, Descriptions, parse_folder_names
from indexing.errors import HdmlError, UnknownItem
from indexing.faults import find_faults
from indexing.filters import Filter
from indexing.gallery import Failure, PhotoFile, any_glob
from indexing.intake import GivenVector, Taken, begin_taking, take_rows
from indexing.items import ORDERS, Item, Listed, PhotoRecord, list_items, list_photos, read_items
from indexing.kinds import Plan
from indexing.marks import Mark, QueryPhoto, add_mark, find_query_photo, list_marks, remove_mark
from indexing.models import LACKING, Model, delete_models, encoder_file, enter_model, list_models, store_vectors, swap_model
from indexing.recording import EmbeddedPhoto, Recorded, find_known, record_photos
from indexing.schema import SCHEMA, upgrade
from indexing.sequence import read_sequence, take_away
from indexing.vectors import Changes, Look, Vectors, all_vectors, changes_since, some_vectors
from indexing.walk import Comparison, compare_walk, settle_walk

CATALOGUE = "catalogue.sqlite"
_PATHS_AT_A_TIME = 4096


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
        upgrade(self._connection, self.path)
        self._connection.execute("PRAGMA foreign_keys = ON")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    # Reading and writing

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        """For one statement, which is of one moment by itself; a transaction around it would take half as much time again."""
        with self._lock, in_words(self.path):
            yield self._connection

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """For several statements of one moment."""
        with self._alone() as connection, transaction(connection, "DEFERRED"):
            yield connection

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._alone() as connection, transaction(connection, "IMMEDIATE"):
            yield connection

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._alone() as connection:
            return connection.execute(query, values).fetchall()

    def _paths(self, query: str, *values: Any) -> Iterator[str]:
        """The paths in the rows (number, path) of a query whose last parameter is the number that they come after.

        They are read a page at a time: a cursor left open would hold one snapshot, and the log would grow till its end.
        """
        last = 0
        while page := self._rows(f"{query} LIMIT {_PATHS_AT_A_TIME}", *values, last):
            yield from (path for _, path in page)
            last = page[-1][0]

    # What the index is of, and what is asked of it

    def about(self) -> About:
        with understood(self.path):
            meta = dict(self._rows("SELECT key, value FROM meta"))
            ((fingerprint, dimension),) = self._rows("SELECT fingerprint, dimension FROM models WHERE id = ?", meta["model"])
            encoder = encoder_file(self.path.parent, meta["model"], fingerprint)
            return About(Path(meta["gallery"]), fingerprint, dimension, encoder, int(meta["sequence"]), str(meta["updated"]))

    def version(self) -> int:
        """A number that is another one after any change by another process, of labels as well as of vectors."""
        ((version,),) = self._rows("PRAGMA data_version")
        return int(version)

    def sequence(self) -> int:
        with self._alone() as connection, understood(self.path):
            return read_sequence(connection)

    def count_changes(self, since: int) -> int:
        """Number of items that have changed after a sequence number."""
        ((count,),) = self._rows("SELECT COUNT(*) FROM items WHERE changed > ?", since)
        return int(count)

    def mark_updated(self) -> None:
        """Note that the index is up to date with its gallery now."""
        self._set_meta(updated=_now())

    def plan(self) -> Plan:
        """What is asked of the bases of this index."""
        return Plan(**self._meta("kind", "target", "memory"))

    def set_plan(self, plan: Plan) -> None:
        """Ask something else of the bases to come."""
        self._set_meta(**asdict(plan))

    def descriptions(self) -> Descriptions:
        """Where labels and attributes of the photos come from."""
        found = self._meta("folder_names", "manifest")
        names, manifest = found.get("folder_names"), found.get("manifest")
        return Descriptions(
            Descriptions().folder_names if names is None else parse_folder_names(names), manifest and Path(manifest)
        )

    def set_descriptions(self, descriptions: Descriptions) -> None:
        """Take labels and attributes from elsewhere, from the next compare on."""
        manifest = None if descriptions.manifest is None else str(descriptions.manifest)
        self._set_meta(folder_names="/".join(descriptions.folder_names), manifest=manifest)

    def false_matches(self) -> float | None:
        """Share of false matches that is asked of the calibration; None when nothing was."""
        found = self._meta("false_matches")
        return float(found["false_matches"]) if found else None

    def set_false_matches(self, share: float) -> None:
        """Ask another share of false matches of the calibrations to come."""
        self._set_meta(false_matches=share)

    def calibration(self) -> dict[str, Any] | None:
        """What set_calibration stored last; None when nothing was."""
        found = self._meta("calibration")
        with understood(self.path):
            return dict(json.loads(found["calibration"])) if found else None

    def set_calibration(self, fields: dict[str, Any]) -> None:
        """Store what the scores of this index mean, in place of what was."""
        self._set_meta(calibration=json.dumps(fields))

    def _meta(self, *keys: str) -> dict[str, Any]:
        return dict(self._rows("SELECT key, value FROM meta WHERE key IN (SELECT value FROM json_each(?))", json.dumps(keys)))

    def _set_meta(self, **values: float | str | None) -> None:
        with self._write() as connection:
            connection.execute("DELETE FROM meta WHERE key IN (SELECT value FROM json_each(?))", (json.dumps([*values]),))
            kept = [(key, value) for key, value in values.items() if value is not None]
            connection.executemany("INSERT INTO meta VALUES (?, ?)", kept)

    # Items

    def count(self) -> int:
        """Number of searchable items."""
        ((count,),) = self._rows("SELECT COUNT(*) FROM items WHERE state = 'ready'")
        return int(count)

    def count_gone(self) -> int:
        """Number of items that are kept, though their photos are gone."""
        ((count,),) = self._rows("SELECT COUNT(*) FROM items WHERE state = 'gone'")
        return int(count)

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

    def _items(self, condition: str, *values: Any) -> list[Item]:
        with self._alone() as connection, understood(self.path):
            return list(read_items(connection, condition, *values))

    @contextmanager
    def all_items(self) -> Iterator[Iterator[Item]]:
        """All searchable items of one moment, by id, read while the context lasts; other readers of this catalogue wait."""
        with self._read() as connection:
            yield read_items(connection)

    def photo_records(self, ids: list[int] | None = None) -> list[PhotoRecord]:
        """Searchable items by id, all of them or some, without their vectors; no photo has been seen of those from tables."""
        with self._alone() as connection:
            return list_photos(connection, ids)

    def paths(self) -> list[tuple[int, str]]:
        """Id and path of every searchable item, by id."""
        return self._rows("SELECT id, path FROM items WHERE state = 'ready' ORDER BY id")

    def known(self, ids: list[int]) -> dict[int, tuple[str, str | None, dict[str, str], int | None, int | None]]:
        """Path, label, attributes, width and height of each of these items; ids that are gone are left out."""
        found = self.listed(ids)
        return {one.id: (one.path, one.label, one.attributes, one.width, one.height) for one in found}

    def matching(self, wanted: Filter) -> NDArray[np.int64]:
        """Ids of the searchable items that a filter lets through, ascending."""
        return self.ordered(wanted, "id")

    def ordered(self, where: Filter | None, order: str) -> NDArray[np.int64]:
        """Ids of the searchable items that a filter lets through, None for all, in an order of :data:`ORDERS`."""
        condition, values = where.sql() if where else ("TRUE", [])
        rows = self._rows(f"SELECT id FROM items WHERE state = 'ready' AND {condition} ORDER BY {ORDERS[order]}", *values)
        return np.fromiter((item_id for (item_id,) in rows), np.int64, len(rows))

    def listed(self, ids: list[int]) -> list[Listed]:
        """What a list shows of some searchable items, in the order of their ids given; those that are gone are left out."""
        with self._alone() as connection, understood(self.path):
            return list_items(connection, ids)

    def photos(self, label: str, *, limit: int, offset: int = 0) -> list[tuple[int, str]]:
        """Ids and paths of searchable items of a label, by id; no vector is read."""
        query = "SELECT id, path FROM items WHERE state = 'ready' AND label = ? ORDER BY id LIMIT ? OFFSET ?"
        return self._rows(query, label, limit, offset)

    def labels(self) -> dict[str, int]:
        """Labels, sorted, with their number of searchable items."""
        query = "SELECT label, COUNT(*) FROM items WHERE state = 'ready' AND label IS NOT NULL GROUP BY label ORDER BY label"
        return dict(self._rows(query))

    def label_numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids [n] of all searchable items, ascending, and the numbers [n] of their labels; −1 for those without one."""
        query = """
            SELECT id, IIF(label IS NULL, -1, DENSE_RANK() OVER (ORDER BY label)) FROM items WHERE state = 'ready' ORDER BY id
        """
        with self._alone() as connection:
            rows = connection.execute(query)
            pairs = np.fromiter((number for row in rows for number in row), np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def attribute_names(self) -> list[str]:
        """Names that the searchable items' attributes have, sorted."""
        query = "SELECT DISTINCT key FROM items, json_each(attributes) WHERE state = 'ready' ORDER BY key"
        return [name for (name,) in self._rows(query)]

    def attribute_values(self, most: int) -> list[tuple[str, str, int]]:
        """Names and values of attributes with their number of searchable items, the most frequent ones, by name and number."""
        query = """
            SELECT * FROM (
                SELECT key, value, COUNT(*) AS items FROM items, json_each(attributes) WHERE state = 'ready'
                GROUP BY key, value ORDER BY items DESC, key, value LIMIT ?
            ) ORDER BY key, items DESC, value
        """
        return self._rows(query, most)

    def shorter_sides(self) -> dict[int, int]:
        """Lengths of the photos' shorter sides in pixels, ascending, each with its number of searchable items."""
        query = """
            SELECT MIN(width, height) AS side, COUNT(*) FROM items WHERE state = 'ready' AND width IS NOT NULL
            GROUP BY side ORDER BY side
        """
        return dict(self._rows(query))

    def bytes_of_photos(self) -> int:
        """Bytes that the files of all searchable items have together."""
        ((total,),) = self._rows("SELECT TOTAL(size) FROM items WHERE state = 'ready'")
        return int(total)

    # Vectors

    @contextmanager
    def vectors(self, of: Model | None = None) -> Iterator[Vectors]:
        """All searchable vectors, which are read while the context lasts; other readers of this catalogue wait for its end.

        Args:
            of: the model; None takes the one that searches compare by.
        """
        with self._read() as connection:
            with understood(self.path):
                vectors = all_vectors(connection, of)
            yield vectors

    def look(self, model: str, dimension: int, until: int) -> Look:
        """Gives a model's vectors of items as they were at a sequence number; those that have changed since are left out."""

        def vectors_of(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            with self._alone() as connection:
                return some_vectors(connection, ids, model, dimension, until)

        return vectors_of

    def changes(self, since: int) -> Changes:
        """What has changed after a sequence number; all of it is held in memory."""
        with self._read() as connection, understood(self.path):
            return changes_since(connection, since)

    # Taking in a walk of the gallery, by one thread: what is between these calls belongs to the connection

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
        with self._read() as connection:
            with understood(self.path):
                self._compared_at = read_sequence(connection)
            return compare_walk(connection, photos, described, retry_failed=retry_failed)

    def pending(self) -> Iterator[str]:
        """Paths of the photos that have to be embedded after a compare: new, changed, or failed before; sorted."""
        return self._paths("SELECT number, path FROM pending WHERE number > ?")

    def settle(self) -> None:
        """After a compare, take in all that needs no embedding.

        Items whose file is gone leave the search, but keep their ids and vectors, should their photos turn up elsewhere. The
        others get the labels and attributes that they have now. Files that are known to be unreadable are noted.
        """
        with self._write() as connection:
            settle_walk(connection)

    def knows(self, digest: bytes, *, by: Model | None = None) -> bool:
        """Whether the vector of a file of these bytes is there already, by a model, or by the one that searches compare by."""
        with self._read() as connection:
            return find_known(connection, digest, model=None if by is None else by.id) is not None

    def record(self, photos: list[tuple[str, EmbeddedPhoto]]) -> Recorded:
        """Store what embedding gave for some pending paths, in one transaction; a changed photo keeps its id.

        A photo of known bytes is an item that was gone and comes back there, or a copy of another. One whose twin has changed
        since it was known stays pending.
        """
        with self._write() as connection:
            return record_photos(connection, photos, compared_at=self._compared_at)

    def failures(self) -> list[Failure]:
        """Files that could not be read, by path."""
        return [Failure(*row) for row in self._rows("SELECT path, reason FROM items WHERE state = 'failed' ORDER BY path")]

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
            take_away(connection, left_out)
        return len(left_out)

    def include(self, globs: Iterable[str]) -> None:
        """Take back globs that were excluded; raises HdmlError when one was not."""
        with self._write() as connection:
            for glob in globs:
                if connection.execute("DELETE FROM excluded WHERE glob = ?", (glob,)).rowcount == 0:
                    known = ", ".join(found for (found,) in connection.execute("SELECT glob FROM excluded")) or "nothing"
                    raise HdmlError(f"only what was removed can be restored, but {glob} was not; removed: {known}")

    def excluded(self) -> list[str]:
        """Globs of the paths that are left out."""
        return [glob for (glob,) in self._rows("SELECT glob FROM excluded ORDER BY glob")]

    # Taking in a table of vectors, by one thread as well

    def begin_table(self) -> None:
        """Forget which paths a table has given: another one begins."""
        with self._alone() as connection:
            begin_taking(connection)

    def take_in(self, rows: Iterable[GivenVector]) -> Taken:
        """Store some thousand rows of the table that has begun, by their paths, in one transaction and under one number.

        An item keeps its id. A photo that the index has embedded itself keeps its vector too.
        """
        with self._write() as connection:
            return take_rows(connection, rows)

    # Right and wrong marks

    def mark(self, query: int | QueryPhoto, item: int, *, right: bool) -> int:
        """Keep what somebody says of an item as an answer to a query, in place of what was said before; returns the mark's id.

        Args:
            query: another searchable item, or a photo that was sent, which is kept while it has a mark.

        Raises:
            HdmlError: the query is the item, or either can not be found.
        """
        with self._write() as connection:
            return add_mark(connection, query, item, right=right, index=self.path.parent.name)

    def marks(self) -> list[Mark]:
        """All marks, in the order in which they were first made; those of photos that are gone too."""
        with self._alone() as connection:
            return list_marks(connection)

    def query_photo(self, mark_id: int) -> QueryPhoto | None:
        """The photo that was sent as the query of a mark; None when there is none."""
        with self._alone() as connection:
            return find_query_photo(connection, mark_id)

    def unmark(self, mark_id: int) -> bool:
        """Forget a mark, and with its last mark a query photo that was sent; returns whether there was one of that id."""
        with self._write() as connection:
            return remove_mark(connection, mark_id)

    # Models, and changing over to another one

    def models(self) -> list[Model]:
        """The encoders that this index has vectors of, in the order in which they came."""
        with self._alone() as connection:
            return list_models(connection, self.path.parent)

    def encoder_of(self, fingerprint: str) -> Path:
        """The file of an encoder that this index has vectors of; raises HdmlError when it has none of it."""
        found = self._rows("SELECT id, fingerprint FROM models WHERE fingerprint = ?", fingerprint)
        if not found:
            raise HdmlError(f"the index {self.path.parent.name} must know the encoder {fingerprint}, but has forgotten it")
        return encoder_file(self.path.parent, *found[0])

    def add_model(self, fingerprint: str, dimension: int) -> Model:
        """The model of an encoder, new or known; nothing is found by it before it is swapped in.

        Raises:
            HdmlError: it is known with vectors of another length.
        """
        with self._write() as connection:
            return enter_model(connection, self.path.parent, fingerprint, dimension)

    def lacking(self, model: Model) -> Iterator[str]:
        """Paths of the searchable photos that have no vector of a model, by id."""
        return self._paths(f"SELECT id, path {LACKING} AND source = 'folder' AND id > ? ORDER BY id", model.id)

    def count_lacking(self, model: Model) -> tuple[int, int]:
        """Number of searchable items that have no vector of a model: those of photos, and those from tables of vectors."""
        ((photos, tables),) = self._rows(
            f"SELECT COUNT(*) FILTER (WHERE source = 'folder'), COUNT(*) FILTER (WHERE source != 'folder') {LACKING}", model.id
        )
        return int(photos), int(tables)

    def having(self, one: Model, other: Model) -> NDArray[np.int64]:
        """Ids of the searchable items that have a vector of each of two models, ascending."""
        query = """
            SELECT id FROM items JOIN vectors AS one ON one.item = id AND one.model = ?
            JOIN vectors AS other ON other.item = id AND other.model = ? WHERE state = 'ready' ORDER BY id
        """
        return np.array([item_id for (item_id,) in self._rows(query, one.id, other.id)], np.int64)

    def add_vectors(self, model: Model, photos: Iterable[tuple[str, EmbeddedPhoto]]) -> list[Failure]:
        """Store what embedding by a model gave for the items at some paths, in one transaction; returns those that stay without.

        A file with other bytes than the index knows of is another photo than the one that is searched for, and stays without too.
        """
        with self._write() as connection:
            return store_vectors(connection, model, photos)

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
            swap_model(connection, self.path, model, sequence=sequence, failed=failed, found=found)

    def migration(self) -> dict[str, Any] | None:
        """What comparing two models of this index came to the last time, as set_migration was told; None before the first."""
        with understood(self.path):
            found = self._meta("migration")
            return dict(json.loads(found["migration"])) if found else None

    def set_migration(self, found: dict[str, Any]) -> None:
        """Keep what comparing two models came to."""
        self._set_meta(migration=json.dumps(found))

    def forget_models(self) -> list[Model]:
        """Delete the models that searches do not compare by, with their vectors; returns them, whose files are still there."""
        with self._write() as connection:
            return delete_models(connection, self.path.parent)

    # Upkeep

    def find_faults(self) -> list[str]:
        """What is wrong with the catalogue in itself, a sentence each; reads all of it."""
        with self._read() as connection, understood(self.path):
            return find_faults(connection)

    def forget_gone(self) -> int:
        """Delete the items whose photos are gone and give the room back; returns their number. No base may hold them."""
        with self._write() as connection:
            count = connection.execute("DELETE FROM items WHERE state = 'gone'").rowcount
        with self._alone() as connection:  # neither goes into a transaction
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return count

    def copy_to(self, file: Path) -> None:
        """Write a copy of one moment into a file that must be new."""
        with self._lock, in_words(file):
            self._connection.execute("VACUUM INTO ?", (str(file),))


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


def _now() -> str:
    return datetime.now(UTC).isoformat()
