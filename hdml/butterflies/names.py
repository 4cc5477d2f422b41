"""Invented names for invented species."""

from collections.abc import Iterator

import numpy as np

GENUS = (
    "Aur Bel Cal Cyn Dor Eur Hel Iph Lyr Mel Myr Nep Oph Phil Ser Thal Vel Xan",
    "anessa antia ephone idora ilea inassa omene onyx osia yrene",
)
EPITHET = (
    "alb amoen argent cael cori crepus flor gracil hibern lum mont niv ros silv umbr vern",
    "acea alis anella ata ella ensis icola ifera ina osa",
)


def invent_names(count: int, seed: int) -> list[str]:
    """``count`` different Latin-sounding names in random order: a species' name says nothing about its genus's plan."""
    rng = np.random.default_rng((seed, 0x4E414D45))
    return [f"{genus}-{epithet}" for genus, epithet in zip(_words(GENUS, count, rng), _words(EPITHET, count, rng), strict=True)]


def _words(parts: tuple[str, str], count: int, rng: np.random.Generator) -> Iterator[str]:
    """``count`` different stem + ending words."""
    words = [stem + ending for stem in parts[0].split() for ending in parts[1].split()]
    return (words[index] for index in rng.permutation(len(words))[:count])
