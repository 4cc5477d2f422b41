"""Looking for faults in an index, mending its cache, and clearing away what is gone."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from indexing.catalogue import CATALOGUE, Catalogue
from indexing.encoder import read_metadata, write_metadata
from indexing.errors import HdmlError
from indexing.index import cached_sequences
from indexing.indexer import update_index
from indexing.kinds import Plan
from indexing.lock import indexing_alone
from indexing.search import OpenIndex
from indexing.upkeep import Forgotten, collect_garbage, remove_index, verify_index


@pytest.fixture
def index_dir(photos: Path, tmp_path: Path, tiny_encoder: Path) -> Path:
    """The index of 20 photos, with a base."""
    update_index(photos, tmp_path / "index", tiny_encoder, device="cpu")
    return tmp_path / "index"


def execute(index_dir: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(index_dir / CATALOGUE) as connection:
        connection.execute(statement, values)
    connection.close()


def test_an_index_without_faults_is_left_as_it_is(index_dir: Path, photos: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in index_dir.glob("index.*")}
    found = verify_index(index_dir)
    assert (found.items, found.faults, found.mended, found.behind) == (20, [], [], [])
    (photos / "red-right" / "0.jpg").unlink()
    shutil.copy(photos / "red-right" / "1.jpg", photos / "new.jpg")
    assert verify_index(index_dir).behind == ["1 photos are new, changed or unreadable before", "1 photos are gone"]
    assert {path.name: path.stat().st_mtime_ns for path in index_dir.glob("index.*")} == before


def test_changes_since_the_base_are_no_fault(index_dir: Path, photos: Path) -> None:
    shutil.copy(photos / "red-right" / "0.jpg", photos / "new.jpg")
    update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    assert cached_sequences(index_dir) == [20]
    assert verify_index(index_dir).mended == []


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("DELETE FROM vectors WHERE item = 3", "item 3 has no vector"),
        ("UPDATE vectors SET vector = substr(vector, 1, 8) WHERE item = 3", "the vector of item 3 has another length"),
        ("UPDATE vectors SET vector = zeroblob(length(vector)) WHERE item = 3", "the vector of item 3 is not of unit length"),
    ],
)
def test_a_fault_of_the_catalogue_is_told_and_nothing_is_built_from_it(index_dir: Path, statement: str, fault: str) -> None:
    execute(index_dir, statement)
    (told,) = verify_index(index_dir).faults
    assert fault in told
    assert told.endswith("remove the index and build it anew")
    assert cached_sequences(index_dir) == [20]


def test_another_encoder_is_a_fault(index_dir: Path) -> None:
    execute(index_dir, "UPDATE models SET fingerprint = 'f00d'")
    (told,) = verify_index(index_dir).faults
    assert "must be the encoder f00d that embedded the photos" in told


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE vectors SET vector = (SELECT vector FROM vectors WHERE item = 9) WHERE item = 3", "has other vectors"),
        ("UPDATE items SET state = 'gone' WHERE id = 3", "holds items that are not there"),
        ("UPDATE meta SET value = 19 WHERE key = 'sequence'", "is of a later moment"),
        ("", "is damaged"),
    ],
)
def test_a_base_that_is_not_what_the_catalogue_says_is_built_anew(index_dir: Path, damage: str, said: str) -> None:
    if damage:
        execute(index_dir, damage)
    else:
        (index_dir / "index.20.faiss").write_bytes(b"torn")
    (mended,) = verify_index(index_dir).mended
    assert said in mended
    assert verify_index(index_dir).mended == []
    with OpenIndex(index_dir, device="cpu") as opened:
        items = opened.catalogue.items()
        for item in items:
            assert opened.search_vector(item.vector, k=1)[0].score == pytest.approx(1, abs=1e-6)
        assert len(opened.search_vector(np.ones(opened.dimension), k=30)) == len(items)


def test_a_base_that_lacks_an_item_is_built_anew(index_dir: Path, photos: Path) -> None:
    old = {name: (index_dir / f"index.20.{name}").read_bytes() for name in ("faiss", "json")}
    shutil.copy(photos / "red-right" / "0.jpg", photos / "one.jpg")
    shutil.copy(photos / "red-right" / "0.jpg", photos / "two.jpg")
    update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    for name, content in old.items():
        (index_dir / f"index.22.{name}").write_bytes(content)
    assert "lacks items" in verify_index(index_dir).mended[0]
    assert verify_index(index_dir).mended == []


def test_what_is_gone_is_forgotten_for_good(index_dir: Path, photos: Path) -> None:
    query = (photos / "red-right" / "0.jpg").read_bytes()
    with OpenIndex(index_dir, device="cpu") as opened:
        item_id = opened.search_photo(query, k=1)[0].id
        (photos / "red-right" / "0.jpg").unlink()
        update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
        assert collect_garbage(index_dir) == Forgotten(1, [])
        assert collect_garbage(index_dir) == Forgotten(0, [])
        assert item_id not in [result.id for result in opened.search_photo(query, k=30)]
    with Catalogue(index_dir) as catalogue:
        assert catalogue.count_gone() == 0
    (photos / "red-right" / "0.jpg").write_bytes(query)
    assert update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu").added == 1
    with Catalogue(index_dir) as catalogue:
        assert catalogue.item_at("red-right/0.jpg").id > item_id


def test_removed_photos_stay_out_until_they_are_restored(index_dir: Path, photos: Path) -> None:
    encoder = index_dir / "encoder.onnx"
    report = update_index(photos, index_dir, encoder, device="cpu", remove=["red-*"])
    assert (report.removed, report.items) == (5, 15)
    assert update_index(photos, index_dir, encoder, device="cpu").items == 15
    assert verify_index(index_dir).behind == []
    with pytest.raises(HdmlError, match=r"only what was removed can be restored, but blue-\* was not; removed: red-\*"):
        update_index(photos, index_dir, encoder, device="cpu", restore=["blue-*"])
    report = update_index(photos, index_dir, encoder, device="cpu", restore=["red-*"])
    assert (report.added, report.items) == (5, 20)


def test_a_plan_that_cannot_be_kept_changes_nothing(index_dir: Path, photos: Path) -> None:
    for number in range(100):
        shutil.copy(photos / "red-right" / "0.jpg", photos / f"{number}.jpg")
    update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    bases = cached_sequences(index_dir)
    with pytest.raises(HdmlError, match="--memory must be at least"):
        update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu", plan=Plan("ivf", 0.9, 1))
    with Catalogue(index_dir) as catalogue:
        assert catalogue.plan() == Plan()
    assert cached_sequences(index_dir) == bases


def test_a_removed_index_is_gone_and_one_that_is_being_indexed_stays(index_dir: Path) -> None:
    with indexing_alone(index_dir), pytest.raises(HdmlError, match="is being indexed by another process"):
        remove_index(index_dir)
    assert (index_dir / CATALOGUE).exists()
    remove_index(index_dir)
    assert not index_dir.exists()


def test_a_damaged_encoder_is_a_fault(index_dir: Path) -> None:
    encoder = index_dir / "encoder.onnx"
    content = encoder.read_bytes()  # a link to a file that other tests use
    encoder.unlink()
    encoder.write_bytes(content)
    write_metadata(encoder, read_metadata(encoder))
    assert verify_index(index_dir).faults == []
    content = encoder.read_bytes()
    encoder.write_bytes(content[:900] + bytes([content[900] ^ 1]) + content[901:])
    (told,) = verify_index(index_dir).faults
    assert "encoder.onnx" in told


def test_a_base_that_a_killed_process_did_not_remove_is_removed_by_the_next_run(index_dir: Path, photos: Path) -> None:
    before = sorted(path.name for path in index_dir.iterdir())
    for name in ("faiss", "json"):
        shutil.copy(index_dir / f"index.20.{name}", index_dir / f"index.11.{name}")
    update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    assert sorted(path.name for path in index_dir.iterdir()) == before
