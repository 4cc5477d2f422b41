"""A folder of drawn photos that training can learn from, and a network small enough to learn in a test."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

PHOTOS_PER_CLASS = 6
COLOURS = ("firebrick", "seagreen", "royalblue", "goldenrod")
SHAPES = ("ellipse", "rectangle", "regular_polygon")


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve classes, a shape in a colour, of six JPEG photos of about 48 px each."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    rng = np.random.default_rng(5)
    for colour in COLOURS:
        for shape in SHAPES:
            place = folder / f"{colour}-{shape}"
            place.mkdir(parents=True)
            for number in range(PHOTOS_PER_CLASS):
                draw_shape(colour, shape, rng).save(place / f"{number}.jpg", quality=92)
    return folder


def draw_shape(colour: str, shape: str, rng: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", (int(rng.integers(44, 60)), 48), tuple(int(value) for value in rng.integers(150, 240, 3)))
    x, y, radius = (int(value) for value in (rng.integers(18, 28), rng.integers(18, 28), rng.integers(9, 15)))
    draw = ImageDraw.Draw(image)
    if shape == "regular_polygon":
        draw.regular_polygon((x, y, radius), 3, fill=colour)
    else:
        getattr(draw, shape)((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image
