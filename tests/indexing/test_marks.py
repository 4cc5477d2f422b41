"""Marks: kept with the catalogue whatever becomes of the photos, and brought along from catalogues of before there were any."""

import re
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

import indexing.schema
from indexing.bundle import pack_index, unpack_bundle
from indexing.catalogue import CATALOGUE, Catalogue
from indexing.errors import HdmlError
from indexing.indexer import update_index
from indexing.marks import QueryPhoto
from indexing.migration import migrate_index
from indexing.upkeep import collect_garbage
from indexing.workspace import Workspace
from tests.conftest import TINY, write_tiny_encoder

SENT = QueryPhoto(b"h" * 20, "mine.jpg", 4321, b"jpeg")


@pytest.fixture
def index(tmp_path: Path, photos: Path, tiny_run: Path) -> Path:
    """The folder of an index of the photos."""
    folder = Workspace(tmp_path / "workspace").index_for_gallery(photos)
    update_index(photos, folder, tiny_run / "encoder.onnx", device="cpu")
    return folder


def id_of(catalogue: Catalogue, path: str) -> int:
    return catalogue.item_at(path).id


def test_a_mark_is_kept_and_the_last_word_counts(index: Path) -> None:
    with Catalogue(index) as catalogue:
        query, item = id_of(catalogue, "blue-left/0.jpg"), id_of(catalogue, "red-right/1.jpg")
        first = catalogue.mark(query, item, right=True)
        assert catalogue.mark(query, item, right=False) == first
        sent = catalogue.mark(SENT, item, right=True)
        assert catalogue.mark(SENT, query, right=True) not in (first, sent)
    with Catalogue(index) as catalogue:
        wrong, right, _ = catalogue.marks()
        assert (wrong.id, wrong.query, wrong.item, wrong.right, wrong.present) == (first, query, item, False, True)
        assert (wrong.query_path, wrong.query_label) == ("blue-left/0.jpg", "blue-left")
        assert (wrong.item_path, wrong.item_label) == ("red-right/1.jpg", "red-right")
        assert (right.query, right.photo, right.query_path) == (None, SENT.hash.hex(), "mine.jpg")
        assert catalogue.query_photo(sent) == SENT
        assert catalogue.query_photo(first) is None


def test_marks_of_no_pair_are_refused(index: Path) -> None:
    with Catalogue(index) as catalogue:
        item = id_of(catalogue, "blue-left/0.jpg")
        with pytest.raises(HdmlError, match=f"item {item} was marked as an answer to itself"):
            catalogue.mark(item, item, right=True)
        for pair in ((item, 999), (999, item), (SENT, 999)):
            with pytest.raises(HdmlError, match="has no item with id 999"):
                catalogue.mark(*pair, right=True)  # type: ignore[arg-type]
        assert catalogue.marks() == []


def test_a_photo_that_was_sent_goes_with_its_last_mark(index: Path) -> None:
    with Catalogue(index) as catalogue:
        marks = [catalogue.mark(SENT, catalogue.item_at(f"blue-left/{number}.jpg").id, right=True) for number in (0, 1)]
        assert catalogue.unmark(marks[0])
        assert catalogue.query_photo(marks[1]) == SENT
        assert catalogue.unmark(marks[1])
        assert not catalogue.unmark(marks[1])
    with sqlite3.connect(index / CATALOGUE) as connection:
        assert connection.execute("SELECT COUNT(*) FROM query_photos").fetchone() == (0,)


def test_marks_outlive_moves_removals_and_collecting(index: Path, photos: Path, tiny_run: Path) -> None:
    encoder = tiny_run / "encoder.onnx"
    with Catalogue(index) as catalogue:
        moved, gone, stays = (id_of(catalogue, path) for path in ("blue-left/0.jpg", "blue-left/1.jpg", "red-right/1.jpg"))
        catalogue.mark(moved, stays, right=False)
        catalogue.mark(gone, stays, right=True)
    (photos / "blue-left" / "0.jpg").rename(photos / "green-left" / "moved.jpg")
    (photos / "blue-left" / "1.jpg").unlink()
    update_index(photos, index, encoder, device="cpu")
    with Catalogue(index) as catalogue:
        of_moved, of_gone = catalogue.marks()
        assert (of_moved.query, of_moved.query_path, of_moved.query_label) == (moved, "green-left/moved.jpg", "green-left")
        assert (of_moved.present, of_gone.present, of_gone.query_path) == (True, False, "blue-left/1.jpg")
    collect_garbage(index)
    with Catalogue(index) as catalogue:
        assert catalogue.marks()[1].query_path == "blue-left/1.jpg"
        assert [mark.present for mark in catalogue.marks()] == [True, False]


