"""The invented family: eight genera that share a plan, and the species drawn from each plan.

A species is its genus with every measure moved a little; an individual (``vary`` again, with a smaller step) is its species moved
less. Angles are in degrees from the wing's outward axis towards the head; lengths in forewing lengths; all else is 0..1.
"""

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

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


GENERA: tuple[Species, ...] = (
    # Fritillaries: tawny, rows of black spots, bars in the cell.
    Species(
        Wing(
            38, 1.0, -12, 0.68, 0.05, bars=0.9, row_size=0.034, row_at=0.74, border=0.05, border_dots=0.5, lunules=0.4, veins=0.5
        ),
        Wing(4, 0.70, -66, 0.72, 0.22, scallop=0.03, row_size=0.036, row_at=0.70, border=0.06, border_dots=0.5, veins=0.4),
        Palette((0.075, 0.85, 0.88), (0.095, 0.75, 0.92), (0.11, 0.55, 0.95), (0.05, 0.55, 0.16), (0.10, 0.5, 0.9)),
    ),
    # Peacocks: one grand eye on each wing, angled and scalloped margins.
    Species(
        Wing(
            42,
            1.0,
            -8,
            0.68,
            -0.06,
            scallop=0.04,
            eye=0.13,
            eye_at=0.68,
            eye_across=0.34,
            bars=0.5,
            border=0.07,
            band_width=0.05,
            band_at=0.46,
        ),
        Wing(6, 0.73, -62, 0.72, 0.16, scallop=0.05, eye=0.13, eye_at=0.62, eye_across=0.48, border=0.07, suffusion=0.6),
        Palette((0.02, 0.75, 0.66), (0.05, 0.70, 0.72), (0.12, 0.50, 0.92), (0.05, 0.45, 0.14), (0.60, 0.60, 0.85)),
    ),
    # Swallowtails: pale yellow and black, tailed, blue and red at the tornus.
    Species(
        Wing(40, 1.05, -10, 0.66, -0.02, bars=0.9, veins=0.9, border=0.14, border_dots=0.8, patch=0.2, suffusion=0.6),
        Wing(
            6,
            0.68,
            -68,
            0.76,
            0.14,
            scallop=0.05,
            tail=0.24,
            veins=0.7,
            border=0.18,
            border_dots=0.7,
            lunules=0.9,
            eye=0.06,
            eye_at=0.82,
            eye_across=0.86,
        ),
        Palette((0.135, 0.55, 0.95), (0.13, 0.62, 0.94), (0.12, 0.7, 0.9), (0.65, 0.25, 0.12), (0.60, 0.65, 0.80)),
    ),
    # Morphos: shining blue, dark margins with pale dots.
    Species(
        Wing(
            40,
            1.05,
            -10,
            0.68,
            0.02,
            sheen=0.9,
            border=0.14,
            border_dots=0.55,
            patch=0.2,
            row_size=0.018,
            row_at=0.80,
            band_width=0.07,
            band_at=0.62,
        ),
        Wing(4, 0.75, -66, 0.78, 0.22, scallop=0.03, sheen=0.9, border=0.13, border_dots=0.55, veins=0.3),
        Palette((0.58, 0.85, 0.80), (0.62, 0.88, 0.72), (0.53, 0.50, 0.95), (0.65, 0.5, 0.12), (0.52, 0.45, 0.98)),
    ),
    # Whites and orange tips: cream, dark veins, a coloured or dark apex.
    Species(
        Wing(40, 1.0, -14, 0.70, 0.06, patch=0.42, row_size=0.04, row_at=0.62, veins=0.3, border=0.02, suffusion=0.5),
        Wing(4, 0.73, -66, 0.75, 0.24, row_size=0.022, row_at=0.74, border=0.04, veins=0.4, suffusion=0.4, lunules=0.3),
        Palette((0.14, 0.14, 0.97), (0.13, 0.22, 0.96), (0.09, 0.75, 0.96), (0.08, 0.3, 0.18), (0.09, 0.80, 0.95)),
        body=0.065,
    ),
    # Blues: small and rounded, violet to sky, orange crescents.
    Species(
        Wing(
            40, 0.92, -16, 0.70, 0.10, border=0.07, sheen=0.5, fringe=0.9, row_size=0.018, row_at=0.72, row_eyes=0.4, lunules=0.3
        ),
        Wing(
            4,
            0.70,
            -64,
            0.72,
            0.24,
            border=0.06,
            border_dots=0.5,
            lunules=0.8,
            sheen=0.5,
            fringe=0.9,
            row_size=0.02,
            row_at=0.68,
            row_eyes=0.4,
        ),
        Palette((0.65, 0.55, 0.82), (0.68, 0.60, 0.66), (0.60, 0.35, 0.9), (0.07, 0.4, 0.18), (0.07, 0.85, 0.95)),
        body=0.085,
    ),
    # Satyrs: brown, a pale band, ringed spots along it.
    Species(
        Wing(
            38,
            0.98,
            -14,
            0.72,
            0.08,
            band_width=0.10,
            band_at=0.74,
            row_size=0.045,
            row_at=0.74,
            row_eyes=1.0,
            line=0.5,
            fringe=0.5,
        ),
        Wing(
            4,
            0.72,
            -66,
            0.76,
            0.24,
            scallop=0.04,
            band_width=0.09,
            band_at=0.72,
            row_size=0.042,
            row_at=0.72,
            row_eyes=1.0,
            line=0.5,
            fringe=0.5,
        ),
        Palette((0.06, 0.60, 0.42), (0.07, 0.55, 0.50), (0.09, 0.62, 0.84), (0.05, 0.5, 0.13), (0.10, 0.55, 0.92)),
    ),
    # Longwings: narrow and dark, bold bands and rays.
    Species(
        Wing(
            30,
            1.12,
            -4,
            0.54,
            0.05,
            costa=13,
            band_width=0.13,
            band_at=0.62,
            band_slope=-0.15,
            rays=0.25,
            veins=0.2,
            border_dots=0.4,
            border=0.06,
        ),
        Wing(2, 0.68, -56, 0.60, 0.20, rays=0.8, band_width=0.06, band_at=0.45, border=0.10, border_dots=0.7, veins=0.2),
        Palette((0.03, 0.45, 0.17), (0.03, 0.5, 0.12), (0.01, 0.85, 0.86), (0.03, 0.4, 0.08), (0.12, 0.75, 0.95)),
        body=0.06,
    ),
)

