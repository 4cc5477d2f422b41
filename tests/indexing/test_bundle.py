"""Bundles: what is searched in one is what was searched before, nothing tells of the machine, and what is no bundle is said."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import indexing.pictures
from indexing.bundle import pack_index, unpack_bundle
from indexing.catalogue import Catalogue
from indexing.errors import HdmlError
from indexing.indexer import update_index
from indexing.pictures import kept_picture
from indexing.preprocess import open_rgb
from indexing.search import OpenIndex
from indexing.workspace import Workspace


@pytest.fixture
def index_dir(photos: Path, tmp_path: Path, tiny_encoder: Path) -> Path:
    """An index of which one photo is gone since."""
    folder = tmp_path / "shop"
    update_index(photos, folder, tiny_encoder, device="cpu")
    (photos / "red-right" / "4.jpg").unlink()
    update_index(photos, folder, folder / "encoder.onnx", device="cpu")
    return folder


def test_a_bundle_is_searched_like_the_index_without_its_photos(photos: Path, index_dir: Path, tmp_path: Path) -> None:
    query = photos / "blue-left" / "0.jpg"
    with OpenIndex(index_dir, device="cpu") as opened:
        expected = opened.search_photo(query, k=30)
    content = query.read_bytes()
    packed = pack_index(index_dir, tmp_path / "out" / "shop.hdml")
    assert (packed.items, packed.failed, packed.bytes) == (19, [], packed.file.stat().st_size)
    assert [path.name for path in packed.file.parent.iterdir()] == ["shop.hdml"]
    shutil.rmtree(photos)
    shutil.rmtree(index_dir)
    folder = Workspace(tmp_path / "elsewhere").find_index(packed.file)
    assert folder.name == "shop"
    with OpenIndex(folder, device="cpu") as opened:
        assert opened.search_photo(content, k=30) == expected
        assert (opened.gallery, opened.catalogue.count_gone()) == (Path("photos"), 0)


def test_every_photo_has_a_picture_of_it(photos: Path, index_dir: Path, tmp_path: Path) -> None:
    folder = unpack_bundle(pack_index(index_dir, tmp_path / "shop.hdml", side=40).file, tmp_path)
    with Catalogue(folder) as catalogue:
        for item, path in catalogue.paths():
            jpeg, _ = kept_picture(folder, item) or (b"", "")
            picture, photo = open_rgb(jpeg), open_rgb(photos / path)
            assert max(picture.size) == min(40, max(photo.size))
            difference = np.asarray(picture, float) - np.asarray(photo.resize(picture.size, Image.Resampling.LANCZOS), float)
            assert np.abs(difference).mean() < 6
        assert kept_picture(folder, 10**9) is None


def test_nothing_in_it_tells_where_the_photos_lay(photos: Path, index_dir: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(pack_index(index_dir, tmp_path / "shop.hdml").file) as archive:
        for name in archive.namelist():
            assert str(photos.parent).encode() not in archive.read(name), name
        assert b"red-right/4.jpg" not in archive.read("catalogue.sqlite")


def test_a_photo_that_cannot_be_drawn_is_listed(photos: Path, index_dir: Path, tmp_path: Path) -> None:
    (photos / "red-right" / "0.jpg").unlink()
    (photos / "red-right" / "1.jpg").write_bytes(b"torn")
    packed = pack_index(index_dir, tmp_path / "shop.hdml")
    assert {failure.path: failure.reason for failure in packed.failed}.keys() == {"red-right/0.jpg", "red-right/1.jpg"}
    assert packed.items == 19


def test_pictures_drawn_before_an_interruption_are_not_drawn_again(
    index_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "shop.hdml"

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_index(index_dir, file, progress=interrupt)
    assert not file.exists()
    drawn = []
    draw = indexing.pictures.draw
    monkeypatch.setattr(indexing.pictures, "draw", lambda photo, side: drawn.append(photo) or draw(photo, side))
    pack_index(index_dir, file)
    assert drawn == []
    pack_index(index_dir, file)  # a second one is drawn anew
    assert len(drawn) == 19


def test_a_bundle_is_unpacked_once_and_again_when_it_is_another(photos: Path, index_dir: Path, tmp_path: Path) -> None:
    file, place = tmp_path / "shop.hdml", tmp_path / "place"
    first = unpack_bundle(pack_index(index_dir, file).file, place)
    before = (first / "catalogue.sqlite").stat().st_mtime_ns
    assert unpack_bundle(file, place) == first
    assert (first / "catalogue.sqlite").stat().st_mtime_ns == before
    (photos / "red-right" / "0.jpg").unlink()
    update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    assert unpack_bundle(pack_index(index_dir, file).file, place) != first
    assert not list(place.glob("*.part"))


def write_zip(file: Path, **members: str) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


GOOD = {"bundle.json": json.dumps({"version": 1, "name": "shop"}), "catalogue.sqlite": "", "pictures.sqlite": ""}


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({}, "must be a bundle, but is damaged or none"),
        ({"a.txt": "", **GOOD}, r"but it has 'a\.txt'"),
        ({"../catalogue.sqlite": "", **GOOD}, r"but it has '\.\./catalogue\.sqlite'"),
        ({"/etc/run.json": "", **GOOD}, r"but it has '/etc/run\.json'"),
        ({name: GOOD[name] for name in ("bundle.json", "catalogue.sqlite")}, "lacks a file"),
        ({**GOOD, "bundle.json": "{"}, r"its bundle\.json cannot be read"),
        ({**GOOD, "bundle.json": '{"version": 2, "name": "shop"}'}, "must be a bundle of version 1, but is of version 2"),
    ],
)
def test_what_is_no_bundle_is_said_and_nothing_is_written(tmp_path: Path, members: dict[str, str], sentence: str) -> None:
    file = tmp_path / "shop.hdml"
    file.write_bytes(b"no archive")
    if members:
        write_zip(file, **members)
    with pytest.raises(HdmlError, match=sentence):
        unpack_bundle(file, tmp_path / "place")
    assert not list(tmp_path.rglob("catalogue.sqlite"))


def test_the_name_of_a_bundle_is_no_path(tmp_path: Path) -> None:
    file = tmp_path / "shop.hdml"
    write_zip(file, **{**GOOD, "bundle.json": '{"version": 1, "name": "../../evil"}'})
    assert unpack_bundle(file, tmp_path / "place").parent.parent == tmp_path / "place"


def test_a_damaged_bundle_is_said_and_leaves_nothing(index_dir: Path, tmp_path: Path) -> None:
    file = pack_index(index_dir, tmp_path / "shop.hdml").file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(HdmlError, match="must be a bundle, but is damaged or none"):
        unpack_bundle(file, tmp_path / "place")
    assert not list((tmp_path / "place").iterdir())


def test_a_disk_that_is_full_is_said_and_leaves_no_half_bundle(index_dir: Path, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(8 * 1024 * 1024 - 65536))
    with pytest.raises(HdmlError, match=r"shop\.hdml"):
        pack_index(index_dir, small_disk / "shop.hdml")
    assert not list(small_disk.glob("*.hdml"))


@pytest.mark.parametrize("name", ["shop.zip", "shop"])
def test_a_bundle_has_its_own_ending(index_dir: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(HdmlError, match=r"must be a file that ends in \.hdml"):
        pack_index(index_dir, tmp_path / name)


def test_an_index_without_photos_is_not_packed(tmp_path: Path, tiny_encoder: Path) -> None:
    gallery = tmp_path / "torn"
    gallery.mkdir()
    (gallery / "a.jpg").write_bytes(b"torn")
    update_index(gallery, tmp_path / "index", tiny_encoder, device="cpu")
    with pytest.raises(HdmlError, match="a bundle needs an index with photos"):
        pack_index(tmp_path / "index", tmp_path / "a.hdml")


def test_what_a_killed_process_had_unpacked_is_removed_after_an_hour(index_dir: Path, tmp_path: Path) -> None:
    file, place = pack_index(index_dir, tmp_path / "shop.hdml").file, tmp_path / "place"
    for name in ("0123.1.part", "0123.2.part"):
        (place / name / "shop").mkdir(parents=True)
        (place / name / "shop" / "catalogue.sqlite").write_bytes(b"half of it")
    for path in (place / "0123.1.part", *(place / "0123.1.part").rglob("*")):
        os.utime(path, (0, 0))
    os.utime(place / "0123.2.part", (0, 0))  # of a process that has written a file of it just now
    unpacked = unpack_bundle(file, place)
    assert sorted(path.name for path in place.iterdir()) == sorted(["0123.2.part", unpacked.parent.name])
