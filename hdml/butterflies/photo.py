"""One photo of one individual: pose, wear and body, then the background, the light and the camera."""

import io
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from hdml.butterflies.anatomy import Colour, Palette, Species, to_rgb
from hdml.butterflies.backgrounds import draw_background, smooth_noise
from hdml.butterflies.species import vary, vary_palette
from hdml.butterflies.wings import Outline, Points, locate, outline, paint

Array = NDArray[np.floating[Any]]
Pixels = NDArray[np.intp]

SUPERSAMPLING = 3
"""Butterflies are drawn at this multiple of the picture's size, then averaged down."""

FOREWING = 0.44
"""Length of a forewing as a share of the picture's side, before the individual's own scale."""

HIND_HINGE = np.array([0.0, -0.09], np.float32)
"""Where the hind wings are hinged, in forewing lengths; the forewings are hinged at the origin."""


@dataclass(frozen=True)
class Pose:
    """How an individual sits: left wing first, right wing second in each pair."""

    body: Array  # [2, 2] from the butterfly's frame (x right, y to the head, forewing lengths) to pixels (x right, y down)
    centre: Array  # [2] pixels: where the butterfly's origin lies
    spread: tuple[float, float]  # apparent width of the wings, 1 is flat open
    fore_turn: tuple[float, float]  # radians by which the wings are raised
    hind_turn: tuple[float, float]
    side_light: float  # -1..1, brightens the left (< 0) or right wings

    def wing(self, half: int, turn: float) -> Array:
        """[2, 2] from a wing's frame, turned about its hinge, to pixels."""
        mirror = np.diag([(-1, 1)[half] * self.spread[half], 1.0])
        cos, sin = np.cos(turn), np.sin(turn)
        return np.asarray(self.body @ mirror @ np.array([[cos, -sin], [sin, cos]]), np.float32)


def draw_photo(species: Species, size: int, rng: np.random.Generator) -> bytes:
    """A JPEG of ``size`` × ``size`` pixels: another individual in another place at every call."""
    side = size * SUPERSAMPLING
    butterfly = _draw_butterfly(_individual(species, rng), _pose(side, rng), side, rng)
    butterfly = butterfly.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, 4).mean(1).mean(2)
    picture = _photograph(butterfly, draw_background(size, rng), rng)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=int(rng.integers(72, 95)))
    return file.getvalue()


def _individual(species: Species, rng: np.random.Generator) -> Species:
    """An individual of the species: its own measures and pigments, tinted by its season and faded by its age."""
    own = vary_palette(species.palette, (0.005, 0.03, 0.025), rng)
    tint, fade, bleach = 0.010 * rng.standard_normal(), rng.uniform(0.72, 1.06), rng.uniform(0.0, 0.12)

    def aged(colour: Colour) -> Colour:
        hue, saturation, value = colour
        return (hue + tint) % 1.0, min(saturation * fade, 1.0), value + (0.8 - value) * bleach

    palette = Palette(*(aged(getattr(own, field.name)) for field in fields(own)))
    return replace(species, fore=vary(species.fore, 0.08, rng), hind=vary(species.hind, 0.08, rng), palette=palette)


def _pose(side: int, rng: np.random.Generator) -> Pose:
    """A random pose in a picture of ``side`` × ``side`` pixels."""
    turn, scale = rng.normal(0.0, 0.32), FOREWING * side * rng.uniform(0.9, 1.08)
    cos, sin = np.cos(turn), np.sin(turn)
    lean = np.array([[1.0, rng.normal(0.0, 0.05)], [0.0, rng.uniform(0.86, 1.0)]])
    raised, opening = rng.normal(0.07, 0.10), rng.uniform(0.80, 1.0)
    left, right = np.clip(opening + rng.normal(0.0, 0.06, 2), 0.62, 1.0)
    return Pose(
        body=np.asarray(scale * np.diag([1.0, -1.0]) @ np.array([[cos, -sin], [sin, cos]]) @ lean, np.float32),
        centre=np.asarray(side * (0.5 + rng.uniform(-0.07, 0.07, 2) - 0.03 * np.array([sin, cos])), np.float32),
        spread=(float(left), float(right)),
        fore_turn=(raised + rng.normal(0.0, 0.04), raised + rng.normal(0.0, 0.04)),
        hind_turn=(rng.normal(0.0, 0.06), rng.normal(0.0, 0.06)),
        side_light=rng.uniform(-1.0, 1.0),
    )