def test_a_mark_is_not_of_the_photo_that_takes_its_place(index: Path, photos: Path, tiny_run: Path) -> None:
    with Catalogue(index) as catalogue:
        changes, stays = (id_of(catalogue, path) for path in ("blue-left/0.jpg", "red-right/1.jpg"))
        first, second = catalogue.mark(changes, stays, right=True), catalogue.mark(SENT, changes, right=True)
    shutil.copy(photos / "green-left" / "3.jpg", photos / "blue-left" / "0.jpg")
    update_index(photos, index, tiny_run / "encoder.onnx", device="cpu")
    with Catalogue(index) as catalogue:
        assert id_of(catalogue, "blue-left/0.jpg") == changes
        assert {mark.id: mark.present for mark in catalogue.marks()} == {first: False, second: False}
        catalogue.mark(changes, stays, right=False)  # of the new photo
        assert {mark.id: mark.present for mark in catalogue.marks()} == {first: True, second: False}


def test_marks_outlive_another_encoder(index: Path, tmp_path: Path) -> None:
    with Catalogue(index) as catalogue:
        catalogue.mark(SENT, id_of(catalogue, "blue-left/0.jpg"), right=True)
        before = catalogue.marks()
    (tmp_path / "other").mkdir()
    other = write_tiny_encoder(tmp_path / "other" / "encoder.onnx", replace(TINY, fingerprint="0ther00000000000"), seed=1)
    migrate_index(index, other, device="cpu")
    with Catalogue(index) as catalogue:
        assert catalogue.about().fingerprint != TINY.fingerprint
        assert catalogue.marks() == before


def test_a_bundle_holds_no_marks(index: Path, tmp_path: Path) -> None:
    with Catalogue(index) as catalogue:
        catalogue.mark(SENT, id_of(catalogue, "blue-left/0.jpg"), right=True)
    bundle = pack_index(index, tmp_path / "photos.hdml").file
    assert SENT.name.encode() not in bundle.read_bytes()
    with Catalogue(unpack_bundle(bundle, tmp_path / "bundles")) as catalogue:
        assert catalogue.marks() == []
    with Catalogue(index) as catalogue:
        assert len(catalogue.marks()) == 1


def test_a_catalogue_of_the_second_version_is_brought_to_this_one(index: Path) -> None:
    with sqlite3.connect(index / CATALOGUE) as connection:
        connection.executescript("DROP TABLE marks; DROP TABLE query_photos; PRAGMA user_version = 2;")
    connection.close()
    opened = [Catalogue(index), Catalogue(index)]  # the second finds it done
    mark = opened[0].mark(SENT, id_of(opened[0], "blue-left/0.jpg"), right=True)
    assert [one.id for one in opened[1].marks()] == [mark]
    assert opened[1].count() == 20


def test_both_ways_to_this_version_make_the_same_tables(index: Path) -> None:
    """What is added to catalogues of before is what new ones are made of."""
    tables = re.findall(r"CREATE (?:TABLE|UNIQUE INDEX) (\w+)", indexing.schema._FROM_VERSION_2)
    with sqlite3.connect(index / CATALOGUE) as connection:
        made = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert set(tables) == {"marks", "query_photos", "marks_of_pairs"} <= made


def test_marks_do_not_disturb_searches(index: Path) -> None:
    with Catalogue(index) as catalogue:
        before = catalogue.sequence()
        catalogue.mark(SENT, id_of(catalogue, "blue-left/0.jpg"), right=False)
        assert catalogue.sequence() == before
