"""From a genus to its species, from a species to an individual: the same measures, moved by smaller and smaller steps."""

from dataclasses import fields, replace
from typing import Any

import numpy as np

from hdml.butterflies.anatomy import CELLS, Colour, Palette, Species, Wing
from hdml.butterflies.genera import GENERA

# One standard deviation between the species of a genus. Places and angles move by it; every other measure is scaled by exp(it).
PLACES = {
    "apex": 4.0, "tornus": 7.0, "bulge": 0.06, "band_at": 0.09, "band_slope": 0.18, "row_at": 0.07,
    "eye_at": 0.06, "eye_across": 0.12,
}  # fmt: skip
OUTLINE_SCALES = {"reach": 0.035, "tornus_reach": 0.07, "costa": 0.15, "inner": 0.2, "tail": 0.3, "scallop": 0.4}
MARK_SCALE = 0.7


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


def draw_species(count: int, seed: int) -> list[Species]:
    """``count`` species dealt to the genera in turn; the first n of a longer list are the list of n."""
    return [_one_species(GENERA[index % len(GENERA)], np.random.default_rng((seed, index))) for index in range(count)]


def _one_species(genus: Species, rng: np.random.Generator) -> Species:
    fore, hind = (_sport(replace(vary(wing, 1.0, rng), row_cells=_row_cells(rng)), rng) for wing in (genus.fore, genus.hind))
    return replace(genus, fore=fore, hind=hind, palette=vary_palette(genus.palette, (0.07, 0.18, 0.12), rng))


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
