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
    """A wing while its marks are laid over one another.

    Attributes:
        rgb: [3, points], the colours so far.
        band, dark, accent, pale: [3], the pigments of the marks.
    """

    def __init__(self, wing: Wing, outline: Outline, points: Points, palette: Palette) -> None:
        self.wing, self.outline, self.points = wing, outline, points
        self.band, self.dark, self.accent, self.pale = map(to_rgb, (palette.band, palette.dark, palette.accent, palette.pale))
        self.rgb = np.repeat(to_rgb(palette.ground)[:, None], points.along.size, 1)

    def lay(self, colour: Array, weight: Array) -> None:
        """Blend ``colour`` [3] over what is there; ``weight`` [points] in 0..1."""
        self.rgb += (colour[:, None] - self.rgb) * weight

    def distance_from(self, along: float, across: Array | float) -> Array:
        """[points] distance of each point from a place, which may lie elsewhere for each point."""
        shape = self.points.x
        return self.points.spot_distance(self.outline, np.full_like(shape, along), np.broadcast_to(across, shape.shape))

    def cell_centres(self) -> Array:
        """[points] how far across the middle of each point's own cell lies."""
        return (self.points.cell + np.float32(0.5)) / CELLS


def paint(wing: Wing, outline: Outline, points: Points, palette: Palette, rng: np.random.Generator) -> Array:
    """[3, points] float32 RGB in 0..1: ground first, then the marks from the base outwards, veins and scales last."""
    canvas = _Canvas(wing, outline, points, palette)
    ripple = 0.012 * np.cos(2 * np.pi * points.in_cell)
    wobble = (ripple + 0.006 * rng.standard_normal(CELLS)[points.cell]).astype(np.float32)
    canvas.lay(to_rgb(palette.rim), _step(points.along - 0.55, 0.8))
    _lay_base(canvas)
    _lay_bars(canvas)
    _lay_band(canvas, wobble)
    _lay_patch(canvas)
    _lay_border(canvas, wobble)
    _lay_row(canvas)
    _lay_eye(canvas)
    _lay_veins(canvas)
    _lay_fringe(canvas)
    scales = 1 + 0.035 * rng.standard_normal(points.along.size).astype(np.float32)
    painted: Array = np.clip(canvas.rgb * (scales - 0.10 * np.exp(-((points.distance / 0.18) ** 2))), 0.0, 1.0)
    return painted


def _capped(strength: float) -> float:
    """Varied strengths may pass 1, blending must not."""
    return min(strength, 1.0)


def _lay_base(canvas: _Canvas) -> None:
    """Structural colour over the whole wing, rays from the hinge, and the dusky fur around it."""
    wing, points, along = canvas.wing, canvas.points, canvas.points.along
    glint = 0.5 + 0.5 * np.sin(5 * points.x + 3 * points.y)
    canvas.lay(canvas.accent, wing.sheen * 0.45 * glint * _step(along - 0.1, 0.4))
    ray = _step(0.22 - np.abs(points.in_cell), 0.2) * _step(along - 0.12, 0.1) * _step(0.62 - along, 0.2)
    canvas.lay(canvas.band, _capped(wing.rays) * ray)
    canvas.lay(canvas.dark, _capped(wing.suffusion) * np.exp(-((along / 0.28) ** 2)) * 0.9)


def _lay_bars(canvas: _Canvas) -> None:
    """Short bars across the cell near the leading edge."""
    if canvas.wing.bars:
        along, across = canvas.points.along, canvas.points.across
        inside_cell = (
            _step(across - 0.12, 0.06) * _step(0.46 - across, 0.06) * _step(along - 0.14, 0.04) * _step(0.62 - along, 0.04)
        )
        stripes = _step(np.cos(2 * np.pi * (along - 0.06) / 0.155) - 0.35, 0.5)
        canvas.lay(canvas.dark, _capped(canvas.wing.bars) * inside_cell * stripes)


def _lay_band(canvas: _Canvas, wobble: Array) -> None:
    """A band from leading to trailing edge, and the dark line along both its sides."""
    wing, points = canvas.wing, canvas.points
    if wing.band_width:
        offset = np.abs(points.along - wing.band_at - wing.band_slope * (points.across - 0.5) + wobble)
        half = 0.5 * wing.band_width * (1.25 - 0.6 * points.across)
        canvas.lay(canvas.band, _step(half - offset, 0.02))
        canvas.lay(canvas.dark, _capped(wing.line) * _step(0.012 - np.abs(offset - half - 0.01), 0.02))


