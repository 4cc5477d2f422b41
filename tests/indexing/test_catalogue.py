"""The catalogue: what SQLite keeps, when the sequence moves, and what is said when the database is in trouble."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from indexing.calibration import read_calibration
from indexing.catalogue import CATALOGUE, Catalogue
from indexing.descriptions import Described, Descriptions
from indexing.errors import HdmlError
from indexing.gallery import Failure, PhotoFile
from indexing.recording import EmbeddedPhoto, Recorded
from tests.indexing.conftest import ordinary_user

DIMENSION = 4


def vector(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return values / np.linalg.norm(values)


def ready(seed: int) -> EmbeddedPhoto:
    return EmbeddedPhoto(Path("unused"), digest(seed), vector(seed), norm=float(seed + 1), width=10 * seed, height=20)


def known(seed: int) -> EmbeddedPhoto:
    return EmbeddedPhoto(Path("unused"), digest(seed))


def digest(seed: int) -> bytes:
    return seed.to_bytes(20)


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    """The folder of a catalogue of two photos, a.jpg and cats/b.jpg, and one unreadable file, c.jpg."""
    folder = tmp_path / "index"
    folder.mkdir()
    with Catalogue.create(folder, gallery=tmp_path, fingerprint="f00d", dimension=DIMENSION) as catalogue:
        catalogue.compare([PhotoFile("a.jpg", None, 1, 1), PhotoFile("c.jpg", None, 3, 3), PhotoFile("cats/b.jpg", "cats", 2, 2)])
        recorded = catalogue.record(
            [("a.jpg", ready(1)), ("cats/b.jpg", ready(2)), ("c.jpg", EmbeddedPhoto(Path("c"), reason="torn"))]
        )
        assert recorded == Recorded(added=2, updated=0, failed=1)
    return folder


def test_items_are_kept_with_all_they_came_with(index_dir: Path, tmp_path: Path) -> None:
    with Catalogue(index_dir) as catalogue:
        item = catalogue.item_at("cats/b.jpg")
        assert (item.path, item.label, item.width, item.height, item.norm) == ("cats/b.jpg", "cats", 20, 20, 3.0)
        np.testing.assert_array_equal(item.vector, vector(2))
        assert catalogue.item(item.id).path == "cats/b.jpg"
        assert catalogue.failures() == [Failure("c.jpg", "torn")]
        assert [found.path for found in catalogue.items()] == ["a.jpg", "cats/b.jpg"]
        assert [found.path for found in catalogue.items("cats")] == ["cats/b.jpg"]
        assert catalogue.labels() == {"cats": 1}
        assert catalogue.count() == 2
        about = catalogue.about()
        assert (about.gallery, about.fingerprint, about.dimension, about.sequence) == (tmp_path, "f00d", DIMENSION, 2)


def test_vectors_come_in_the_order_of_their_ids_across_pages(tmp_path: Path) -> None:
    count = 5000  # more than one page
    with Catalogue.create(tmp_path, gallery=tmp_path, fingerprint="f00d", dimension=DIMENSION) as catalogue:
        catalogue.compare(sorted(PhotoFile(f"{number}.jpg", None, 1, 1) for number in range(count)))
        catalogue.record([(f"{number}.jpg", ready(number)) for number in range(count)])
        with catalogue.vectors() as found:
            pages = list(found.pages())
    assert len(pages) > 1
    assert np.concatenate([ids for ids, _ in pages]).tolist() == list(range(1, count + 1))
    stored = np.concatenate([vectors for _, vectors in pages])
    np.testing.assert_array_equal(stored, np.stack([vector(number) for number in range(count)]))
    assert (found.sequence, found.dimension) == (count, DIMENSION)


def test_pending_is_what_is_new_changed_or_failed(index_dir: Path) -> None:
    photos = [
        PhotoFile("a.jpg", None, 1, 1),
        PhotoFile("c.jpg", None, 3, 3),
        PhotoFile("cats/b.jpg", "cats", 2, 9),
        PhotoFile("d.jpg", None, 4, 4),
    ]
    with Catalogue(index_dir) as catalogue:
        comparison = catalogue.compare(photos)
        assert list(catalogue.pending()) == ["c.jpg", "cats/b.jpg", "d.jpg"]
        assert (comparison.pending, comparison.unchanged, comparison.gone) == (3, 1, 0)
        catalogue.compare(photos, retry_failed=False)
        assert list(catalogue.pending()) == ["cats/b.jpg", "d.jpg"]


def test_a_changed_photo_keeps_its_id_and_a_gone_ones_is_never_used_again(index_dir: Path) -> None:
    with Catalogue(index_dir) as catalogue:
        first, second = catalogue.item_at("a.jpg").id, catalogue.item_at("cats/b.jpg").id
        comparison = catalogue.compare([PhotoFile("a.jpg", None, 1, 5), PhotoFile("new.jpg", None, 1, 1)])
        assert comparison.gone == 1
        catalogue.settle()
        assert catalogue.record([("a.jpg", ready(7)), ("new.jpg", ready(8))]) == Recorded(added=1, updated=1, failed=0)
        assert catalogue.item_at("a.jpg").id == first
        np.testing.assert_array_equal(catalogue.item(first).vector, vector(7))
        assert catalogue.item_at("new.jpg").id > second
        with pytest.raises(HdmlError, match=f"has no item with id {second}"):
            catalogue.item(second)
        with pytest.raises(HdmlError, match=r"has none at cats/b\.jpg"):
            catalogue.item_at("cats/b.jpg")


def test_labels_and_attributes_follow_what_is_told_without_embedding(index_dir: Path) -> None:
    photos = [PhotoFile("a.jpg", None, 1, 1), PhotoFile("cats/b.jpg", "cats", 2, 2, attributes={"age": "3"})]
    told = [Described("a.jpg", "dogs", {"colour": "red"}), Described("cats/b.jpg", None, {"colour": "blue", "age": "4"})]
    with Catalogue(index_dir) as catalogue:
        before = catalogue.sequence()
        for described, relabelled, labels, attributes in (
            (told, 2, ["dogs", "cats"], [{"colour": "red"}, {"age": "4", "colour": "blue"}]),
            (told, 0, ["dogs", "cats"], [{"colour": "red"}, {"age": "4", "colour": "blue"}]),
            ([*told[:1], Described("absent.jpg", "x", {})], 1, ["dogs", "cats"], [{"colour": "red"}, {"age": "3"}]),
            ([], 1, [None, "cats"], [{}, {"age": "3"}]),
        ):
            comparison = catalogue.compare(photos, described=described, retry_failed=False)
            assert (comparison.relabelled, comparison.absent) == (
                relabelled,
                len(described) == 2 and described[1].path == "absent.jpg",
            )
            assert comparison.pending == 0
            catalogue.settle()
            assert [(item.label, item.attributes) for item in catalogue.items()] == list(zip(labels, attributes, strict=True))
        assert catalogue.sequence() == before


def test_new_and_moved_photos_come_with_their_attributes(index_dir: Path) -> None:
    with Catalogue(index_dir) as catalogue:
        catalogue.compare(
            [PhotoFile("a.jpg", None, 1, 1), PhotoFile("d.jpg", None, 2, 2), PhotoFile("e.jpg", None, 3, 3)],
            described=[Described("d.jpg", "dogs", {"age": "1"}), Described("e.jpg", None, {"age": "2"})],
        )
        catalogue.settle()
        assert catalogue.record([("d.jpg", known(2)), ("e.jpg", ready(5))]) == Recorded(moved=1, added=1)
        found = {item.path: (item.label, item.attributes) for item in catalogue.items()}
        assert found == {"a.jpg": (None, {}), "d.jpg": ("dogs", {"age": "1"}), "e.jpg": (None, {"age": "2"})}


def test_where_descriptions_come_from_is_remembered(index_dir: Path, tmp_path: Path) -> None:
    with Catalogue(index_dir) as catalogue:
        assert catalogue.descriptions() == Descriptions()
        for descriptions in (Descriptions(("visit", "label"), tmp_path / "m.csv"), Descriptions(("visit",)), Descriptions()):
            catalogue.set_descriptions(descriptions)
            assert catalogue.descriptions() == descriptions


def test_a_moved_photo_keeps_its_id_and_vector_and_takes_its_new_folders_label(index_dir: Path) -> None:
    with Catalogue(index_dir) as catalogue:
        before = catalogue.item_at("cats/b.jpg")
        sequence = catalogue.sequence()
        assert catalogue.compare([PhotoFile("a.jpg", None, 1, 1), PhotoFile("dogs/b.jpg", "dogs", 2, 7)]).gone == 1
        catalogue.settle()
        assert catalogue.knows(digest(2))
        assert catalogue.record([("dogs/b.jpg", known(2))]) == Recorded(moved=1)
        after = catalogue.item_at("dogs/b.jpg")
        assert (after.id, after.label, after.width, after.norm) == (before.id, "dogs", before.width, before.norm)
        np.testing.assert_array_equal(after.vector, before.vector)
        assert catalogue.sequence() == sequence + 2  # it left the search and came back
        assert list(catalogue.pending()) == []


def test_a_photo_that_was_gone_for_a_while_comes_back_as_the_item_that_it_was(index_dir: Path) -> None:
    with Catalogue(index_dir) as catalogue:
        item_id = catalogue.item_at("cats/b.jpg").id
        catalogue.compare([PhotoFile("a.jpg", None, 1, 1)])
        catalogue.settle()
    with Catalogue(index_dir) as catalogue:
        catalogue.compare([PhotoFile("a.jpg", None, 1, 1), PhotoFile("b.jpg", None, 2, 2)])
        catalogue.settle()
        assert catalogue.record([("b.jpg", known(2))]) == Recorded(added=1)
        assert catalogue.item_at("b.jpg").id == item_id


def test_photos_in_another_order_than_that_of_their_paths_are_refused(index_dir: Path) -> None:
    with Catalogue(index_dir) as catalogue, pytest.raises(ValueError, match=r"b\.jpg comes after cats/b\.jpg"):
        catalogue.compare([PhotoFile("cats/b.jpg", "cats", 2, 2), PhotoFile("b.jpg", None, 1, 1)])


def test_a_copy_is_an_item_of_its_own_with_the_vector_of_the_first(index_dir: Path) -> None:
    with Catalogue(index_dir) as catalogue:
        catalogue.compare([PhotoFile("a.jpg", None, 1, 1), PhotoFile("cats/b.jpg", "cats", 2, 2), PhotoFile("d.jpg", None, 1, 1)])
        assert catalogue.record([("d.jpg", known(1))]) == Recorded(added=1)
        first, copy = catalogue.item_at("a.jpg"), catalogue.item_at("d.jpg")
        assert first.id != copy.id
        np.testing.assert_array_equal(first.vector, copy.vector)


def test_a_photo_whose_known_twin_has_changed_stays_pending(index_dir: Path) -> None:
    """As when one photo takes another's name, which gets a new one."""
    with Catalogue(index_dir) as catalogue:
        catalogue.compare(
            [PhotoFile("a-old.jpg", None, 1, 1), PhotoFile("a.jpg", None, 9, 9), PhotoFile("cats/b.jpg", "cats", 2, 2)]
        )
        assert catalogue.knows(digest(1))
        assert catalogue.record([("a.jpg", ready(9)), ("a-old.jpg", known(1))]) == Recorded(updated=1)
        assert list(catalogue.pending()) == ["a-old.jpg"]
        assert catalogue.record([("a-old.jpg", ready(1))]) == Recorded(added=1)
        assert list(catalogue.pending()) == []


VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE items (id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, label TEXT, state TEXT NOT NULL, reason TEXT, width INTEGER, height INTEGER,
    norm REAL, vector BLOB);
CREATE INDEX items_by_label ON items (label) WHERE state = 'ready';
CREATE TRIGGER vector_added AFTER INSERT ON items BEGIN SELECT 1; END;
CREATE TRIGGER vector_removed AFTER DELETE ON items BEGIN SELECT 1; END;
CREATE TRIGGER vector_changed AFTER UPDATE ON items BEGIN SELECT 1; END;
PRAGMA user_version = 1;
"""


def test_a_catalogue_of_the_first_version_is_brought_to_this_one(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / CATALOGUE) as connection:
        connection.executescript(VERSION_1)
        meta = {"gallery": "/photos", "fingerprint": "f00d", "dimension": DIMENSION, "sequence": 7, "updated": "then"}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        row = "INSERT INTO items VALUES (?, ?, 1, 1, 'cats', ?, ?, 20, 30, ?, ?)"
        connection.execute(row, (5, "cats/a.jpg", "ready", None, 2.0, vector(1).tobytes()))
        connection.execute(row, (6, "cats/b.jpg", "failed", "torn", None, None))
        connection.execute(row, (9, "cats/c.jpg", "ready", None, 3.0, vector(3).tobytes()))
        connection.execute("DELETE FROM items WHERE id = 9")
    connection.close()
    opened = [Catalogue(tmp_path), Catalogue(tmp_path)]  # the second finds it done
    for catalogue in opened:
        about = catalogue.about()
        assert (about.gallery, about.fingerprint, about.dimension, about.sequence) == (Path("/photos"), "f00d", DIMENSION, 7)
        item = catalogue.item(5)
        assert (item.path, item.label, item.width, item.height, item.norm) == ("cats/a.jpg", "cats", 20, 30, 2.0)
        np.testing.assert_array_equal(item.vector, vector(1))
        assert catalogue.failures() == [Failure("cats/b.jpg", "torn")]
    opened[0].compare([PhotoFile("cats/a.jpg", "cats", 1, 1), PhotoFile("new.jpg", None, 1, 1)])
    opened[0].record([("new.jpg", ready(4))])
    assert opened[0].item_at("new.jpg").id == 10  # never that of one that is gone
    for catalogue in opened:
        catalogue.close()


def test_the_sequence_moves_with_the_vectors_and_with_nothing_else(index_dir: Path) -> None:
    with Catalogue(index_dir) as catalogue:
        before = catalogue.sequence()
        catalogue.mark_updated()
        catalogue.compare([PhotoFile("a.jpg", None, 1, 5), PhotoFile("c.jpg", None, 3, 3), PhotoFile("cats/b.jpg", "cats", 2, 2)])
        catalogue.settle()
        catalogue.record([("c.jpg", EmbeddedPhoto(Path("c"), reason="torn still")), ("a.jpg", ready(1))])  # touched, not changed
        assert catalogue.sequence() == before
        catalogue.record([("a.jpg", ready(9))])
        changed = catalogue.sequence()
        assert changed > before
        catalogue.record([("a.jpg", EmbeddedPhoto(Path("a"), reason="torn now"))])
        assert catalogue.sequence() > changed
        assert catalogue.count() == 1


def test_a_transaction_that_fails_leaves_nothing_behind(index_dir: Path) -> None:
    with Catalogue(index_dir) as catalogue:
        before = catalogue.sequence()
        catalogue.compare([PhotoFile("x.jpg", None, 1, 1), PhotoFile("y.jpg", None, 1, 1)])
        incomplete = EmbeddedPhoto(Path("y"), digest(6), vector(6))  # no norm
        with pytest.raises(HdmlError, match="NOT NULL constraint failed"):
            catalogue.record([("x.jpg", ready(5)), ("y.jpg", incomplete)])
        assert (catalogue.count(), catalogue.sequence()) == (2, before)


def test_files_known_to_be_unreadable_are_listed_and_replace_their_item(index_dir: Path) -> None:
    with Catalogue(index_dir) as catalogue:
        catalogue.compare([PhotoFile("a.jpg", None, reason="it is not a regular file"), PhotoFile("cats/b.jpg", "cats", 2, 2)])
        catalogue.settle()
        assert list(catalogue.pending()) == []
        assert catalogue.failures() == [Failure("a.jpg", "it is not a regular file")]
        assert catalogue.count() == 1


def test_items_whose_files_could_not_be_looked_at_stay_as_they_are(index_dir: Path) -> None:
    others = ("cats.jpg", "cats/torn.jpg", "cats0.jpg")
    with Catalogue(index_dir) as catalogue:
        catalogue.compare(PhotoFile(path, None, 1, 1) for path in others)
        torn = EmbeddedPhoto(Path("unused"), reason="torn")
        catalogue.record([("cats/torn.jpg", torn), ("cats.jpg", ready(3)), ("cats0.jpg", ready(4))])
        before = [catalogue.item_at(path).id for path in ("a.jpg", "cats/b.jpg")]
    stray, cats = PhotoFile("a.jpg", None, reason="astray", unseen=True), PhotoFile("cats", None, reason="closed", unseen=True)
    for gone in (2, 0):  # the second time the folder itself is known as unreadable
        with Catalogue(index_dir) as catalogue:
            comparison = catalogue.compare([stray, cats])
            catalogue.settle()
            assert (comparison.gone, comparison.unseen) == (gone, [Failure("a.jpg", "astray")])
            assert catalogue.failures() == [Failure("cats", "closed"), Failure("cats/torn.jpg", "torn")]
            assert [item.id for item in catalogue.items()] == before
    with Catalogue(index_dir) as catalogue:
        catalogue.compare([PhotoFile("a.jpg", None, 1, 1), PhotoFile("cats/b.jpg", "cats", 2, 2)])
        catalogue.settle()
        assert [item.id for item in catalogue.items()] == before
        assert catalogue.failures() == []


def test_a_catalogue_is_never_put_over_another(index_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(HdmlError, match=r"catalogue\.sqlite must be new, but another process has made it meanwhile"):
        Catalogue.create(index_dir, gallery=tmp_path, fingerprint="beef", dimension=DIMENSION)
    with Catalogue(index_dir) as catalogue:
        assert (catalogue.about().fingerprint, catalogue.count()) == ("f00d", 2)


@pytest.mark.parametrize("item_id", [99, 2**63, -(2**63) - 1, 99999999999999999999])
def test_no_item_has_an_id_that_was_never_given_however_large(index_dir: Path, item_id: int) -> None:
    with Catalogue(index_dir) as catalogue, pytest.raises(HdmlError, match=f"has no item with id {item_id}"):
        catalogue.item(item_id)


@pytest.mark.parametrize("open_elsewhere", [False, True])
def test_in_a_folder_that_may_not_be_written_a_catalogue_can_be_read(outside: Path, open_elsewhere: bool) -> None:
    with Catalogue.create(outside, gallery=outside, fingerprint="f00d", dimension=DIMENSION) as writer:
        writer.compare([PhotoFile("a.jpg", None, 1, 1)])
        writer.record([("a.jpg", ready(1))])
        if not open_elsewhere:
            writer.close()
        outside.chmod(0o555)
        with ordinary_user(outside), Catalogue(outside) as catalogue:
            assert catalogue.item_at("a.jpg").id == 1
            with pytest.raises(HdmlError, match=r"must be writable, together with its folder"):
                catalogue.mark_updated()
        outside.chmod(0o700)


def test_a_closed_folder_is_said(outside: Path) -> None:
    outside.chmod(0)
    with ordinary_user(outside), pytest.raises(HdmlError, match=r"catalogue\.sqlite cannot be reached: Permission denied"):
        Catalogue(outside)
    outside.chmod(0o700)


def test_a_folder_without_a_catalogue_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(HdmlError, match=r"must be an index, but it has no catalogue\.sqlite; make an index"):
        Catalogue(tmp_path)


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_catalogue_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CATALOGUE).write_bytes(content)
    with pytest.raises(HdmlError, match=r"catalogue\.sqlite is damaged; remove its folder and index the photos anew"):
        Catalogue(tmp_path)


def test_a_catalogue_of_a_later_version_is_said(index_dir: Path) -> None:
    connection = sqlite3.connect(index_dir / CATALOGUE)
    connection.execute("PRAGMA user_version = 4")
    connection.close()
    with pytest.raises(
        HdmlError, match="must be a catalogue of version 3, but is of version 4, of another hdml; update this one"
    ):
        Catalogue(index_dir)


def test_a_locked_catalogue_is_said_after_a_wait(index_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexing.database.LOCK_WAIT_S", 0.05)
    other = sqlite3.connect(index_dir / CATALOGUE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Catalogue(index_dir) as catalogue:
        assert catalogue.count() == 2  # readers go on
        with pytest.raises(HdmlError, match=r"in use by another process"):
            catalogue.mark_updated()
        other.execute("ROLLBACK")
        catalogue.mark_updated()
    other.close()


def test_several_threads_may_read_one_catalogue(index_dir: Path) -> None:
    with Catalogue(index_dir) as catalogue:
        expected = catalogue.item_at("a.jpg").path
        found: list[str] = []

        def read() -> None:
            for _ in range(50):
                found.append(catalogue.item_at("a.jpg").path)
                with catalogue.vectors() as vectors:
                    assert [ids.tolist() for ids, _ in vectors.pages()] == [[1, 2]]

        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [expected] * 300


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("UPDATE items SET attributes = '{' WHERE id = 1", lambda catalogue: catalogue.known([1])),
        ("UPDATE items SET attributes = '{' WHERE id = 1", lambda catalogue: catalogue.item(1)),
        ("UPDATE items SET path = CAST(x'ff' AS TEXT) WHERE id = 1", lambda catalogue: catalogue.items()),
        ("UPDATE vectors SET vector = x'0011' WHERE item = 1", lambda catalogue: catalogue.item(1)),
        ("UPDATE vectors SET vector = x'00112233' WHERE item = 1", lambda catalogue: catalogue.changes(0)),
        ("UPDATE meta SET value = 'many' WHERE key = 'sequence'", lambda catalogue: catalogue.sequence()),
        ("DELETE FROM models", lambda catalogue: catalogue.about()),
        ("DELETE FROM meta WHERE key = 'gallery'", lambda catalogue: catalogue.about()),
        ("INSERT INTO meta VALUES ('calibration', '{\"asked')", read_calibration),
        ("INSERT INTO meta VALUES ('calibration', '{}')", read_calibration),
        ("INSERT INTO meta VALUES ('calibration', '{\"basis\": \"labels\"}')", read_calibration),
    ],
)
def test_values_that_are_not_as_they_were_written_are_said(
    index_dir: Path, statement: str, read: Callable[[Catalogue], object]
) -> None:
    with sqlite3.connect(index_dir / CATALOGUE) as connection:
        connection.execute(statement)
    connection.close()
    with Catalogue(index_dir) as catalogue, pytest.raises(HdmlError, match="remove its folder and index the photos anew"):
        read(catalogue)
