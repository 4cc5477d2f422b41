"""Searching an open index: right neighbours, one order, and what is said when there is nothing to search."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexing import open_index
from indexing.answers import answer
from indexing.catalogue import CATALOGUE, Catalogue
from indexing.descriptions import Descriptions
from indexing.encoder import read_metadata, write_metadata
from indexing.errors import HdmlError, UnknownItem, UnreadableImage
from indexing.filters import Filter
from indexing.gallery import walk_gallery
from indexing.indexer import Progress, update_index
from indexing.lock import indexing_alone
from indexing.search import OpenIndex, Result
from tests.indexing.conftest import ordinary_user

SEARCH = """
import json, sys
from pathlib import Path
from indexing.answers import answer
from indexing.search import OpenIndex

with OpenIndex(Path(sys.argv[1]), device="cpu") as opened:
    found = answer("query", opened, opened.search_photo(Path(sys.argv[2]), k=3), 0.0)
print(json.dumps({"results": found["results"], "modules": sorted(sys.modules)}))
"""
HEAVY = {
    "torch",
    "torchvision",
    "pytorch_metric_learning",
    "gradio",
    "matplotlib",
    "fastapi",
    "pydantic",
    "onnx",
    "asyncio",
    "hdml",
}


@pytest.fixture
def opened(photos: Path, tmp_path: Path, tiny_encoder: Path) -> Iterator[OpenIndex]:
    update_index(photos, tmp_path / "photos-index", tiny_encoder, device="cpu")
    with OpenIndex(tmp_path / "photos-index", device="cpu") as index:
        yield index


def test_a_least_score_of_auto_is_the_least_that_says_match(
    many_discs: Path, tmp_path: Path, tiny_encoder: Path, opened: OpenIndex
) -> None:
    update_index(many_discs, tmp_path / "index", tiny_encoder, device="cpu", false_matches=0.1)
    with OpenIndex(tmp_path / "index", device="cpu") as index:
        found = index.calibration
        assert found is not None
        query = many_discs / "hue-03" / "2.jpg"
        everything = index.search_photo(query, k=120)
        matched = [result for result in everything if result.score >= found.match]
        assert index.search_photo(query, k=120, min_score="auto") == matched
        assert 0 < len(matched) < 120
    assert opened.calibration is None
    with pytest.raises(HdmlError, match="is not: 20 photos are too few"):
        opened.search_vector(opened.item(1).vector, min_score="auto")


def test_a_photo_finds_itself_first_and_then_its_class(opened: OpenIndex, photos: Path) -> None:
    for label in ("blue-left", "blue-right", "green-left", "red-right"):
        results = opened.search_photo(photos / label / "2.jpg", k=5)
        assert results[0].path == f"{label}/2.jpg"
        assert results[0].score == pytest.approx(1, abs=1e-6)
        assert [result.label for result in results] == [label] * 5


def test_results_are_those_of_a_comparison_with_every_item(opened: OpenIndex, photos: Path) -> None:
    query, _ = opened.encoder.encode_photo(photos / "red-right" / "0.jpg")
    scores = {item.id: float(item.vector @ query) for item in opened.catalogue.items()}
    expected = sorted(scores, key=lambda item_id: (-scores[item_id], item_id))
    results = opened.search_photo(photos / "red-right" / "0.jpg", k=20)
    assert [result.id for result in results] == expected
    assert [result.score for result in results] == pytest.approx([scores[item_id] for item_id in expected], abs=1e-6)


def test_a_path_its_bytes_and_its_vector_give_identical_results(opened: OpenIndex, photos: Path) -> None:
    query = photos / "blue-left" / "1.jpg"
    expected = opened.search_photo(query, k=7)
    assert opened.search_photo(query.read_bytes(), k=7) == expected
    assert opened.search_photo(str(query), k=7) == expected
    assert opened.search_vector(opened.encoder.encode_photo(query)[0], k=7) == expected


def test_the_length_of_a_query_vector_does_not_matter(opened: OpenIndex) -> None:
    vector = opened.item(3).vector
    results, longer = opened.search_vector(vector, k=6), opened.search_vector(vector * 16, k=6)
    assert [result.id for result in longer] == [result.id for result in results]
    assert longer[0].score == pytest.approx(1, abs=1e-6)


def test_searching_from_an_item_leaves_it_out(opened: OpenIndex, photos: Path) -> None:
    item = opened.item(1)
    results = opened.search_item(item.id, k=4)
    others = [result for result in opened.search_vector(item.vector, k=20) if result.id != item.id]
    assert results == others[:4]
    assert len(opened.search_item(item.id, k=100)) == 19
    assert opened.photo_path(item.id) == photos.resolve() / item.path


def test_an_item_is_left_out_even_among_many_equal_ones(opened: OpenIndex, photos: Path) -> None:
    for number in range(6):
        shutil.copy(photos / "red-right" / "0.jpg", photos / "red-right" / f"copy-{number}.jpg")
    update_index(photos, opened.path, opened.path / "encoder.onnx", device="cpu")
    last = opened.catalogue.item_at("red-right/copy-5.jpg").id
    results = opened.search_item(last, k=3)
    assert len(results) == 3
    assert last not in {result.id for result in results}


def test_k_and_min_score_bound_the_results(opened: OpenIndex, photos: Path) -> None:
    query = photos / "green-left" / "0.jpg"
    everything = opened.search_photo(query, k=1000)
    assert len(everything) == opened.item_count == 20
    least = everything[6].score
    assert opened.search_photo(query, k=1000, min_score=least) == everything[:7]
    assert opened.search_photo(query, k=3, min_score=least) == everything[:3]
    assert opened.search_photo(query, min_score=1.1) == []
    with pytest.raises(HdmlError, match="at least 1, not 0"):
        opened.search_photo(query, k=0)


def test_equal_photos_come_in_the_order_of_their_ids(opened: OpenIndex, photos: Path) -> None:
    for number in range(4):
        shutil.copy(photos / "red-right" / "0.jpg", photos / f"copy-{number}.jpg")
    update_index(photos, opened.path, opened.path / "encoder.onnx", device="cpu")
    results = opened.search_photo(photos / "red-right" / "0.jpg", k=5)
    assert len({opened.item(result.id).vector.tobytes() for result in results}) == 1
    keys = [(-result.score, result.id) for result in results]
    assert keys == sorted(keys)


def test_an_update_by_another_process_is_taken_up(opened: OpenIndex, photos: Path) -> None:
    query = (photos / "red-right" / "0.jpg").read_bytes()
    before = opened.search_photo(query, k=30)
    (photos / "red-right" / "1.jpg").unlink()
    (photos / "later.jpg").write_bytes(query)
    update_index(photos, opened.path, opened.path / "encoder.onnx", device="cpu")
    after = opened.search_photo(query, k=30)
    assert {result.path for result in after} == {result.path for result in before} - {"red-right/1.jpg"} | {"later.jpg"}
    assert opened.item_count == 20


def test_while_an_update_is_under_way_search_goes_on_without_what_is_gone(opened: OpenIndex, photos: Path) -> None:
    query = photos / "red-right" / "0.jpg"
    before = opened.search_photo(query, k=30)
    with indexing_alone(opened.path), Catalogue(opened.path) as writer:
        writer.compare(photo for photo in walk_gallery(photos) if photo.label != "red-right")
        writer.settle()
        found = opened.search_photo(query, k=30)
        assert found == [result for result in before if result.label != "red-right"]
    update_index(photos, opened.path, opened.path / "encoder.onnx", device="cpu")
    assert [result.path for result in opened.search_photo(query, k=30)] == [result.path for result in before]


def test_what_an_update_stored_before_it_was_stopped_is_taken_up(opened: OpenIndex, photos: Path) -> None:
    query = (photos / "red-right" / "0.jpg").read_bytes()
    opened.search_photo(query)
    for number in range(20):
        (photos / f"copy-{number}.jpg").write_bytes(query)

    def stop(progress: Progress) -> None:
        opened.search_photo(query)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(photos, opened.path, opened.path / "encoder.onnx", device="cpu", progress=stop)
    stored = opened.item_count
    assert 20 < stored < 40
    assert len(opened.search_photo(query, k=40)) == stored


def test_an_index_that_may_not_be_written_can_be_searched(photos: Path, outside: Path, tiny_encoder: Path) -> None:
    update_index(photos, outside / "index", tiny_encoder, device="cpu")
    for saved in (True, False):
        if not saved:
            (outside / "index").chmod(0o700)
            for cache in (outside / "index").glob("index.*.faiss"):
                cache.unlink()
        (outside / "index").chmod(0o555)
        with ordinary_user(outside), OpenIndex(outside / "index", device="cpu") as opened:
            assert len(opened.search_item(1, k=20)) == 19
    (outside / "index").chmod(0o700)


def test_many_threads_get_the_results_of_one(opened: OpenIndex, photos: Path) -> None:
    queries = sorted(photos.rglob("*.jpg"))
    expected = [opened.search_photo(query, k=5) for query in queries]
    with OpenIndex(opened.path, device="cpu") as fresh, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: fresh.search_photo(query, k=5), queries * 3)) == expected * 3


def test_an_unreadable_query_is_said(opened: OpenIndex, tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("a note")
    with pytest.raises(UnreadableImage, match="not in an image format"):
        opened.search_photo(tmp_path / "note.jpg")
    with pytest.raises(UnreadableImage, match="there is no such file"):
        opened.search_photo(tmp_path / "absent.jpg")


def test_an_item_that_is_not_there_is_said(opened: OpenIndex) -> None:
    with pytest.raises(UnknownItem, match="the index photos-index has no item with id 99"):
        opened.search_item(99)


def test_an_index_without_readable_photos_is_said(tmp_path: Path, photos: Path, tiny_encoder: Path) -> None:
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    (gallery / "a.jpg").touch()
    update_index(gallery, tmp_path / "index", tiny_encoder, device="cpu")
    with OpenIndex(tmp_path / "index", device="cpu") as opened:
        assert opened.item_count == 0
        with pytest.raises(HdmlError, match="the index index must hold photos, but it has none that can be read"):
            opened.search_photo(photos / "red-right" / "0.jpg")


def test_filtered_results_are_the_best_of_those_that_match(opened: OpenIndex, photos: Path) -> None:
    query = photos / "red-right" / "2.jpg"
    everything = opened.search_photo(query, k=30)
    for number, path in enumerate(sorted(photos.rglob("*.jpg"))):
        os.utime(path, (1_700_000_000 + 86_400 * number,) * 2)
    with Image.open(photos / "blue-left" / "0.jpg") as image:
        image.resize((500, 300)).save(photos / "blue-left" / "0.jpg")
    update_index(photos, opened.path, opened.path / "encoder.onnx", device="cpu")
    changed = {result.path for result in opened.search_photo(query, k=30, where=Filter(min_side=300))}
    assert changed == {"blue-left/0.jpg"}
    paths = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.jpg"))]
    for where, wanted in (
        (Filter(labels=("red-right", "green-left")), lambda path: path.split("/")[0] in ("red-right", "green-left")),
        (Filter(path="*/3.jpg"), lambda path: path.endswith("/3.jpg")),
        (Filter(labels=("red-right",), path="*/[34].jpg"), lambda path: path in ("red-right/3.jpg", "red-right/4.jpg")),
        (Filter(labels=("absent",)), lambda path: False),
        (
            Filter.asked(since="2023-11-16", until="2023-11-20"),
            lambda path: path in paths[2:7],
        ),
    ):
        expected = [result.path for result in everything if wanted(result.path) and result.path != "blue-left/0.jpg"]
        found = [result.path for result in opened.search_photo(query, k=30, where=where) if result.path != "blue-left/0.jpg"]
        assert found == expected
    (only,) = opened.search_photo(query, k=1, where=Filter(labels=("blue-right",)))
    assert only == next(result for result in everything if result.label == "blue-right")


def test_attributes_narrow_the_results_and_stand_in_them(opened: OpenIndex, photos: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    rows = [
        f"{photos / path},{colour},{size}"
        for path, colour, size in (("red-right/0.jpg", "red", 1), ("red-right/1.jpg", "red", 2), ("blue-left/0.jpg", "blue", 2))
    ]
    manifest.write_text("\n".join(["path,colour,size of it", *rows]) + "\n")
    update_index(photos, opened.path, opened.path / "encoder.onnx", descriptions=Descriptions(manifest=manifest), device="cpu")
    query = photos / "red-right" / "0.jpg"
    for asked, wanted in (
        (("colour=red",), {"red-right/0.jpg", "red-right/1.jpg"}),
        (("colour=red", "colour=blue"), {"red-right/0.jpg", "red-right/1.jpg", "blue-left/0.jpg"}),
        (("colour=red", "size of it=2"), {"red-right/1.jpg"}),
        (("colour=re",), set()),
        (("'=2",), set()),
    ):
        results = opened.search_photo(query, k=30, where=Filter.asked(attributes=asked))
        assert {result.path for result in results} == wanted
    (only,) = opened.search_photo(query, k=30, where=Filter.asked(attributes=("size of it=1",)))
    assert only.attributes == {"colour": "red", "size of it": "1"}


@pytest.mark.parametrize("words", ["colour", "=red", '"=red'])
def test_an_attribute_that_cannot_be_read_is_said(words: str) -> None:
    with pytest.raises(HdmlError, match=f"an attribute must be given as name=value, such as colour=red, not {words}"):
        Filter.asked(attributes=(words,))


def test_a_filter_is_looked_up_once_until_something_changes(opened: OpenIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Filter] = []
    matching = Catalogue.matching

    def counted(self: Catalogue, wanted: Filter) -> np.ndarray:
        asked.append(wanted)
        return matching(self, wanted)

    monkeypatch.setattr(Catalogue, "matching", counted)
    vector, red, blue = opened.item(1).vector, Filter(labels=("red-right",)), Filter(labels=("blue-left", "blue-right"))
    before = {where: opened.search_vector(vector, k=20, where=where) for where in (red, blue)}
    for where in (red, blue, red):
        assert opened.search_vector(vector, k=20, where=where) == before[where]
    assert asked == [red, blue]
    moved = before[blue][0].id
    with sqlite3.connect(
        opened.path / CATALOGUE
    ) as connection:  # as another process does, when a photo's folder has another name
        connection.execute("UPDATE items SET label = 'red-right' WHERE id = ?", (moved,))
    connection.close()
    assert {found.id for found in opened.search_vector(vector, k=20, where=red)} == {found.id for found in before[red]} | {moved}
    assert asked == [red, blue, red]
    for number in range(20):
        opened.search_vector(vector, k=20, where=Filter(path=f"*{number}*"))
    opened.search_vector(vector, k=20, where=red)
    assert asked.count(red) == 3


def test_a_date_that_cannot_be_read_is_said() -> None:
    with pytest.raises(HdmlError, match=r"a date must be given as 2026-01-31 or 2026-01-31T12:00, not yesterday"):
        Filter.asked(since="yesterday")
    assert Filter.asked() is None


def test_a_missing_index_and_an_unknown_device_are_said(tmp_path: Path, opened: OpenIndex) -> None:
    with pytest.raises(HdmlError, match=r"absent must be an index"):
        OpenIndex(tmp_path / "absent")
    with pytest.raises(HdmlError, match="not 'tpu'"):
        OpenIndex(opened.path, device="tpu")


def test_an_encoder_that_was_exchanged_is_noticed(opened: OpenIndex, photos: Path) -> None:
    own = opened.path / "encoder.onnx"
    write_metadata(own, replace(read_metadata(own), fingerprint="0123456789abcdef"))
    with pytest.raises(HdmlError, match=r"built with encoder 00c0ffee00c0ffee, but its encoder\.onnx is now 0123456789abcdef"):
        opened.search_photo(photos / "red-right" / "0.jpg")
    assert len(opened.search_item(1, k=3)) == 3  # needs no encoder


def test_labels_are_voted_for_by_the_results_that_are_kept(opened: OpenIndex) -> None:
    def result(score: float, label: str | None) -> Result:
        return Result(1, "a.jpg", label, {}, 4, 3, score)

    results = [
        result(0.9, "b"),
        result(0.8, "a"),
        result(0.7, None),
        result(0.6, "c"),
        result(0.5, "a"),
        result(0.4, "c"),
        result(0.3, "c"),
    ]
    for least, votes in ((None, [("c", 3), ("a", 2), ("b", 1)]), (0.35, [("a", 2), ("c", 2), ("b", 1)]), (0.95, [])):
        found = answer("q.jpg", opened, results, 1.0, min_score=least)["votes"]
        assert found == [{"label": label, "results": count} for label, count in votes]


def test_the_answer_holds_what_programs_rely_on(opened: OpenIndex, photos: Path) -> None:
    results = opened.search_photo(photos / "red-right" / "0.jpg", k=2)
    found = json.loads(json.dumps(answer("q.jpg", opened, results, 12.34567)))
    assert found == {
        "query": "q.jpg",
        "index": "photos-index",
        "model": "00c0ffee00c0ffee",
        "elapsed_ms": 12.346,
        "verdict": None,
        "calibration": None,
        "votes": [{"label": "red-right", "results": 2}],
        "results": [
            {
                **{"id": r.id, "path": r.path, "label": "red-right", "attributes": {}, "width": r.width, "height": r.height},
                **{"score": r.score, "verdict": None},
            }
            for r in results
        ],
    }


def test_a_search_in_a_fresh_interpreter_is_the_same_and_imports_nothing_heavy(opened: OpenIndex, photos: Path) -> None:
    query = photos / "red-right" / "0.jpg"
    command = [sys.executable, "-c", SEARCH, str(opened.path), str(query)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=120, check=True)
    found = json.loads(run.stdout)
    assert found["results"] == answer("query", opened, opened.search_photo(query, k=3), 0.0)["results"]
    assert "faiss" in found["modules"]
    assert HEAVY & set(found["modules"]) == set()
    assert np.isfinite([result["score"] for result in found["results"]]).all()


def test_open_index_finds_it_by_name_folder_or_as_the_newest(opened: OpenIndex, photos: Path, tmp_path: Path) -> None:
    indexes = tmp_path / "workspace" / "indexes"
    indexes.mkdir(parents=True)
    shutil.copytree(opened.path, indexes / "mine")
    expected = opened.search_photo(photos / "red-right" / "0.jpg", k=3)
    for index in ("mine", indexes / "mine", None):
        with open_index(index, workspace=tmp_path / "workspace", device="cpu") as found:
            assert found.search_photo(photos / "red-right" / "0.jpg", k=3) == expected
    with pytest.raises(HdmlError, match="has no index absent"):
        open_index("absent", workspace=tmp_path / "workspace")
