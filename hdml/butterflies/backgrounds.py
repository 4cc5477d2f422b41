"""What lies behind a butterfly: seven kinds of blurred scenery, none of which knows the species in front of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from hdml.butterflies.anatomy import to_rgb

Array = NDArray[np.floating[Any]]


def draw_background(size: int, rng: np.random.Generator) -> Array:
    """[size, size, 3] float32 RGB in 0..1 of a kind drawn at random."""
    kind: Callable[[int, np.random.Generator], Image.Image | Array] = KINDS[rng.integers(len(KINDS))]
    picture = kind(size, rng)
    return np.clip(picture if isinstance(picture, np.ndarray) else np.asarray(picture, np.float32) / 255, 0.0, 1.0)


def smooth_noise(size: int, grid: tuple[int, int], rng: np.random.Generator) -> Array:
    """[size, size] float32, about -1..1: random values on a ``grid`` (columns, rows), smoothly joined."""
    values = rng.uniform(-1.0, 1.0, (grid[1], grid[0])).astype(np.float32)
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC))


def _fractal(size: int, rng: np.random.Generator, *, stretch: int = 1) -> Array:
    """Noise of four octaves; ``stretch`` > 1 draws it out downwards."""
    octaves = [smooth_noise(size, (3 * 2**octave * stretch, 3 * 2**octave), rng) * 0.6**octave for octave in range(4)]
    noise: Array = np.sum(octaves, axis=0)
    return noise


def _colour(
    rng: np.random.Generator, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]
) -> Array:
    return to_rgb((rng.uniform(*hue) % 1.0, rng.uniform(*saturation), rng.uniform(*value)))


def _ink(colour: Array) -> tuple[int, int, int]:
    red, green, blue = (int(255 * channel) for channel in np.clip(colour, 0, 1))
    return red, green, blue


def _gradient(size: int, first: Array, second: Array, rng: np.random.Generator) -> Array:
    """From one colour to the other across the picture, in a random direction, with soft clouds of both."""
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    t: Array = 0.5 + np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None] + 0.25 * smooth_noise(size, (4, 4), rng)
    blend: Array = np.clip(t, 0, 1)[..., None]
    return first + (second - first) * blend


def _as_picture(rgb: Array) -> Image.Image:
    return Image.fromarray((np.clip(rgb, 0, 1) * 255).astype(np.uint8))


def _leaf_polygon(x: float, y: float, length: float, width: float, angle: float) -> list[tuple[float, float]]:
    """A pointed oval from (x, y) in direction ``angle``."""
    t = np.linspace(0, np.pi, 12)
    outline = np.concatenate(
        [(1 - np.cos(t)) / 2 + 1j * np.sin(t) ** 1.4 * width, ((1 + np.cos(t)) / 2 - 1j * np.sin(t) ** 1.4 * width)]
    )
    points = x + 1j * y + length * outline * np.exp(1j * angle)
    return [(point.real, point.imag) for point in points]


def _foliage(size: int, rng: np.random.Generator) -> Image.Image:
    """Out-of-focus leaves with discs of light between them."""
    hue, dim = rng.uniform(0.19, 0.38), rng.uniform(0.25, 0.75)
    near = (hue - 0.04, hue + 0.04)
    picture = _as_picture(
        _gradient(
            size, _colour(rng, near, (0.3, 0.7), (0.2 * dim, 0.7 * dim)), _colour(rng, near, (0.3, 0.65), (dim, dim + 0.2)), rng
        )
    )
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(8, 20)):
        x, y = rng.uniform(-0.2, 1.2, 2) * size
        leaf = _leaf_polygon(x, y, rng.uniform(0.2, 0.7) * size, rng.uniform(0.12, 0.3), rng.uniform(0, 2 * np.pi))
        draw.polygon(leaf, fill=_ink(_colour(rng, near, (0.3, 0.75), (0.5 * dim, dim + 0.2))))
    picture = picture.filter(ImageFilter.GaussianBlur(size * rng.uniform(0.02, 0.05)))
    return _bokeh(picture, rng) if rng.random() < 0.5 else picture


def _bokeh(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lights thrown out of focus: translucent discs."""
    size = picture.width
    lights = Image.new("RGB", picture.size)
    draw = ImageDraw.Draw(lights)
    warm = rng.uniform(0.1, 0.2)
    for _ in range(rng.integers(5, 14)):
        x, y, radius = *(rng.uniform(0, 1, 2) * size), rng.uniform(0.03, 0.09) * size
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius),
            fill=_ink(_colour(rng, (warm, warm + 0.08), (0.1, 0.4), (0.15, 0.45))),
        )
    lights = lights.filter(ImageFilter.GaussianBlur(size * 0.012))
    base, light = np.asarray(picture, np.float32) / 255, np.asarray(lights, np.float32) / 255
    return _as_picture(1 - (1 - base) * (1 - light))


