"""Copies among the photos: exact ones and those written anew are found, and photos that are only alike are not."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hdml.augmentation import TrainingPhotos
from hdml.data import LabelledPhotos, Photo, label_photos, read_labelled_folder
from hdml.leaks import Leaks, Looks, find_leaks, tell_leaks
from hdml.splits import Split
from indexing.preprocess import Box

LEARNED, MEASURED = "a", "z"


def write_scene(path: Path, seed: int, *, size: tuple[int, int] = (320, 240), shift: int = 0) -> Path:
    """A scene of coarse and fine colours, different for every seed; ``shift`` moves the camera by pixels."""
    random = np.random.default_rng(seed)
    coarse, fine = (Image.fromarray(random.integers(0, 256, (*grid, 3)).astype(np.uint8)) for grid in ((4, 5), (40, 50)))
    larger = (size[0] + 64, size[1] + 64)
    scene = Image.blend(*(part.resize(larger, Image.Resampling.BICUBIC) for part in (coarse, fine)), 0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    scene.crop((shift, shift, shift + size[0], shift + size[1])).save(path, quality=95)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of six photos each, none like another."""
    for number in range(6):
        write_scene(tmp_path / LEARNED / f"{number}.jpg", number)
        write_scene(tmp_path / MEASURED / f"{number}.jpg", 100 + number)
    return tmp_path


def look_at(photos: LabelledPhotos) -> Looks:
    looks = Looks(photos.root)
    assert TrainingPhotos(photos.root, 64).read(photos.photos, keep=(), on_read=lambda: None, look=looks.look) == {}
    return looks


def leaks_of(photos: LabelledPhotos) -> Leaks:
    """Class a is learned from and z is measured on."""
    labels = photos.labels.tolist()
    learned = tuple(index for index, label in enumerate(labels) if photos.classes[label] == LEARNED)
    measured = tuple(index for index, label in enumerate(labels) if photos.classes[label] == MEASURED)
    return find_leaks(Split(photos, learned, test=measured), look_at(photos))


def pair(first: str, second: str) -> tuple[Photo, Photo]:
    return Photo(Path(first)), Photo(Path(second))


def test_different_photos_are_no_copies(folder: Path) -> None:
    assert leaks_of(read_labelled_folder(folder)) == Leaks((), (), (), held_out=6)


def test_exact_copy_is_found_whatever_its_name(folder: Path) -> None:
    shutil.copy(folder / "a" / "2.jpg", folder / "z" / "holiday.jpeg")
    leaks = leaks_of(read_labelled_folder(folder))
    assert (leaks.exact, leaks.near) == ((pair("a/2.jpg", "z/holiday.jpeg"),), ())
    assert leaks.labels == (pair("a/2.jpg", "z/holiday.jpeg"),)


@pytest.mark.parametrize(
    ("scale", "name", "quality"),
    [(1, "copy.jpg", 50), (1, "copy.png", 0), (0.5, "copy.jpg", 80), (0.3, "copy.webp", 70), (2, "copy.jpg", 90)],
)
def test_copy_written_anew_is_found(folder: Path, scale: float, name: str, quality: int) -> None:
    original = Image.open(folder / "a" / "4.jpg")
    size = (round(original.width * scale), round(original.height * scale))
    original.resize(size, Image.Resampling.LANCZOS).save(folder / "z" / name, quality=quality)
    leaks = leaks_of(read_labelled_folder(folder))
    assert (leaks.exact, leaks.near, leaks.labels) == ((), (pair("a/4.jpg", f"z/{name}"),), ())


@pytest.mark.parametrize("shift", [16, 32])
def test_another_photo_of_the_same_scene_is_no_copy(folder: Path, shift: int) -> None:
    write_scene(folder / "z" / "moved.jpg", 3, shift=shift)
    assert leaks_of(read_labelled_folder(folder)).near == ()


def test_same_shape_in_another_colour_is_no_copy(folder: Path) -> None:
    """Equal in all that the hash sees of them, which is grey."""
    red, green, blue = Image.open(folder / "a" / "0.jpg").convert("RGB").split()
    grey = np.asarray(Image.open(folder / "a" / "0.jpg").convert("L"))
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(folder / "z" / "grey.png")
    Image.merge("RGB", (blue, green, red)).save(folder / "z" / "turned.png")
    assert leaks_of(read_labelled_folder(folder)).near == ()


def test_small_things_on_white_are_no_copies_of_each_other(tmp_path: Path) -> None:
    """Most of such photos is the same; what differs is what they are of."""
    for name, colours in ((LEARNED, ("red", "navy", "olive")), (MEASURED, ("orange", "purple", "teal"))):
        (tmp_path / name).mkdir()
        for number, colour in enumerate(colours):
            photo = Image.new("RGB", (240, 240), "white")
            photo.paste(colour, (90 + 8 * number, 90, 140 + 8 * number, 150))
            photo.save(tmp_path / name / f"{number}.jpg", quality=95)
    assert leaks_of(read_labelled_folder(tmp_path)).near == ()