def _draw_butterfly(individual: Species, pose: Pose, side: int, rng: np.random.Generator) -> Array:
    """[side, side, 4] float32: colour already multiplied by alpha, and alpha. Hind wings lie under the forewings."""
    layer = np.zeros((side, side, 4), np.float32)
    for wing, turns, hinge, covered in (
        (individual.hind, pose.hind_turn, HIND_HINGE, 1.0),
        (individual.fore, pose.fore_turn, 0 * HIND_HINGE, 0.4),
    ):
        shape = outline(wing)
        for half in (0, 1):
            frame = pose.wing(half, turns[half])
            rows, columns, points = _pixels_on_wing(shape, frame, pose.centre + pose.body @ hinge, side)
            colour = paint(wing, shape, points, individual.palette, rng)
            colour *= _relief(points, pose.side_light * (-1, 1)[half], covered)
            _lay_pixels(layer, rows, columns, colour, _unworn(shape, points, rng))
    _draw_antennae(layer, pose, individual, rng)
    _draw_body(layer, pose, individual, rng)
    return layer


def _lay_pixels(layer: Array, rows: Pixels, columns: Pixels, colour: Array, alpha: Array) -> None:
    """Lay ``colour`` ([3, pixels] or [3, 1]) over those pixels of the layer, as densely as ``alpha`` [pixels] says."""
    opaque = np.concatenate([colour * alpha, alpha[None]])
    layer[rows, columns] = layer[rows, columns] * (1 - alpha)[:, None] + opaque.T


def _pixels_on_wing(shape: Outline, frame: Array, hinge: Array, side: int) -> tuple[Pixels, Pixels, Points]:
    """Rows and columns of the pixels that a wing covers, and where on the wing each of them lies."""
    edge = frame @ np.stack([np.cos(shape.angles), np.sin(shape.angles)]) * shape.edge + hinge[:, None]
    left, top = np.clip(np.floor(edge.min(1)).astype(int), 0, side)
    right, bottom = np.clip(np.ceil(edge.max(1)).astype(int) + 1, 0, side)
    rows, columns = (axis.ravel() for axis in np.mgrid[top:bottom, left:right])
    offsets = np.stack([columns + 0.5, rows + 0.5]).astype(np.float32) - hinge[:, None]
    x, y = np.linalg.inv(frame) @ offsets
    inside, points = locate(shape, x, y)
    return rows[inside], columns[inside], points


def _relief(points: Points, light: float, covered: float) -> Array:
    """Brightness of each point: the tilt of the whole wing, the pleats between its veins, the shade near the leading edge."""
    pleats = 0.05 * points.in_cell * np.minimum(points.along * 1.5, 1.0)
    shade: Array = covered * np.exp(-((points.across / 0.16) ** 2))
    relief: Array = 1 + 0.10 * light + pleats + 0.08 * (points.along - 0.5) - 0.38 * shade
    return relief


def _unworn(shape: Outline, points: Points, rng: np.random.Generator) -> Array:
    """[points] 1 where the wing is still there: about one in four has a piece torn out of its margin."""
    kept = np.ones(points.x.shape, np.float32)
    for _ in range(rng.choice(3, p=(0.76, 0.17, 0.07))):
        place = np.ones_like(points.x), np.full_like(points.x, rng.uniform(0.15, 0.85))
        ragged = 1 + 0.3 * np.sin(60 * points.x + rng.uniform(0, 6)) * np.sin(60 * points.y)
        kept *= points.spot_distance(shape, *place) > rng.uniform(0.04, 0.13) * ragged
    return kept


def _draw_antennae(layer: Array, pose: Pose, individual: Species, rng: np.random.Generator) -> None:
    """Two curved feelers with clubs; now and then one is broken off."""
    side = layer.shape[0]
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    t = np.linspace(0.0, 1.0, 12)
    for half in (-1, 1):
        if rng.random() < 0.06:
            continue
        length, out = rng.uniform(0.42, 0.52), rng.uniform(0.22, 0.34)
        curve = np.stack([half * (0.02 + out * t**1.3), 0.14 + length * t * (1 - 0.12 * t)])
        pixels = (pose.body @ curve + pose.centre[:, None]).T
        draw.line([tuple(point) for point in pixels.tolist()], fill=230, width=max(1, round(side * 0.0042)))
        x, y = pixels[-1]
        club = side * 0.0068
        draw.ellipse((x - club, y - club, x + club, y + club), fill=255)
    strength = np.asarray(mask)
    rows, columns = np.nonzero(strength)
    _lay_pixels(layer, rows, columns, 0.8 * to_rgb(individual.palette.dark)[:, None], strength[rows, columns] / np.float32(255))


# Half width of the body from the tip of the abdomen to the top of the head, as (place along the body, share of Species.body).
BODY_PLACES = (-0.56, -0.53, -0.42, -0.25, -0.12, -0.06, 0.03, 0.10, 0.125, 0.15, 0.19, 0.215)
BODY_WIDTHS = (0.0, 0.26, 0.50, 0.66, 0.56, 0.84, 1.0, 0.80, 0.50, 0.56, 0.46, 0.0)


