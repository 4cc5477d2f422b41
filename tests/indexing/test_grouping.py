"""Copies among results: shown once, behind the best of them, and none where the photos cannot be looked at."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from hdml.butterflies import write_butterflies
from indexing.answers import answer
from indexing.grouping import group_copies
from indexing.indexer import update_index
from indexing.search import OpenIndex


@pytest.fixture
def opened(tmp_path: Path, tiny_encoder: Path) -> Iterator[OpenIndex]:
    """An index of drawn butterflies, of which one has a copy, one written anew and one mirrored."""
    gallery = tmp_path / "gallery"
    write_butterflies(gallery, species=3, images=4)
    first, *_ = sorted(gallery.rglob("*.jpg"))
    shutil.copyfile(first, first.with_name("same.jpg"))
    with Image.open(first) as image:
        image.resize((image.width * 3 // 4, image.height * 3 // 4)).save(first.with_name("anew.jpg"), quality=70)
        ImageOps.mirror(image).save(first.with_name("mirrored.jpg"), quality=92)
    update_index(gallery, tmp_path / "index", tiny_encoder, device="cpu")
    with OpenIndex(tmp_path / "index", device="cpu") as index:
        yield index


def first_photo(opened: OpenIndex) -> Path:
    return next(path for path in sorted(opened.gallery.rglob("*.jpg")) if path.stem not in ("same", "anew", "mirrored"))


def test_copies_stand_behind_the_best_of_them(opened: OpenIndex) -> None:
    query = first_photo(opened)
    results = opened.search_photo(query, k=30)
    assert len(results) == 15
    kept, copies = group_copies(opened, results, 30)
    first = results[0]
    folder = query.parent.relative_to(opened.gallery).as_posix()
    expected = {f"{folder}/{name}" for name in (query.name, "same.jpg", "anew.jpg", "mirrored.jpg")} - {first.path}
    assert {copy.path for copy in copies[first.id]} == expected
    assert {copy.kind for copy in copies[first.id]} == {"exact", "re-encoded", "mirrored"}
    assert kept == [result for result in results if result.path not in expected]
    assert group_copies(opened, results, 3)[0] == kept[:3]
    rows = answer("q.jpg", opened, kept, 1.0, copies=copies)["results"]
    assert [len(row["copies"]) for row in rows] == [3] + [0] * 11


def test_what_is_not_there_any_more_is_a_copy_of_none(opened: OpenIndex) -> None:
    query = first_photo(opened)
    results = opened.search_photo(query, k=30)
    (query.parent / "mirrored.jpg").unlink()
    kept, copies = group_copies(opened, results, 30)
    assert query.parent.relative_to(opened.gallery).as_posix() + "/mirrored.jpg" in {result.path for result in kept}
    assert len(copies[results[0].id]) == 2


def test_no_results_have_no_copies(opened: OpenIndex) -> None:
    assert group_copies(opened, [], 5) == ([], {})
