"""Walking a gallery: which files are photos, their labels, and folders that would lead astray."""

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from indexing.errors import HdmlError
from indexing.gallery import PhotoFile, check_gallery, find_photos, walk_gallery
from indexing.preprocess import EXTENSIONS, FORMATS
from tests.indexing.conftest import ordinary_user


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"photo")
    return root


def paths(gallery: Path) -> list[str]:
    return [photo.path for photo in walk_gallery(gallery)]


def test_nested_and_flat_photos_are_found_with_the_first_folder_as_label(tmp_path: Path) -> None:
    make(tmp_path, "b.jpg", "owls/a.JPG", "owls/night/deep/c.png", "Zebras/z.webp")
    assert [(photo.path, photo.label) for photo in walk_gallery(tmp_path)] == [
        ("Zebras/z.webp", "Zebras"),
        ("b.jpg", None),
        ("owls/a.JPG", "owls"),
        ("owls/night/deep/c.png", "owls"),
    ]
    assert find_photos(tmp_path) == sorted(Path(path) for path in paths(tmp_path))


def test_photos_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    made = ["a/z.jpg", "a/b/c.jpg", "a/b.jpg", "a/b-.jpg", "a/b0.jpg", "a-/x.jpg", "a.jpg", "a0/x.jpg", "ä/ö.jpg", "日本/x.jpg"]
    make(tmp_path, *made)
    assert paths(tmp_path) == sorted(made)


def test_every_extension_of_a_readable_format_is_known() -> None:
    known = Image.registered_extensions()
    assert {name for name, kind in known.items() if kind in (*FORMATS, "MPO")} <= EXTENSIONS
    assert {known[name] for name in EXTENSIONS & known.keys()} <= {*FORMATS, "MPO"}


def test_size_and_time_of_a_photo_are_those_of_its_file(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(5, 1_234_567_890_123_456_789))
    assert list(walk_gallery(tmp_path)) == [PhotoFile("a.jpg", None, 5, 1_234_567_890_123_456_789)]


def test_other_files_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "notes.txt", "jpg", "film.mp4", ".hidden.jpg", ".thumbnails/t.jpg", "x/.git/g.png", "x/@eaDir/e.jpg")
    assert paths(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize("name", ["a.jpeg", "a.tif", "a.TIFF", "a.bmp", "a.gif", "a.avif", "a.webp", "a.heic"])
def test_extensions_of_photos_are_known(tmp_path: Path, name: str) -> None:
    make(tmp_path, name)
    assert paths(tmp_path) == [name]


def test_links_to_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    gallery = make(tmp_path / "gallery", "cats/a.jpg")
    make(tmp_path / "elsewhere", "far.jpg")
    (gallery / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (gallery / "again").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (gallery / "cats" / "loop").symlink_to(gallery, target_is_directory=True)
    (gallery / "cats" / "above").symlink_to(tmp_path, target_is_directory=True)
    assert paths(gallery) == ["again/far.jpg", "cats/a.jpg"]


def test_a_link_that_leads_nowhere_and_a_pipe_are_listed_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "absent.jpg")
    os.mkfifo(tmp_path / "pipe.png")
    assert [(photo.path, photo.reason) for photo in walk_gallery(tmp_path)] == [
        ("broken.jpg", "the file cannot be read: No such file or directory"),
        ("pipe.png", "it is not a regular file"),
    ]
    assert find_photos(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux file systems allow such names")
def test_a_name_that_is_not_utf8_is_listed_in_readable_form(tmp_path: Path) -> None:
    make(tmp_path, os.fsdecode(b"caf\xe9/a.jpg"))
    (photo,) = walk_gallery(tmp_path)
    assert photo.path == r"caf\xe9/a.jpg"
    assert photo.label == r"caf\xe9"
    assert photo.reason == "the file's name or folder is not valid UTF-8; rename it"


def test_a_folder_that_may_not_be_listed_is_given_with_a_reason(outside: Path) -> None:
    make(outside, "a.jpg", "locked/b.jpg")
    (outside / "locked").chmod(0)
    with ordinary_user(outside):
        found = list(walk_gallery(outside))
    assert found[0].path == "a.jpg"
    assert found[1:] == [PhotoFile("locked", None, reason="the folder cannot be listed: Permission denied", unseen=True)]


def test_a_folder_that_may_be_listed_but_not_entered_stops_nothing(outside: Path) -> None:
    make(outside, "a.jpg", "shut/b.jpg", "shut/deeper/c.jpg")
    (outside / "shut").chmod(0o644)
    with ordinary_user(outside):
        found = {photo.path: (photo.reason, photo.unseen) for photo in walk_gallery(outside)}
    (outside / "shut").chmod(0o700)
    assert found == {
        "a.jpg": (None, False),
        "shut/b.jpg": ("the file cannot be read: Permission denied", True),
        "shut/deeper": ("the folder cannot be listed: Permission denied", True),
    }


def test_a_gallery_that_may_not_be_listed_or_reached_is_an_error(outside: Path) -> None:
    gallery = make(outside / "gallery", "inner/a.jpg")
    gallery.chmod(0)
    with ordinary_user(outside):
        with pytest.raises(HdmlError, match=r"gallery must be a folder of photos, but it cannot be listed: Permission denied"):
            list(walk_gallery(gallery))
        with pytest.raises(HdmlError, match=r"inner must be a folder of photos, but cannot be reached: Permission denied"):
            check_gallery(gallery / "inner")
    gallery.chmod(0o700)


def test_a_gallery_must_be_a_folder(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    with pytest.raises(HdmlError, match=r"absent must be a folder of photos, but it does not exist"):
        check_gallery(tmp_path / "absent")
    with pytest.raises(HdmlError, match=r"a\.jpg must be a folder of photos, but it is a file"):
        check_gallery(tmp_path / "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path)
    assert check_gallery(tmp_path / "link") == tmp_path.resolve()
