"""The built-in image set: a drawn, fine-grained family of butterflies, written as ordinary labelled photos.

No network and no download: a seed draws the species, and each species' individuals differ in pose, light, background and wear.
docs/built-in-set.md says how, and what a net can and cannot tell apart on it.
"""

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from hdml.butterflies.anatomy import Species
from hdml.butterflies.names import invent_names
from hdml.butterflies.photo import draw_photo
from hdml.butterflies.species import draw_species
from indexing.errors import HdmlError

__all__ = ["SEED", "draw_photo", "draw_species", "write_butterflies"]

SEED = 1903
"""Chosen before the first picture was drawn, and never changed to improve a figure (docs/decisions/built-in-set.md)."""

log = logging.getLogger(__name__)


def write_butterflies(
    folder: Path, *, species: int = 64, images: int = 20, size: int = 128, seed: int = SEED, workers: int | None = None
) -> None:
    """Draw the set into ``folder``, one sub-folder per species; a folder that already holds it is left alone.

    The photos are drawn into a hidden folder beside it, renamed when the last one is there: a run that was killed leaves no
    half set behind, and the next one starts anew. The bytes depend on nothing but the arguments, whatever ``workers`` is.

    Args:
        folder: made by this call, or empty, or holding the same set already.
        species: sub-folders, 1..160 (the number of names that can be invented).
        images: photos of each species.
        size: width and height of a photo, in pixels.
        seed: draws the species, their names and every individual.
        workers: threads; as many as there are cores when None.

    Raises:
        HdmlError: ``folder`` holds something else.
    """
    names = invent_names(species, seed)
    paths = [[f"{name}/{number:03d}.jpg" for number in range(1, images + 1)] for name in names]
    if folder.exists() and any(folder.iterdir()):
        _check_holds(folder, {path for of_species in paths for path in of_species})
        log.info("%s already holds the built-in set", folder)
        return
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in names:
        (partial / name).mkdir(parents=True)

    def write(kind: int, number: int, drawn: Species) -> None:
        photo = draw_photo(drawn, size, np.random.default_rng((seed, kind, number)))
        (partial / paths[kind][number]).write_bytes(photo)

    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(write, kind, number, drawn)
            for kind, drawn in enumerate(draw_species(species, seed))
            for number in range(images)
        ]
        for job in jobs:
            job.result()
    if folder.exists():
        folder.rmdir()  # empty, as checked above; Windows renames onto no existing folder
    partial.rename(folder)


def _check_holds(folder: Path, expected: set[str]) -> None:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if found != expected:
        raise HdmlError(
            f"{folder} must be empty or hold the {len(expected)} photos of the built-in set, but holds {len(found)} files, "
            f"{len(found - expected)} of them others; choose another folder or delete this one."
        )
