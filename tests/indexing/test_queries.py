"""Queries of every kind find what a comparison with every item finds."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from indexing.bundle import pack_index
from indexing.errors import HdmlError
from indexing.filters import Filter
from indexing.indexer import update_index
from indexing.preprocess import Window, evaluation_preprocessing, load_array
from indexing.queries import Query
from indexing.rocchio import Weights
from indexing.search import OpenIndex
from indexing.workspace import Workspace


@pytest.fixture
def opened(photos: Path, tmp_path: Path, tiny_encoder: Path) -> Iterator[OpenIndex]:
    update_index(photos, tmp_path / "index", tiny_encoder, device="cpu")
    with OpenIndex(tmp_path / "index", device="cpu") as index:
        yield index


def ranked(opened: OpenIndex, vector: NDArray[np.floating], without: set[int]) -> list[int]:
    """Ids of all other items, those with the highest cosine first."""
    items = [item for item in opened.catalogue.items() if item.id not in without]
    return [item.id for item in sorted(items, key=lambda item: -float(item.vector @ vector))]


def test_examples_move_a_query_and_are_left_out(opened: OpenIndex) -> None:
    query, more, less = (
        opened.catalogue.items("blue-left")[0],
        opened.catalogue.items("red-right")[:2],
        opened.catalogue.items("green-left")[:1],
    )
    vector = query.vector + 0.75 * np.mean([item.vector for item in more], axis=0) - 0.15 * less[0].vector
    asked = Query(item=query.id, more=tuple(item.id for item in more), less=(less[0].id,))
    results = opened.search(asked, k=16)
    assert [result.id for result in results] == ranked(opened, vector, {query.id, less[0].id, *(item.id for item in more)})
    assert results[0].score == pytest.approx(max(opened.item(r.id).vector @ vector for r in results) / np.linalg.norm(vector))


def test_examples_alone_say_what_is_wanted(opened: OpenIndex) -> None:
    one, other = opened.catalogue.items("red-right")[0], opened.catalogue.items("blue-left")[0]
    assert [r.id for r in opened.search(Query(more=(one.id,)), k=19)] == ranked(opened, one.vector, {one.id})
    assert [r.id for r in opened.search(Query(less=(other.id,)), k=19)] == ranked(opened, -other.vector, {other.id})


def test_a_vector_finds_what_its_item_finds(opened: OpenIndex) -> None:
    item = opened.catalogue.items("red-right")[0]
    results = opened.search(Query(vector=5 * item.vector.astype(np.float64)), k=20)
    assert results[0].id == item.id
    assert [result.id for result in results[1:]] == [result.id for result in opened.search(Query(item=item.id), k=19)]
    moved = opened.search(Query(vector=5 * item.vector, more=(item.id,), weights=Weights(1, 1, 1)), k=19)
    assert [result.id for result in moved] == [result.id for result in results[1:]]


def test_filters_narrow_a_moved_query(opened: OpenIndex) -> None:
    item = opened.catalogue.items("red-right")[0]
    results = opened.search(Query(more=(item.id,)), where=Filter(labels=("blue-left",)))
    assert {result.label for result in results} == {"blue-left"}
    assert len(results) == 5


def test_a_crop_is_searched_by_as_the_part_itself_is(opened: OpenIndex, photos: Path, tmp_path: Path) -> None:
    whole = Image.open(photos / "red-right" / "0.jpg")
    left, right = round(0.5 * whole.width), whole.width
    part = tmp_path / "part.png"
    whole.crop((left, 18, right, 72)).save(part)
    expected = opened.search_photo(part, k=20)
    window = Window(0.5, 0.25, 1, 1)
    assert opened.search(Query(photo=photos / "red-right" / "0.jpg", crop=window), k=20) == expected
    item = opened.catalogue.item_at("red-right/0.jpg")
    by_item = opened.search(Query(item=item.id, crop=window), k=20)
    assert by_item == [result for result in expected if result.id != item.id]


def test_a_bundle_is_searched_by_parts_of_its_pictures(opened: OpenIndex, photos: Path, tmp_path: Path) -> None:
    packed = pack_index(opened.path, tmp_path / "photos.hdml", side=100)
    item = opened.catalogue.item_at("red-right/0.jpg")
    expected = opened.search(Query(item=item.id, crop=Window(0.5, 0, 1, 1)), k=3)
    with OpenIndex(Workspace(tmp_path / "elsewhere").find_index(packed.file), device="cpu") as bundle:
        assert [result.label for result in bundle.search(Query(item=item.id, crop=Window(0.5, 0, 1, 1)), k=3)] == [
            result.label for result in expected
        ]


def test_a_crop_of_a_lost_photo_is_said(opened: OpenIndex, photos: Path) -> None:
    item = opened.catalogue.item_at("red-right/0.jpg")
    (photos / "red-right" / "0.jpg").unlink()
    with pytest.raises(
        HdmlError, match=f'the photo of item {item.id} cannot be read any more: there is no such file; .*"hdml index"'
    ):
        opened.search(Query(item=item.id, crop=Window(0, 0, 0.5, 0.5)))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (Query(), "takes one query"),
        (Query(item=1, photo=b""), "takes one query"),
        (Query(item=1, vector=np.ones(32, np.float32)), "takes one query"),
        (Query(vector=np.ones(32, np.float32), crop=Window(0, 0, 1, 1)), "a crop is a part of a photo"),
        (Query(vector=np.ones(31, np.float32)), "must have 32 values, as its encoder .* gives, not 31"),
        (Query(vector=np.zeros(32, np.float32)), "must have a direction, .* not 0.0"),
        (Query(vector=np.full(32, 1e300)), "must have a direction, .* not inf"),
        (Query(vector=np.array([np.nan, *np.ones(31)])), "must have a direction, .* not nan"),
        (Query(item=1, more=(99,)), "has no item with id 99"),
    ],
)
def test_what_is_no_query_is_said(opened: OpenIndex, query: Query, said: str) -> None:
    with pytest.raises(HdmlError, match=said):
        opened.search(query)


@pytest.mark.parametrize(
    "words", ["", "0,0,1", "0,0,0,1", "0.5,0,0.4,1", "-0.1,0,1,1", "0,0,1,1.1", "nan,0,1,1", "0,0,1,inf", "a,b,c,d"]
)
def test_a_crop_that_is_no_part_of_a_photo_is_said(words: str) -> None:
    with pytest.raises(HdmlError, match=f"left,top,right,bottom in shares .* not {words}$"):
        Window.asked(words)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_crop_of_a_large_photo_keeps_the_detail_of_the_part(tmp_path: Path, orientation: int) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    photo = Image.fromarray(coarse).resize((1200, 800), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "large.jpg", quality=95, exif=exif)
    upright = photo if orientation == 1 else photo.transpose(Image.Transpose.ROTATE_270)
    width, height = upright.size
    upright.crop((3 * width // 4, height // 2, width, 3 * height // 4)).save(tmp_path / "part.png")
    preprocessing = evaluation_preprocessing(64)
    found = load_array(tmp_path / "large.jpg", preprocessing, box=Window(0.75, 0.5, 1, 0.75))
    assert np.abs(found - load_array(tmp_path / "part.png", preprocessing)).mean() < 0.05