def _lay_patch(canvas: _Canvas) -> None:
    """The dark tip of a forewing, cut off obliquely."""
    wing, points = canvas.wing, canvas.points
    if wing.patch:
        beyond = points.along - 1 + wing.patch - 0.75 * points.across + 0.03 * np.cos(2 * np.pi * points.in_cell)
        canvas.lay(canvas.dark, _step(beyond, 0.05) * _step(0.62 - points.across, 0.1))


def _lay_border(canvas: _Canvas, wobble: Array) -> None:
    """The dark margin, a coloured crescent inside it and a pale dot on it in each cell."""
    wing, points = canvas.wing, canvas.points
    if not wing.border:
        return
    inner = 1 - wing.border - 1.6 * wobble
    if wing.lunules:
        crescent = np.abs(points.along - inner + 0.035 - 0.10 * points.in_cell**2)
        canvas.lay(
            canvas.accent, _capped(wing.lunules) * _step(0.024 - crescent, 0.02) * _step(0.38 - np.abs(points.in_cell), 0.1)
        )
    canvas.lay(canvas.dark, _step(points.along - inner, 0.03))
    if wing.border_dots:
        distance = canvas.distance_from(1 - 0.5 * wing.border, canvas.cell_centres())
        canvas.lay(canvas.pale, _step(0.03 * wing.border_dots**0.5 - distance, 0.012))


def _lay_row(canvas: _Canvas) -> None:
    """A row of spots parallel to the margin, one to a cell where the species has one."""
    wing = canvas.wing
    if wing.row_size:
        sizes = wing.row_size * np.asarray(wing.row_cells, np.float32)[canvas.points.cell]
        _lay_spots(canvas, canvas.distance_from(wing.row_at, canvas.cell_centres()), sizes, wing.row_eyes)


def _lay_eye(canvas: _Canvas) -> None:
    """One grand eyespot."""
    wing = canvas.wing
    if wing.eye:
        _lay_spots(canvas, canvas.distance_from(wing.eye_at, wing.eye_across), np.full_like(canvas.points.x, wing.eye), 1.0)


def _lay_spots(canvas: _Canvas, distance: Array, sizes: Array, ringed: float) -> None:
    """Dark discs of radius ``sizes``; ``ringed`` ones have a pale halo, a coloured iris and a bright pupil."""
    present = np.minimum(sizes * 1e3, 1.0)
    rings = _capped(ringed) * present
    if ringed:
        canvas.lay(canvas.pale * 0.5 + canvas.accent * 0.5, rings * _step(sizes * 1.35 - distance, 0.014))
    canvas.lay(canvas.dark, present * _step(sizes - distance, 0.014))
    if ringed:
        large = _step(sizes - 0.07, 0.02)  # small eyespots have no room for an iris
        canvas.lay(canvas.accent, 0.8 * rings * large * _step(sizes * 0.62 - distance, 0.014))
        canvas.lay(canvas.pale, rings * _step(sizes * 0.3 - distance, 0.014))


def _lay_veins(canvas: _Canvas) -> None:
    """Veins fan out to the margin, those in the middle from the rounded end of a cell that has none."""
    points = canvas.points
    to_vein = (0.5 - np.abs(points.in_cell)) / CELLS * points.distance * 1.6
    beside_cell = _step(np.abs(points.across - 0.36) - 0.2, 0.02)
    free = np.maximum(_step(points.along - 0.44, 0.03), beside_cell)
    cell_end = points.along - 0.44 + 3 * (points.across - 0.36) ** 2
    closing = _step(0.008 - np.abs(cell_end), 0.012) * (1 - beside_cell)
    canvas.lay(canvas.dark, _capped(0.9 * canvas.wing.veins) * np.maximum(_step(0.008 - to_vein, 0.012) * free, closing))


def _lay_fringe(canvas: _Canvas) -> None:
    """A pale fringe, broken where the veins end."""
    edge = _step(0.02 - np.abs(canvas.points.along - 0.99), 0.02)
    canvas.lay(canvas.pale, _capped(canvas.wing.fringe) * edge * _step(0.3 - np.abs(canvas.points.in_cell), 0.15))