def _draw_body(layer: Array, pose: Pose, individual: Species, rng: np.random.Generator) -> None:
    """Abdomen with rings, furred thorax and head, lit as a rounded thing."""
    rows, columns, x, y = _pixels_near_body(pose, 1.6 * individual.body, layer.shape[0])
    fur = rng.standard_normal(256).astype(np.float32)[((y - 0.8 * np.abs(x)) * 160).astype(int) % 256]
    on_thorax = np.exp(-(((y - 0.03) / 0.09) ** 2))
    width = np.interp(y, BODY_PLACES, BODY_WIDTHS).astype(np.float32) * individual.body * (1 + 0.14 * fur * (0.3 + on_thorax))
    across = np.abs(x) / np.maximum(width, 1e-4)
    rings = 0.16 * np.cos(2 * np.pi * y / 0.062) * (y < -0.08)
    shade = np.sqrt(np.clip(1 - across**2, 0, 1)) * 0.75 + 0.30 + rings + 0.10 * fur
    dark, ground = to_rgb(individual.palette.dark), to_rgb(individual.palette.ground)
    colour = ((dark * 0.75 + ground * 0.25)[:, None] + 0.10 * on_thorax) * shade
    _lay_pixels(layer, rows, columns, np.clip(colour, 0, 1), np.clip((1 - across) * 6, 0, 1))


def _pixels_near_body(pose: Pose, half_width: float, side: int) -> tuple[Pixels, Pixels, Array, Array]:
    """Rows and columns of the pixels around the body, and where they lie in the butterfly's frame."""
    corners = np.array([[-half_width, -half_width, half_width, half_width], [BODY_PLACES[0], BODY_PLACES[-1]] * 2])
    corners = pose.body @ corners + pose.centre[:, None]
    left, top = np.clip(corners.min(1).astype(int), 0, side)
    right, bottom = np.clip(corners.max(1).astype(int) + 1, 0, side)
    rows, columns = (axis.ravel() for axis in np.mgrid[top:bottom, left:right])
    x, y = np.linalg.inv(pose.body) @ (np.stack([columns, rows]).astype(np.float32) - pose.centre[:, None])
    near = np.abs(x) < half_width
    return rows[near], columns[near], x[near], y[near]


def _photograph(butterfly: Array, background: Array, rng: np.random.Generator) -> Image.Image:
    """Put the butterfly before the background with its shadow, light the scene, and take the picture."""
    size = background.shape[0]
    scene = background * (1 - _shadow(butterfly[..., 3], rng)[..., None])
    scene = scene * (1 - butterfly[..., 3:]) + butterfly[..., :3]
    scene *= _light(size, rng)
    scene = scene ** rng.uniform(0.85, 1.15)
    picture = _to_picture(scene).filter(ImageFilter.GaussianBlur(max(0.0, rng.normal(0.05, 0.3)) * size / 128))
    noise = rng.uniform(0.0, 0.02) * rng.standard_normal((size, size, 3)).astype(np.float32)
    return _to_picture(np.asarray(picture, np.float32) / 255 + noise)


def _shadow(alpha: Array, rng: np.random.Generator) -> Array:
    """[size, size] share of light that the butterfly keeps from what lies under it."""
    size = alpha.shape[0]
    blurred = Image.fromarray((alpha * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(size * rng.uniform(0.015, 0.04)))
    down, right = (rng.uniform(-0.05, 0.05, 2) * size).astype(int)
    return rng.uniform(0.15, 0.6) * np.roll(np.asarray(blurred, np.float32) / 255, (down, right), (0, 1))


def _light(size: int, rng: np.random.Generator) -> Array:
    """[size, size, 3] factor: exposure, white balance, light from one side, dappled shade, darker corners."""
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    angle, warmth = rng.uniform(0, 2 * np.pi), 0.04 * rng.standard_normal()
    slope = 1 + rng.uniform(0.0, 0.18) * (np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None])
    dapple = 1 + rng.uniform(0.0, 0.15) * smooth_noise(size, (4, 4), rng)
    corners = 1 - rng.uniform(0.0, 0.2) * (ramp[None, :] ** 2 + ramp[:, None] ** 2) / 2
    white = np.array([1 + warmth, 1 + 0.02 * rng.standard_normal(), 1 - warmth], np.float32)
    return np.asarray((rng.uniform(0.76, 1.2) * slope * dapple * corners)[..., None] * white, np.float32)


def _to_picture(rgb: Array) -> Image.Image:
    return Image.fromarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8))
