"""Labelled photos, and the folder that they are read from."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from hdml.data import LabelledPhotos, Photo, label_photos, read_labelled_folder
from indexing.errors import HdmlError
from indexing.preprocess import Box


@pytest.fixture
def folder(shapes: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shapes, tmp_path / "shapes"))


def fake_photos(sizes: dict[str, int]) -> LabelledPhotos:
    """As many (never opened) photos of each class as asked for."""
    names = sorted(sizes)
    paths = tuple(Path(name) / f"{number}.jpg" for name in names for number in range(sizes[name]))
    labels = np.array([index for index, name in enumerate(names) for _ in range(sizes[name])])
    return LabelledPhotos(Path("photos"), paths, labels, tuple(names))


LETTERS = fake_photos(dict.fromkeys("abcdefghijklmnopqrst", 3))


def test_folder_gives_classes_by_name_and_photos_at_any_depth(folder: Path) -> None:
    deep = folder / "goldenrod-ellipse" / "2019" / "july"
    deep.mkdir(parents=True)
    (folder / "goldenrod-ellipse" / "0.jpg").rename(deep / "0.jpg")
    (folder / "notes.txt").write_text("not a photo")
    photos = read_labelled_folder(folder)
    assert len(photos.classes) == 12
    assert list(photos.classes) == sorted(photos.classes)
    assert len(photos.paths) == 72
    assert all(photos.classes[label] == path.parts[0] for path, label in zip(photos.paths, photos.labels, strict=True))
    assert Path("goldenrod-ellipse/2019/july/0.jpg") in photos.paths


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: None, "there is no folder"),
        (lambda root: root.mkdir(), "has no sub-folder with photos"),
        (lambda root: shutil.copytree(root.parent / "shapes" / "firebrick-ellipse", root / "only"), r"one class only \(only\)"),
    ],
)
def test_folder_that_cannot_be_learned_from_says_what_it_has(folder: Path, tmp_path: Path, make, sentence: str) -> None:
    make(tmp_path / "given")
    with pytest.raises(HdmlError, match=sentence):
        read_labelled_folder(tmp_path / "given")


def test_chosen_classes_keep_their_photos_under_new_labels() -> None:
    chosen = LETTERS.of_classes(["t", "b"])
    assert chosen.classes == ("b", "t")
    assert chosen.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert {path.parts[0] for path in chosen.paths} == {"b", "t"}


def test_photos_left_out_take_an_empty_class_with_them() -> None:
    left = LETTERS.without({Photo(Path(name)) for name in ("a/0.jpg", "a/1.jpg", "a/2.jpg", "c/1.jpg")})
    assert left.classes == tuple("bcdefghijklmnopqrst")
    assert len(left.paths) == 56
    assert [left.classes[label] for label in left.labels] == [path.parts[0] for path in left.paths]


BOXED = label_photos(
    Path("photos"),
    [Photo(Path("street.jpg"), Box(9, 0, 5, 5)), Photo(Path("street.jpg"), Box(0, 0, 5, 5)), Photo(Path("lane.jpg"))],
    ["oak", "elm", "elm"],
    groups=["monday", None, None],
    parts=["train", "test", "test"],
)


def test_photos_are_sorted_with_all_that_is_known_of_them() -> None:
    lane, left, right = BOXED.photos
    assert (lane, left, right) == (
        Photo(Path("lane.jpg")),
        Photo(Path("street.jpg"), Box(0, 0, 5, 5)),
        Photo(Path("street.jpg"), Box(9, 0, 5, 5)),
    )
    assert [BOXED.classes[label] for label in BOXED.labels] == ["elm", "elm", "oak"]
    assert BOXED.groups == (None, None, "monday")
    assert BOXED.parts == ("test", "test", "train")
    assert str(right) == "street.jpg [9 0 5 5]"


def test_two_boxes_of_one_file_are_two_photos() -> None:
    left = BOXED.without({Photo(Path("street.jpg"), Box(0, 0, 5, 5))})
    assert left.photos == (Photo(Path("lane.jpg")), Photo(Path("street.jpg"), Box(9, 0, 5, 5)))
    assert (left.groups, left.parts) == ((None, "monday"), ("test", "train"))
    assert [left.classes[label] for label in left.labels] == ["elm", "oak"]
    assert BOXED.without(set(BOXED.photos[:2])).classes == ("oak",)


def test_chosen_classes_keep_boxes_groups_and_parts() -> None:
    oaks = BOXED.of_classes(["oak"])
    assert oaks.photos == (Photo(Path("street.jpg"), Box(9, 0, 5, 5)),)
    assert (oaks.groups, oaks.parts, oaks.labels.tolist()) == (("monday",), ("train",), [0])


def test_what_no_photo_has_takes_no_room() -> None:
    plain = label_photos(Path("photos"), [Photo(Path("a.jpg")), Photo(Path("b.jpg"))], ["a", "b"], groups=[None, None], parts=[])
    assert (plain.boxes, plain.groups, plain.parts) == ((), (), ())


def test_folder_lists_what_is_known_to_be_unreadable_by_its_name(folder: Path) -> None:
    (folder / "firebrick-ellipse" / "phone.heic").symlink_to(folder / "nowhere.heic")
    photos = read_labelled_folder(folder)
    ((path, reason),) = photos.left_out
    assert path == "firebrick-ellipse/phone.heic"
    assert "No such file" in reason
    assert len(photos.paths) == 72
