"""What a butterfly is made of: the measures of its wings, its pigments, its body.

Angles are in degrees from the wing's outward axis towards the head, lengths in forewing lengths, all else is 0..1.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CELLS = 7
"""Cells between the veins along a wing's outer margin, counted from the leading edge."""

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Wing:
    """Measures of one wing; a strength of 0 means that the plan lacks that mark, and varying it keeps it absent."""

    # Outline: directions and distances of the two outer corners, and how the three edges between base and corners bend.
    apex: float
    reach: float
    tornus: float
    tornus_reach: float
    bulge: float  # of the outer margin, as a share of the distance from the base
    costa: float = 16.0  # how far the leading edge arches above the apex, degrees
    inner: float = 14.0  # the same for the trailing edge
    scallop: float = 0.0
    tail: float = 0.0
    # Marks, from the base outwards.
    suffusion: float = 0.35
    bars: float = 0.0
    rays: float = 0.0
    band_at: float = 0.55
    band_width: float = 0.0
    band_slope: float = 0.0
    band_broken: float = 0.0
    line: float = 0.0
    patch: float = 0.0  # size of the dark apex
    row_at: float = 0.78
    row_size: float = 0.0
    row_eyes: float = 0.0  # 0 plain spots, 1 ringed ones
    eye: float = 0.0
    eye_at: float = 0.66
    eye_across: float = 0.6
    border: float = 0.0
    border_dots: float = 0.0
    lunules: float = 0.0  # coloured crescents inside the border
    veins: float = 0.35
    fringe: float = 0.4
    sheen: float = 0.0
    row_cells: tuple[float, ...] = (1.0,) * CELLS  # size of each cell's spot, relative to row_size


@dataclass(frozen=True)
class Palette:
    """Hue, saturation and value of a butterfly's pigments, each 0..1."""

    ground: Colour
    rim: Colour  # the ground's colour near the margin
    band: Colour
    dark: Colour
    accent: Colour
    pale: Colour = (0.13, 0.12, 0.96)


@dataclass(frozen=True)
class Species:
    """Fore and hind wing, pigments and the thickness of the body in forewing lengths."""

    fore: Wing
    hind: Wing
    palette: Palette
    body: float = 0.075


def to_rgb(colour: Colour) -> NDArray[np.float32]:
    """[3] RGB in 0..1."""
    return np.array(colorsys.hsv_to_rgb(*colour), np.float32)