def _flowers(size: int, rng: np.random.Generator) -> Image.Image:
    """Large soft blossoms over foliage."""
    picture = _foliage(size, rng)
    draw = ImageDraw.Draw(picture)
    hue = rng.uniform(0.72, 1.18)
    for _ in range(rng.integers(2, 6)):
        x, y = rng.uniform(0, 1, 2) * size
        radius, petals, turn = rng.uniform(0.15, 0.38) * size, int(rng.integers(5, 13)), rng.uniform(0, np.pi)
        petal = _colour(rng, (hue - 0.03, hue + 0.03), (0.25, 0.75), (0.7, 1.0))
        for index in range(petals):
            shade = _ink(petal * rng.uniform(0.82, 1.0))
            draw.polygon(_leaf_polygon(x, y, radius, 1.6 / petals, turn + 2 * np.pi * index / petals), fill=shade)
        heart = radius * rng.uniform(0.16, 0.3)
        draw.ellipse((x - heart, y - heart, x + heart, y + heart), fill=_ink(_colour(rng, (0.09, 0.15), (0.6, 0.9), (0.6, 0.95))))
    return picture.filter(ImageFilter.GaussianBlur(size * rng.uniform(0.012, 0.035)))


def _leaf(size: int, rng: np.random.Generator) -> Array:
    """One large leaf fills the frame: a midrib and its side veins."""
    angle, hue = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.36)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    x = np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None] + rng.uniform(-0.4, 0.4)
    y = np.cos(angle) * ramp[:, None] - np.sin(angle) * ramp[None, :]
    side = np.cos((y + 0.9 * np.abs(x)) * rng.uniform(9, 16) + 0.5 * smooth_noise(size, (3, 3), rng))
    ribs = np.exp(-((x / 0.03) ** 2)) + 0.6 * np.clip(side * 6 - 5, 0, 1)
    light = 1 + 0.10 * _fractal(size, rng) + 0.10 * side * np.sign(x)
    leaf = _colour(rng, (hue, hue), (0.35, 0.75), (0.3, 0.75)) * light[..., None]
    pale: Array = 0.18 * np.clip(ribs, 0, 1)[..., None]
    return np.asarray(leaf + pale * (1 - leaf), np.float32)


def _stone(size: int, rng: np.random.Generator) -> Array:
    """Weathered rock with patches of lichen."""
    stone = (
        _colour(rng, (0.04, 0.14), (0.02, 0.25), (0.35, 0.8))
        * (1 + 0.16 * _fractal(size, rng) + 0.05 * rng.standard_normal((size, size)))[..., None]
    )
    lichen = np.clip(3 * (_fractal(size, rng) - rng.uniform(0.4, 0.9)), 0, 1)[..., None]
    return np.asarray(stone + (_colour(rng, (0.1, 0.3), (0.15, 0.5), (0.5, 0.8)) - stone) * 0.7 * lichen, np.float32)


def _bark(size: int, rng: np.random.Generator) -> Array:
    """Furrowed bark or weathered timber."""
    furrows = _fractal(size, rng, stretch=5)
    furrows = np.rot90(furrows) if rng.random() < 0.5 else furrows
    return _colour(rng, (0.03, 0.1), (0.15, 0.5), (0.25, 0.6)) * (1 + 0.22 * furrows + 0.1 * _fractal(size, rng))[..., None]


def _paper(size: int, rng: np.random.Generator) -> Array:
    """The sheet of a collector's plate: laid lines, a few stains."""
    sheet = _colour(rng, (0.08, 0.15), (0.04, 0.22), (0.78, 0.98))
    lines = 0.008 * np.sin(np.arange(size, dtype=np.float32) * 2 * np.pi / (size / 40))[:, None]
    tone = 1 + lines + 0.02 * _fractal(size, rng) + 0.012 * rng.standard_normal((size, size)).astype(np.float32)
    stains = 0.12 * np.clip(smooth_noise(size, (5, 5), rng) - 0.55, 0, 1)[..., None] * np.array([0.4, 0.8, 1.3], np.float32)
    return np.asarray(sheet * (tone[..., None] - stains), np.float32)


def _sky(size: int, rng: np.random.Generator) -> Array:
    """Blue, or a dusk of rose and violet, with haze."""
    hue = rng.uniform(0.52, 0.64) if rng.random() < 0.7 else rng.uniform(0.75, 1.05)
    sky = _gradient(
        size, _colour(rng, (hue, hue), (0.35, 0.7), (0.55, 0.95)), _colour(rng, (hue, hue + 0.05), (0.08, 0.35), (0.85, 1.0)), rng
    )
    haze = np.clip(_fractal(size, rng) * 0.5 + 0.1, 0, 1)[..., None]
    return np.asarray(sky + (1 - sky) * 0.6 * haze, np.float32)


KINDS: tuple[Callable[[int, np.random.Generator], Image.Image | Array], ...] = (
    _foliage,
    _foliage,
    _flowers,
    _flowers,
    _leaf,
    _stone,
    _bark,
    _paper,
    _sky,
)