def test_closest_of_several_copies_is_listed(folder: Path) -> None:
    original = Image.open(folder / "a" / "1.jpg")
    original.save(folder / "a" / "worse.jpg", quality=20)
    original.save(folder / "z" / "copy.png")
    assert leaks_of(read_labelled_folder(folder)).near == (pair("a/1.jpg", "z/copy.png"),)


def test_copies_on_one_side_are_no_leaks(folder: Path) -> None:
    for name in (LEARNED, MEASURED):
        shutil.copy(folder / name / "0.jpg", folder / name / "again.jpg")
    leaks = leaks_of(read_labelled_folder(folder))
    assert (leaks.exact, leaks.near, leaks.labels) == ((), (), ())


def test_photo_in_two_classes_is_told_on_whatever_side(folder: Path) -> None:
    for name in ("p", "q"):  # in no part at all
        (folder / name).mkdir()
        shutil.copy(folder / "z" / "0.jpg", folder / name / "same.jpg")
    leaks = leaks_of(read_labelled_folder(folder))
    assert (leaks.exact, leaks.near) == ((), ())
    assert leaks.labels == (pair("p/same.jpg", "q/same.jpg"), pair("p/same.jpg", "z/0.jpg"))


def test_two_boxes_of_one_photo_are_no_copies_and_one_box_in_two_classes_is(folder: Path) -> None:
    left, right = Box(0, 0, 160, 240), Box(160, 0, 160, 240)
    shutil.copy(folder / "a" / "0.jpg", folder / "same.jpg")
    photos = label_photos(
        folder,
        [Photo(Path("a/0.jpg"), left), Photo(Path("a/0.jpg"), right), Photo(Path("same.jpg"), left), Photo(Path("a/1.jpg"))],
        [LEARNED, MEASURED, MEASURED, LEARNED],
    )
    leaks = leaks_of(photos)
    found = (Photo(Path("a/0.jpg"), left), Photo(Path("same.jpg"), left))
    assert (leaks.exact, leaks.near, leaks.labels) == ((found,), (), (found,))


def test_all_measured_parts_are_compared(folder: Path) -> None:
    for number in range(4):
        shutil.copy(folder / "a" / f"{number}.jpg", folder / "z" / f"copy-{number}.jpg")
    photos = read_labelled_folder(folder)
    at = {photo.path.as_posix(): index for index, photo in enumerate(photos.photos)}
    held = [(at[f"z/copy-{number}.jpg"],) for number in range(4)]
    learned = tuple(at[f"a/{number}.jpg"] for number in range(6))
    leaks = find_leaks(Split(photos, learned, *held), look_at(photos))
    assert len(leaks.exact) == leaks.held_out == 4


def test_sentences_have_the_counts_and_name_a_pair(tmp_path: Path) -> None:
    exact, near, labels = (pair("a/0.jpg", "z/0.jpg"),), (pair("a/1.jpg", "z/1.jpg"), pair("a/1.jpg", "z/2.jpg")), ()
    (sentence,) = tell_leaks(Leaks(exact, near, labels, held_out=90), tmp_path / "leaks.json")
    assert sentence == (
        "Leak check: of 90 photos measured on, 1 are exact copies and 2 near copies of photos learned from, which flatters the "
        f"figures; {tmp_path / 'leaks.json'} lists them."
    )
    sentences = list(tell_leaks(Leaks((), (), exact, held_out=90), tmp_path / "leaks.json"))
    assert sentences[0] == "Leak check: none of 90 photos measured on is a copy of one learned from."
    assert "in two classes, byte for byte: 1 pairs, such as a/0.jpg and z/0.jpg;" in sentences[1]


def test_hash_of_the_data_is_of_names_classes_and_bytes(folder: Path) -> None:
    photos = read_labelled_folder(folder)
    by_hand = hashlib.sha256()
    for path, label in zip(photos.paths, photos.labels, strict=True):
        by_hand.update(f"{path}\n{photos.classes[label]}\n".encode() + hashlib.sha256((folder / path).read_bytes()).digest())
    assert look_at(photos).sha256(photos) == by_hand.hexdigest()
    content = bytearray((folder / "a" / "0.jpg").read_bytes())
    content[len(content) // 2] ^= 1  # of the same size
    (folder / "a" / "0.jpg").write_bytes(content)
    assert look_at(photos).sha256(photos) != by_hand.hexdigest()