# One standard deviation between the species of a genus. Places and angles move by it; every other measure is scaled by exp(it).
PLACES = {
    "apex": 4.0, "tornus": 7.0, "bulge": 0.06, "band_at": 0.09, "band_slope": 0.18, "row_at": 0.07,
    "eye_at": 0.06, "eye_across": 0.12,
}  # fmt: skip
OUTLINE_SCALES = {"reach": 0.035, "tornus_reach": 0.07, "costa": 0.15, "inner": 0.2, "tail": 0.3, "scallop": 0.4}
MARK_SCALE = 0.6


def vary(wing: Wing, step: float, rng: np.random.Generator) -> Wing:
    """Move every measure of ``wing`` by ``step`` of the spread between species; the pattern of ``row_cells`` stays."""
    moved = {}
    for field in fields(wing):
        if field.name == "row_cells":
            continue
        value, noise = getattr(wing, field.name), step * rng.standard_normal()
        if field.name in PLACES:
            moved[field.name] = value + PLACES[field.name] * noise
        else:
            moved[field.name] = value * np.exp(OUTLINE_SCALES.get(field.name, MARK_SCALE) * noise)
    return replace(wing, **moved)


def shift_colour(colour: Colour, amounts: Colour, rng: np.random.Generator) -> Colour:
    """Move hue (around the circle), saturation and value by normal steps of the given sizes."""
    hue, saturation, value = np.asarray(colour) + np.asarray(amounts) * rng.standard_normal(3)
    return float(hue % 1.0), float(np.clip(saturation, 0.0, 1.0)), float(np.clip(value, 0.05, 1.0))


