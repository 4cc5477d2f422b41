"""Regions are where the likeness is, and their local embeddings add up to the embedding."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexing.encoder import Encoder, put_metadata
from indexing.errors import HdmlError
from indexing.indexer import update_index
from indexing.preprocess import Window, load_array
from indexing.queries import Query
from indexing.regions import REGIONS, NoRegions, RegionHead, explain, seen_area, similarities
from indexing.search import OpenIndex
from tests.conftest import TINY, write_pooling_encoder


def corner(left: bool, top: bool, *, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A red square in a corner of a green photo."""
    image = Image.new("RGB", size, "seagreen")
    square = Image.new("RGB", (16, 16), "firebrick")
    image.paste(square, (0 if left else size[0] - 16, 0 if top else size[1] - 16))
    return image


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    (tmp_path / "run").mkdir()
    metadata = replace(TINY, preprocessing=replace(TINY.preprocessing, resize=32))
    return Encoder(write_pooling_encoder(tmp_path / "run", metadata), device="cpu")


@pytest.fixture
def opened(tmp_path: Path, encoder: Encoder) -> Iterator[OpenIndex]:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (64, 64), "firebrick").save(photos / "red.png")
    corner(False, False).save(photos / "lower-right.png")
    update_index(photos, tmp_path / "index", encoder.path, device="cpu")
    with OpenIndex(tmp_path / "index", device="cpu") as index:
        yield index


def test_the_mean_of_local_embeddings_is_the_embedding(encoder: Encoder, photos: Path) -> None:
    images = np.stack([load_array(photo, encoder.preprocessing) for photo in sorted(photos.glob("*/0.jpg"))])
    embeddings, norms = encoder.encode(images)
    local = RegionHead(encoder).local_embeddings(encoder.look(images)[1])
    assert local.shape == (4, 32, 4, 4)
    np.testing.assert_allclose(local.mean((2, 3)), embeddings * norms[:, None], atol=1e-5)


def test_similarities_are_cosines_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    local, other = rng.standard_normal((5, 2, 3)).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    other /= np.linalg.norm(other)
    local[:, 1, 2] = 0
    found = similarities(local, other)
    for row in range(2):
        for column in range(3):
            place = local[:, row, column]
            expected = 0.0 if not place.any() else place @ other / np.linalg.norm(place)
            assert found[row, column] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("left", "top", "place"), [(True, True, (0, 0)), (False, True, (0, 3)), (True, False, (3, 0))])
def test_an_object_in_a_corner_is_found_there(
    opened: OpenIndex, tmp_path: Path, left: bool, top: bool, place: tuple[int, int]
) -> None:
    corner(left, top).save(tmp_path / "query.png")
    red, lower_right = opened.catalogue.item_at("red.png"), opened.catalogue.item_at("lower-right.png")
    found = explain(opened, Query(photo=tmp_path / "query.png"), red.id)
    assert found.query is not None
    assert np.unravel_index(found.query.similarities.argmax(), (4, 4)) == place
    assert found.query.similarities.max() > 0.95
    assert np.ptp(found.item.similarities) < 1e-5  # one colour is everywhere as like
    item = explain(opened, Query(item=red.id), lower_right.id).item
    assert np.unravel_index(item.similarities.argmax(), (4, 4)) == (3, 3)
    score = opened.search_photo(tmp_path / "query.png", k=2)
    assert found.score == pytest.approx(next(result.score for result in score if result.id == red.id), abs=1e-6)


def test_a_query_without_a_photo_has_no_regions_of_its_own(opened: OpenIndex) -> None:
    red, lower_right = opened.catalogue.item_at("red.png"), opened.catalogue.item_at("lower-right.png")
    for query in (Query(vector=red.vector), Query(more=(red.id,))):
        found = explain(opened, query, lower_right.id)
        assert found.query is None
        assert np.unravel_index(found.item.similarities.argmax(), (4, 4)) == (3, 3)


def test_a_crop_has_regions_of_its_own(opened: OpenIndex, tmp_path: Path) -> None:
    corner(False, True, size=(128, 64)).save(tmp_path / "query.png")
    red = opened.catalogue.item_at("red.png")
    whole = explain(opened, Query(photo=tmp_path / "query.png"), red.id).query
    part = explain(opened, Query(photo=tmp_path / "query.png", crop=Window(0.5, 0, 1, 1)), red.id).query
    assert whole is not None
    assert part is not None
    assert whole.area == Window(0.25, 0, 0.75, 1)
    assert np.ptp(whole.similarities) < 1e-5  # the corner lies outside what the encoder sees
    assert part.area == Window(0.5, 0, 1, 1)
    assert np.unravel_index(part.similarities.argmax(), (4, 4)) == (0, 3)


def test_what_an_encoder_sees_of_a_photo_is_its_centre() -> None:
    shape = replace(TINY.preprocessing, resize=40, crop=30)
    assert seen_area((200, 100), shape) == Window(0.3125, 0.125, 0.6875, 0.875)
    assert seen_area((100, 100), shape, Window(0.5, 0, 1, 0.5)) == Window(0.5625, 0.0625, 0.9375, 0.4375)


def test_an_encoder_without_regions_says_so(opened: OpenIndex, encoder: Encoder) -> None:
    red = opened.catalogue.item_at("red.png")
    about = {"format": 1, "fingerprint": "other", "dimension": 32}
    regions = opened.path / REGIONS
    put_metadata(regions, json.dumps(about))
    with pytest.raises(NoRegions, match="must belong to the encoder 00c0ffee00c0ffee beside it, but belongs to other"):
        explain(opened, Query(item=red.id), red.id)
    regions.unlink()
    with pytest.raises(NoRegions, match=r"averages over the places .* but tiny \(00c0ffee00c0ffee\) came without regions.onnx"):
        explain(opened, Query(item=red.id), red.id)


def test_a_lost_photo_is_said(opened: OpenIndex) -> None:
    red = opened.catalogue.item_at("red.png")
    opened.photo_path(red.id).unlink()
    with pytest.raises(HdmlError, match=f"the photo of item {red.id} cannot be read any more: there is no such file"):
        explain(opened, Query(vector=red.vector), red.id)
