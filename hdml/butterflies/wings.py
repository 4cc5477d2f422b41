"""One wing: its outline, and the colour of every point on it.

A wing lives in its own frame: the hinge at the origin, x outwards, y towards the head, lengths in forewing lengths. Every wing is
seen whole from its hinge, so the outline is a distance per angle, and a point on it is told by ``along`` (0 hinge, 1 outer
margin) and ``across`` (0 leading edge, 1 trailing edge), the terms in which wing patterns are laid out in nature.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdml.butterflies.anatomy import CELLS, Palette, Wing, to_rgb

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Outline:
    """Distance from the hinge to the edge, and to the outer margin without tails, at ascending ``angles`` (radians)."""

    angles: Array
    edge: Array
    margin: Array


def _bezier(*points: complex) -> NDArray[np.complex128]:
    """64 points of a cubic Bézier curve; a point of the plane is a complex number."""
    t = np.linspace(0.0, 1.0, 64)
    start, first, second, end = points
    curve: NDArray[np.complex128] = (1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * first + 3 * (1 - t) * t**2 * second + t**3 * end
    return curve


def outline(wing: Wing) -> Outline:
    """Three Bézier curves: leading edge, outer margin and trailing edge; then scallops between the veins, and the tail."""

    def polar(length: float, degrees: float) -> complex:
        return complex(length * np.exp(1j * np.radians(degrees)))

    apex, tornus = polar(wing.reach, wing.apex), polar(wing.tornus_reach, wing.tornus)
    turn, out = (wing.apex - wing.tornus) / 3, 1 + wing.bulge
    leading = _bezier(
        0, polar(0.35 * wing.reach, wing.apex + wing.costa), polar(0.85 * wing.reach, wing.apex + 0.55 * wing.costa), apex
    )
    outer = _bezier(
        apex,
        polar(out * (0.75 * wing.reach + 0.25 * wing.tornus_reach), wing.apex - 0.7 * turn),
        polar(out * (0.3 * wing.reach + 0.7 * wing.tornus_reach), wing.tornus + 0.9 * turn),
        tornus,
    )
    trailing = _bezier(
        tornus,
        polar(0.8 * wing.tornus_reach, wing.tornus - wing.inner),
        polar(0.3 * wing.tornus_reach, wing.tornus - 1.6 * wing.inner),
        0,
    )
    points = np.concatenate([leading[1:], outer[1:], trailing[1:-1]])
    order = np.argsort(np.angle(points))
    angles = np.linspace(np.angle(points).min(), np.angle(points).max(), 512)
    edge = np.interp(angles, np.angle(points)[order], np.abs(points)[order])
    edge[[0, -1]] = 0.0  # the wing ends at the hinge on both sides

    at_apex, at_tornus = np.radians(wing.apex), np.radians(wing.tornus)
    t = np.clip((at_apex - angles) / (at_apex - at_tornus), 0.0, 1.0)
    across = (angles[-1] - angles) / (angles[-1] - angles[0])
    ripple = 1 + wing.scallop * np.sqrt(np.sin(np.pi * t)) * (np.abs(np.sin(np.pi * CELLS * across)) - 0.6)
    margin = np.interp(np.clip(angles, at_tornus, at_apex), angles, edge) * ripple
    tail = wing.tail * np.exp(-(((t - 0.74) / 0.045) ** 4))
    return Outline(*(np.asarray(part, np.float32) for part in (angles, edge * ripple + tail, margin)))


@dataclass(frozen=True)
class Points:
    """Places on a wing, [points] each."""

    x: Array
    y: Array
    along: Array
    across: Array
    cell: NDArray[np.intp]
    in_cell: Array  # -0.5 at one vein, 0.5 at the next
    distance: Array  # from the hinge

    def spot_distance(self, outline: Outline, along: Array, across: Array) -> Array:
        """Distance of each point from the place (``along``, ``across``), which may differ from point to point."""
        angle = outline.angles[-1] - across * (outline.angles[-1] - outline.angles[0])
        radius = along * np.interp(angle, outline.angles, outline.margin).astype(np.float32)
        distance: Array = np.hypot(self.x - radius * np.cos(angle), self.y - radius * np.sin(angle))
        return distance


def locate(outline: Outline, x: Array, y: Array) -> tuple[NDArray[np.bool_], Points]:
    """Which of the points (x, y) lie on the wing, and the wing coordinates of those."""
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    inside = distance < np.interp(angle, outline.angles, outline.edge, left=0.0, right=0.0)
    x, y, distance, angle = x[inside], y[inside], distance[inside], angle[inside]
    along = distance / np.interp(angle, outline.angles, outline.margin).astype(np.float32)
    across = (outline.angles[-1] - angle) / (outline.angles[-1] - outline.angles[0])
    cell = np.clip((across * CELLS).astype(np.intp), 0, CELLS - 1)
    return inside, Points(x, y, along, across, cell, across * CELLS - cell - 0.5, distance)


def _step(value: Array, softness: float) -> Array:
    """0 below zero, 1 above, with a smooth edge ``softness`` wide."""
    t: Array = np.minimum(np.maximum(value * np.float32(1 / softness) + np.float32(0.5), 0), 1)  # np.clip costs twice as much
    return t * t * (3 - 2 * t)


class _Canvas:
    """The colour of each point, [3, points], while the marks are laid over one another."""

    def __init__(self, colour: Array) -> None:
        self.rgb = colour

    def lay(self, colour: Array, weight: Array) -> None:
        """Blend ``colour`` [3] over what is there; ``weight`` [points] in 0..1."""
        self.rgb += (colour[:, None] - self.rgb) * weight


def paint(wing: Wing, outline: Outline, points: Points, palette: Palette, rng: np.random.Generator) -> Array:
    """[3, points] float32 RGB in 0..1: ground first, then the marks from the base outwards, veins and scales last."""
    ground, rim, band, dark, accent, pale = (to_rgb(getattr(palette, name)) for name in Palette.__dataclass_fields__)
    along, in_cell = points.along, points.in_cell
    wobble = (0.012 * np.cos(2 * np.pi * in_cell) + 0.006 * rng.standard_normal(CELLS)[points.cell]).astype(np.float32)

    canvas = _Canvas(np.repeat(ground[:, None], along.size, 1))
    canvas.lay(rim, _step(along - 0.55, 0.8))
    canvas.lay(accent, wing.sheen * 0.45 * (0.5 + 0.5 * np.sin(5 * points.x + 3 * points.y)) * _step(along - 0.1, 0.4))
    canvas.lay(
        band, _capped(wing.rays) * _step(0.22 - np.abs(in_cell), 0.2) * _step(along - 0.12, 0.1) * _step(0.62 - along, 0.2)
    )
    canvas.lay(dark, _capped(wing.suffusion) * np.exp(-((along / 0.28) ** 2)) * 0.9)
    _lay_bars(canvas, wing, points, dark)
    _lay_band(canvas, wing, points, band, dark, wobble)
    _lay_patch(canvas, wing, points, dark)
    _lay_border(canvas, wing, outline, points, dark, pale, accent, wobble)
    _lay_row(canvas, wing, outline, points, (dark, pale, accent))
    _lay_eye(canvas, wing, outline, points, (dark, pale, accent))
    _lay_veins(canvas, wing, points, dark)
    canvas.lay(pale, _capped(wing.fringe) * _step(0.02 - np.abs(along - 0.99), 0.02) * _step(0.3 - np.abs(in_cell), 0.15))
    grain = 1 + 0.035 * rng.standard_normal(along.size).astype(np.float32) - 0.10 * np.exp(-((points.distance / 0.18) ** 2))
    painted: Array = np.clip(canvas.rgb * grain, 0.0, 1.0)
    return painted


def _capped(strength: float) -> float:
    """Varied strengths may pass 1, blending must not."""
    return min(strength, 1.0)


def _lay_bars(canvas: _Canvas, wing: Wing, points: Points, dark: Array) -> None:
    """Short bars across the cell near the leading edge."""
    if wing.bars:
        inside_cell = _step(points.across - 0.12, 0.06) * _step(0.46 - points.across, 0.06)
        stripes = _step(np.cos(2 * np.pi * (points.along - 0.06) / 0.155) - 0.35, 0.5)
        canvas.lay(
            dark, _capped(wing.bars) * inside_cell * stripes * _step(points.along - 0.14, 0.04) * _step(0.62 - points.along, 0.04)
        )


def _lay_band(canvas: _Canvas, wing: Wing, points: Points, band: Array, dark: Array, wobble: Array) -> None:
    """A band from leading to trailing edge, and the dark line along both its sides."""
    if wing.band_width:
        offset = np.abs(points.along - wing.band_at - wing.band_slope * (points.across - 0.5) + wobble)
        half = 0.5 * wing.band_width * (1.25 - 0.6 * points.across)
        canvas.lay(band, _step(half - offset, 0.02))
        canvas.lay(dark, _capped(wing.line) * _step(0.012 - np.abs(offset - half - 0.01), 0.02))


def _lay_patch(canvas: _Canvas, wing: Wing, points: Points, dark: Array) -> None:
    """The dark tip of a forewing, cut off obliquely."""
    if wing.patch:
        canvas.lay(
            dark,
            _step(points.along - 1 + wing.patch - 0.75 * points.across + 0.03 * np.cos(2 * np.pi * points.in_cell), 0.05)
            * _step(0.62 - points.across, 0.1),
        )


def _lay_border(
    canvas: _Canvas, wing: Wing, outline: Outline, points: Points, dark: Array, pale: Array, accent: Array, wobble: Array
) -> None:
    """The dark margin, a coloured crescent inside it and a pale dot on it in each cell."""
    if not wing.border:
        return
    inner = 1 - wing.border - 1.6 * wobble
    if wing.lunules:
        crescent = np.abs(points.along - inner + 0.035 - 0.10 * points.in_cell**2)
        canvas.lay(accent, _capped(wing.lunules) * _step(0.024 - crescent, 0.02) * _step(0.38 - np.abs(points.in_cell), 0.1))
    canvas.lay(dark, _step(points.along - inner, 0.03))
    if wing.border_dots:
        centre = (points.cell + np.float32(0.5)) / CELLS
        distance = points.spot_distance(outline, np.full_like(points.x, 1 - 0.5 * wing.border), centre)
        canvas.lay(pale, _step(0.03 * wing.border_dots**0.5 - distance, 0.012))


def _lay_row(canvas: _Canvas, wing: Wing, outline: Outline, points: Points, colours: tuple[Array, Array, Array]) -> None:
    """A row of spots parallel to the margin, one to a cell where the species has one."""
    if wing.row_size:
        sizes = wing.row_size * np.asarray(wing.row_cells, np.float32)[points.cell]
        centre = (points.cell + np.float32(0.5)) / CELLS
        distance = points.spot_distance(outline, np.full_like(points.x, wing.row_at), centre)
        _lay_spots(canvas, distance, sizes, wing.row_eyes, colours)


def _lay_eye(canvas: _Canvas, wing: Wing, outline: Outline, points: Points, colours: tuple[Array, Array, Array]) -> None:
    """One grand eyespot."""
    if wing.eye:
        place = np.full_like(points.x, wing.eye_at), np.full_like(points.x, wing.eye_across)
        _lay_spots(canvas, points.spot_distance(outline, *place), np.full_like(points.x, wing.eye), 1.0, colours)


def _lay_spots(canvas: _Canvas, distance: Array, sizes: Array, ringed: float, colours: tuple[Array, Array, Array]) -> None:
    """Dark discs of radius ``sizes``; ``ringed`` ones have a pale halo, a coloured iris and a bright pupil."""
    dark, pale, accent = colours
    present = np.minimum(sizes * 1e3, 1.0)
    if ringed:
        canvas.lay(pale * 0.5 + accent * 0.5, _capped(ringed) * present * _step(sizes * 1.35 - distance, 0.014))
    canvas.lay(dark, present * _step(sizes - distance, 0.014))
    if ringed:
        canvas.lay(accent, 0.8 * _capped(ringed) * present * _step(sizes * 0.62 - distance, 0.014) * _step(sizes - 0.07, 0.02))
        canvas.lay(pale, _capped(ringed) * present * _step(sizes * 0.3 - distance, 0.014))


def _lay_veins(canvas: _Canvas, wing: Wing, points: Points, dark: Array) -> None:
    """Veins fan out from the end of the discal cell to the margin, and two of them bound it."""
    to_vein = (0.5 - np.abs(points.in_cell)) / CELLS * points.distance * 1.6
    free = np.maximum(_step(points.along - 0.44, 0.03), _step(np.abs(points.across - 0.36) - 0.2, 0.02))
    closing = _step(0.008 - np.abs(points.along - 0.44 + 3 * (points.across - 0.36) ** 2), 0.012) * (
        1 - _step(np.abs(points.across - 0.36) - 0.2, 0.02)
    )
    canvas.lay(dark, _capped(0.9 * wing.veins) * np.maximum(_step(0.008 - to_vein, 0.012) * free, closing))
