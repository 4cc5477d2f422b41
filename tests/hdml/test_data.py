"""Labelled folders, the class split and training's photos."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hdml.data import (
    ClassSplit,
    LabelledPhotos,
    TrainingPhotos,
    evaluation_preprocessing,
    read_labelled_folder,
    split_classes,
    validation_photos,
)
from hdml.evaluate import DISTRACTOR
from hdml.weights import IMAGENET_MEAN, IMAGENET_STD
from indexing.errors import HdmlError
from indexing.preprocess import open_rgb


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


def test_split_parts_are_disjoint_and_together_whole() -> None:
    split = split_classes(LETTERS, "last:8")
    assert split.test == tuple("mnopqrst")
    assert len(split.validation) == 2
    assert sorted((*split.train, *split.validation)) == list("abcdefghijkl")


@pytest.mark.parametrize(
    ("rule", "test"),
    [
        ("none", ""),
        ("half", "klmnopqrst"),
        ("0.5", "klmnopqrst"),
        ("0.1", "st"),
        ("last:2", "st"),
        ("last:17", "defghijklmnopqrst"),
    ],
)
def test_split_rules(rule: str, test: str) -> None:
    assert "".join(split_classes(LETTERS, rule).test) == test


def test_split_by_a_file_of_names(tmp_path: Path) -> None:
    file = tmp_path / "test.txt"
    file.write_text("c\n\n a \n")
    assert split_classes(LETTERS, str(file)).test == ("a", "c")
    file.write_text("c\nzebra\n")
    with pytest.raises(HdmlError, match="'zebra', which is no class of this folder"):
        split_classes(LETTERS, str(file))
    file.write_text("c\ncafé\n", encoding="latin-1")
    with pytest.raises(HdmlError, match="is in another encoding"):
        split_classes(LETTERS, str(file))


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("last:20", "between 1 and 19, got 20"),
        ("last:0", "between 1 and 19, got 0"),
        ("1.5", "between 0 and 1, got 1.5"),
        ("nowhere.txt", "got nowhere.txt"),
        ("last:19", "at least 2 classes with 2 photos or more"),
        ("last:1", "Testing needs at least 2 classes.* gives 1 of"),
        ("0.01", "Testing needs at least 2 classes.* gives 1 of"),
    ],
)
def test_split_rule_that_cannot_be_used_says_why(rule: str, sentence: str) -> None:
    with pytest.raises(HdmlError, match=sentence):
        split_classes(LETTERS, rule)


def test_split_of_few_classes_holds_none_out_for_validation() -> None:
    assert split_classes(fake_photos(dict.fromkeys("abcde", 3)), "none").validation == ()
    assert len(split_classes(fake_photos(dict.fromkeys("abcdef", 3)), "none").validation) == 2


def test_validation_never_holds_a_class_that_cannot_ask() -> None:
    photos = fake_photos({**dict.fromkeys("abcdefghij", 1), **dict.fromkeys("klmnopqrst", 2)})
    assert set(split_classes(photos, "none").validation) <= set("klmnopqrst")


def test_validation_asks_among_photos_of_all_training_classes() -> None:
    split = split_classes(LETTERS, "last:4")
    validation = validation_photos(LETTERS, split)
    assert validation is not None
    asked = [path.parts[0] for path, label in zip(validation.paths, validation.labels, strict=True) if label != DISTRACTOR]
    among = [path for path, label in zip(validation.paths, validation.labels, strict=True) if label == DISTRACTOR]
    assert asked == [validation.classes[label] for label in validation.labels if label != DISTRACTOR]
    assert set(asked) == set(split.validation)
    assert len(set(among)) == len(among) == 2 * len(asked)
    assert {path.parts[0] for path in among} <= set(split.train)
    assert len({path.parts[0] for path in among}) == 12  # of 14 classes, evenly spread
    assert validation_photos(LETTERS, ClassSplit(tuple("abc"), (), ())) is None


def test_test_classes_without_a_pair_are_refused() -> None:
    with pytest.raises(HdmlError, match="Testing needs at least 2 classes, one of them with 2 photos or more"):
        split_classes(fake_photos({**dict.fromkeys("abcdef", 3), "g": 1, "h": 1}), "last:2")


def test_chosen_classes_keep_their_photos_under_new_labels() -> None:
    chosen = LETTERS.of_classes(["t", "b"])
    assert chosen.classes == ("b", "t")
    assert chosen.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert {path.parts[0] for path in chosen.paths} == {"b", "t"}


def test_photos_left_out_take_an_empty_class_with_them() -> None:
    left = LETTERS.without({Path("a/0.jpg"), Path("a/1.jpg"), Path("a/2.jpg"), Path("c/1.jpg")})
    assert left.classes == tuple("bcdefghijklmnopqrst")
    assert len(left.paths) == 56
    assert [left.classes[label] for label in left.labels] == [path.parts[0] for path in left.paths]


def test_unreadable_photo_is_reported_and_stops_nothing(folder: Path) -> None:
    bad = Path("firebrick-ellipse/0.jpg")
    (folder / bad).write_bytes(b"not a photo")
    photos = read_labelled_folder(folder)
    seen = []
    failures = TrainingPhotos(folder, 32).read(photos.paths, keep=set(), on_read=lambda: seen.append(1))
    assert failures.keys() == {bad}
    assert "not in an image format" in failures[bad]
    assert len(seen) == 72


def test_photo_that_vanishes_while_training_is_named(folder: Path) -> None:
    photos = TrainingPhotos(folder, 32)
    with pytest.raises(HdmlError, match=r"gone/1\.jpg could be read when the run began, but now there is no such file"):
        photos.batch([Path("gone/1.jpg")], (0, 0))


def test_batch_is_a_function_of_paths_and_seed_whether_cached_or_not(shapes: Path) -> None:
    paths = read_labelled_folder(shapes).paths[:8]
    cached, fresh = TrainingPhotos(shapes, 32), TrainingPhotos(shapes, 32)
    cached.read(paths, keep=set(paths), on_read=lambda: None)
    images = cached.batch(paths, (3, 1))
    assert images.shape == (8, 3, 32, 32)
    torch.testing.assert_close(images, fresh.batch(paths, (3, 1)), rtol=0, atol=0)
    assert not torch.equal(images, cached.batch(paths, (3, 2)))


def test_batch_is_normalised_as_evaluation_is(tmp_path: Path) -> None:
    """A photo of one colour is the same array however it is cropped."""
    from PIL import Image

    Image.new("RGB", (64, 48), (200, 30, 90)).save(tmp_path / "plain.png")
    (image,) = TrainingPhotos(tmp_path, 32).batch([Path("plain.png")], (0, 0))
    expected = (torch.tensor([200, 30, 90]) / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    torch.testing.assert_close(image, expected[:, None, None].expand(3, 32, 32))


def test_evaluation_keeps_the_whole_shorter_side() -> None:
    preprocessing = evaluation_preprocessing(96)
    assert (preprocessing.resize, preprocessing.crop) == (96, 96)


def test_crops_differ_in_place_and_some_are_mirrored(shapes: Path) -> None:
    """A photo whose left half is dark: over many draws both sides are seen dark."""
    path = read_labelled_folder(shapes).paths[0]
    photos = TrainingPhotos(shapes, 16)
    draws = torch.cat([photos.batch([path], (0, step)) for step in range(40)])
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == 40
    assert open_rgb(shapes / path).size[1] == 48


def test_crops_are_turned_a_little_to_either_side(tmp_path: Path) -> None:
    """The edge between a dark left half and a light right one leans by the turn, whatever the crop; a flip mirrors the lean."""
    from PIL import Image

    side = 256
    photo = Image.new("RGB", (side, side), "white")
    photo.paste("black", (0, 0, side // 2, side))
    photo.save(tmp_path / "halves.png")
    photos = TrainingPhotos(tmp_path, 128)
    leans = []
    for step in range(30):
        (image,) = photos.batch([Path("halves.png")], (0, step))
        rows = image[0, 40:88]
        dark = (rows < rows.mean()).float()
        if 0.2 < dark.mean() < 0.8:  # the edge runs through these rows
            widths = dark.sum(1)
            leans.append(float(widths[-1] - widths[0]) / len(widths))
    assert len(leans) > 10
    assert min(leans) < -0.1 < 0.1 < max(leans)
    # tan 20° = 0.36; the crop's aspect stretches one side against the other by 4/3 at most.
    assert max(map(abs, leans)) < 0.36 * (4 / 3) + 0.05
