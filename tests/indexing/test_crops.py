"""Crops are found in the photo that they are of, where they were cut, and in no other."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from indexing.crops import PICTURE, PROMISING, correlate, fit


def scene(seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse, fine = (Image.fromarray(random.integers(0, 256, (*grid, 3)).astype(np.uint8)) for grid in ((4, 5), (20, 25)))
    return Image.blend(*(part.resize((300, 240), Image.Resampling.BICUBIC) for part in (coarse, fine)), 0.4)


def small(photo: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(photo.resize((PICTURE, PICTURE), Image.Resampling.BILINEAR))


def written_anew(photo: Image.Image) -> Image.Image:
    target = io.BytesIO()
    photo.resize((photo.width * 3 // 4, photo.height * 3 // 4)).save(target, "JPEG", quality=70)
    return Image.open(target).convert("RGB")


@pytest.mark.parametrize("box", [(30, 24, 270, 216), (0, 0, 210, 168), (100, 20, 290, 210), (20, 90, 280, 230)])
def test_crop_is_found_where_it_was_cut(box: tuple[int, int, int, int]) -> None:
    whole = scene(1)
    part = written_anew(whole.crop(box))
    shape = np.array([(part.width / part.height) / (whole.width / whole.height)])
    (score,), (window,) = correlate(small(whole)[None], small(part)[None], shape)
    assert score >= PROMISING
    misfit, found = fit(small(whole), small(part), window)
    assert misfit < 1
    expected = np.array(box) / [300, 240, 300, 240]
    assert np.abs(np.array([found.left, found.top, found.right, found.bottom]) - expected).max() < 0.03


def test_crop_of_another_photo_is_not_confirmed() -> None:
    for seed in range(2, 12):
        part = scene(seed).crop((30, 24, 270, 216))
        _, (window,) = correlate(small(scene(1))[None], small(part)[None], np.ones(1))
        assert fit(small(scene(1)), small(part), window)[0] > 1


def test_photo_correlates_with_itself_in_its_whole_window() -> None:
    random = np.random.default_rng(0)
    whole = np.repeat(random.integers(0, 256, (PICTURE, PICTURE, 1)).astype(np.uint8), 3, axis=2)
    scores, windows = correlate(whole[None], whole[None], np.ones(1))
    assert scores[0] == pytest.approx(1, abs=0.01)
    assert windows[0].tolist() == [0, 0, 1, 1]


def test_photo_that_is_too_long_for_a_window_has_none() -> None:
    scores, _ = correlate(small(scene(1))[None], small(scene(1))[None], np.array([3.0]))
    assert scores.tolist() == [-1]