def vary_palette(palette: Palette, amounts: Colour, rng: np.random.Generator) -> Palette:
    """Shift each pigment on its own."""
    return Palette(*(shift_colour(getattr(palette, field.name), amounts, rng) for field in fields(palette)))


def to_rgb(colour: Colour) -> np.ndarray:
    """[3] float32 in 0..1."""
    return np.array(colorsys.hsv_to_rgb(*colour), np.float32)


def draw_species(count: int, seed: int) -> list[Species]:
    """``count`` species dealt to the genera in turn; the first n of a longer list are the list of n."""
    return [_one_species(GENERA[index % len(GENERA)], np.random.default_rng((seed, index))) for index in range(count)]


def _one_species(genus: Species, rng: np.random.Generator) -> Species:
    fore, hind = (_sport(replace(vary(wing, 1.0, rng), row_cells=_row_cells(rng)), rng) for wing in (genus.fore, genus.hind))
    return replace(genus, fore=fore, hind=hind, palette=vary_palette(genus.palette, (0.035, 0.12, 0.08), rng))


# A species may lack a mark of its genus, or show one that its genus does not have, at about this size.
SPORTS = {
    "bars": 0.8,
    "rays": 0.6,
    "band_width": 0.09,
    "row_size": 0.032,
    "border": 0.09,
    "border_dots": 0.6,
    "lunules": 0.7,
    "line": 0.6,
}


def _sport(wing: Wing, rng: np.random.Generator) -> Wing:
    """Lose about one mark in five, gain about one of the others in six."""
    changed: dict[str, Any] = {}
    for name, size in SPORTS.items():
        chance = rng.random()
        if getattr(wing, name) and chance < 0.2:
            changed[name] = 0.0
        elif not getattr(wing, name) and chance < 0.17:
            changed[name] = size * rng.uniform(0.7, 1.4)
    return replace(wing, **changed)


def _row_cells(rng: np.random.Generator) -> tuple[float, ...]:
    """Which cells carry a spot, and its relative size: the mark that a field guide would count."""
    present = rng.random(CELLS) < 0.62
    return tuple(float(size) for size in present * rng.uniform(0.6, 1.35, CELLS))


def invent_names(count: int, seed: int) -> list[str]:
    """``count`` different Latin-sounding names in random order: a species' name says nothing about its genus's plan."""
    rng = np.random.default_rng((seed, 0x4E414D45))
    return [f"{genus}-{epithet}" for genus, epithet in zip(_words(GENUS, count, rng), _words(EPITHET, count, rng), strict=True)]


GENUS = (
    (
        "Aur",
        "Bel",
        "Cal",
        "Cyn",
        "Dor",
        "Eur",
        "Hel",
        "Iph",
        "Lyr",
        "Mel",
        "Myr",
        "Nep",
        "Oph",
        "Phil",
        "Ser",
        "Thal",
        "Vel",
        "Xan",
    ),
    ("anessa", "antia", "ephone", "idora", "ilea", "inassa", "omene", "onyx", "osia", "yrene"),
)
EPITHET = (
    (
        "alb",
        "amoen",
        "argent",
        "cael",
        "cori",
        "crepus",
        "flor",
        "gracil",
        "hibern",
        "lum",
        "mont",
        "niv",
        "ros",
        "silv",
        "umbr",
        "vern",
    ),
    ("acea", "alis", "anella", "ata", "ella", "ensis", "icola", "ifera", "ina", "osa"),
)


def _words(parts: tuple[tuple[str, ...], tuple[str, ...]], count: int, rng: np.random.Generator) -> Iterator[str]:
    """``count`` different stem + ending words."""
    words = [stem + ending for stem in parts[0] for ending in parts[1]]
    return (words[index] for index in rng.permutation(len(words))[:count])
