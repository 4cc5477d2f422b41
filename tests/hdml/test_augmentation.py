"""Training's photos: decoded once, cropped, turned and mirrored anew in every batch."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hdml.augmentation import TrainingPhotos
from hdml.data import Photo, read_labelled_folder
from indexing.errors import HdmlError
from indexing.preprocess import IMAGENET_MEAN, IMAGENET_STD, Box, open_rgb


@pytest.fixture
def folder(shapes: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shapes, tmp_path / "shapes"))


def test_unreadable_photo_is_reported_and_stops_nothing(folder: Path) -> None:
    bad = Photo(Path("firebrick-ellipse/0.jpg"))
    (folder / bad.path).write_bytes(b"not a photo")
    photos = read_labelled_folder(folder)
    seen = []
    failures = TrainingPhotos(folder, 32).read(photos.photos, keep=set(), on_read=lambda: seen.append(1))
    assert failures.keys() == {bad}
    assert "not in an image format" in failures[bad]
    assert len(seen) == 72


def test_photo_that_vanishes_while_training_is_named(folder: Path) -> None:
    photos = TrainingPhotos(folder, 32)
    with pytest.raises(HdmlError, match=r"gone/1\.jpg could be read when the run began, but now there is no such file"):
        photos.batch([Photo(Path("gone/1.jpg"))], (0, 0))


def test_batch_is_a_function_of_photos_and_seed_whether_cached_or_not(shapes: Path) -> None:
    photos = read_labelled_folder(shapes).photos[:8]
    cached, fresh = TrainingPhotos(shapes, 32), TrainingPhotos(shapes, 32)
    cached.read(photos, keep=set(photos), on_read=lambda: None)
    images = cached.batch(photos, (3, 1))
    assert images.shape == (8, 3, 32, 32)
    torch.testing.assert_close(images, fresh.batch(photos, (3, 1)), rtol=0, atol=0)
    assert not torch.equal(images, cached.batch(photos, (3, 2)))


def test_batch_is_normalised_as_evaluation_is(tmp_path: Path) -> None:
    """A photo of one colour is the same array however it is cropped."""
    Image.new("RGB", (64, 48), (200, 30, 90)).save(tmp_path / "plain.png")
    (image,) = TrainingPhotos(tmp_path, 32).batch([Photo(Path("plain.png"))], (0, 0))
    expected = (torch.tensor([200, 30, 90]) / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    torch.testing.assert_close(image, expected[:, None, None].expand(3, 32, 32))


def test_crops_differ_in_place_and_some_are_mirrored(shapes: Path) -> None:
    """A photo whose left half is dark: over many draws both sides are seen dark."""
    photo = read_labelled_folder(shapes).photos[0]
    photos = TrainingPhotos(shapes, 16)
    draws = torch.cat([photos.batch([photo], (0, step)) for step in range(40)])
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == 40
    assert open_rgb(shapes / photo.path).size[1] == 48


def test_crops_are_turned_a_little_to_either_side(tmp_path: Path) -> None:
    """The edge between a dark left half and a light right one leans by the turn, whatever the crop; a flip mirrors the lean."""
    side = 256
    photo = Image.new("RGB", (side, side), "white")
    photo.paste("black", (0, 0, side // 2, side))
    photo.save(tmp_path / "halves.png")
    photos = TrainingPhotos(tmp_path, 128)
    leans = []
    for step in range(30):
        (image,) = photos.batch([Photo(Path("halves.png"))], (0, step))
        rows = image[0, 40:88]
        dark = (rows < rows.mean()).float()
        if 0.2 < dark.mean() < 0.8:  # the edge runs through these rows
            widths = dark.sum(1)
            leans.append(float(widths[-1] - widths[0]) / len(widths))
    assert len(leans) > 10
    assert min(leans) < -0.1 < 0.1 < max(leans)
    # tan 20° = 0.36; the crop's aspect stretches one side against the other by 4/3 at most.
    assert max(map(abs, leans)) < 0.36 * (4 / 3) + 0.05


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """A photo that is red on its left half and blue on its right one."""
    photo = Image.new("RGB", (80, 40), "blue")
    photo.paste("red", (0, 0, 40, 40))
    photo.save(tmp_path / "halves.png")
    return tmp_path


@pytest.mark.parametrize("cached", [True, False])
def test_two_boxes_of_one_file_are_each_cropped_to_their_own(halves: Path, cached: bool) -> None:
    left, right = Photo(Path("halves.png"), Box(0, 0, 40, 40)), Photo(Path("halves.png"), Box(40, 0, 40, 40))
    photos = TrainingPhotos(halves, 16)
    assert photos.read([left, right], keep={left, right} if cached else (), on_read=lambda: None) == {}
    images = photos.batch([left, right], (0, 0))
    red, blue = (torch.tensor(colour) / 255 for colour in ([255, 0, 0], [0, 0, 255]))
    for image, colour in zip(images, (red, blue), strict=True):
        expected = (colour - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
        torch.testing.assert_close(image, expected[:, None, None].expand(3, 16, 16))


def test_box_beyond_the_photo_costs_that_photo_alone(halves: Path) -> None:
    good, bad = Photo(Path("halves.png"), Box(0, 0, 40, 40)), Photo(Path("halves.png"), Box(60, 0, 40, 40))
    failures = TrainingPhotos(halves, 16).read([good, bad], keep=(), on_read=lambda: None)
    assert failures == {bad: "its box 60 0 40 40 (x y width height) reaches beyond its 80 × 40 pixels"}


def test_every_readable_photo_is_shown_once_as_it_was_decoded(folder: Path) -> None:
    (folder / "firebrick-ellipse" / "0.jpg").write_bytes(b"not a photo")
    photos, seen = read_labelled_folder(folder).photos, {}
    failures = TrainingPhotos(folder, 32).read(photos, keep=(), on_read=lambda: None, look=seen.__setitem__)
    assert seen.keys() == set(photos) - failures.keys()
    assert all(pixels.dtype == np.uint8 and min(pixels.shape[:2]) == 42 for pixels in seen.values())


def test_authors_crops_are_windows_of_the_whole_photo_made_square(tmp_path: Path) -> None:
    """227 of 256 pixels a side, flipped or not, nothing turned and nothing scaled otherwise (arXiv:1903.05503, section 4.2)."""
    ramp = np.linspace(0, 255, 96)[None, :, None].repeat(48, 0).repeat(3, 2).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    photos = TrainingPhotos(tmp_path, 32, as_authors=True)
    side, lefts = round(32 * 256 / 227), set()
    for step in range(40):
        (image,) = photos.batch([Photo(Path("ramp.png"))], (0, step))
        row = (image[0, 0] * IMAGENET_STD[0] + IMAGENET_MEAN[0]).numpy() * side  # its place along the ramp, in pixels
        assert image.shape == (3, 32, 32)
        slopes = np.diff(row)[2:-2]
        assert np.allclose(slopes, slopes[0], atol=0.25)
        assert abs(abs(slopes.mean()) - 1) < 0.05
        lefts.add(round(float(min(row[0], row[-1]))))
    assert len(lefts) > 2
    assert max(lefts) - min(lefts) <= side - 32
