"""Training's own view of the photos: decoded once, and another crop of each in every batch."""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hdml.data import Photo
from indexing.device import available_cores
from indexing.errors import HdmlError, UnreadableImage
from indexing.memory import available_memory
from indexing.preprocess import IMAGENET_MEAN, IMAGENET_STD, open_rgb

_CACHE_SHARE_OF_MEMORY = 0.25
_ASSUMED_MEMORY = 4e9  # bytes, where the system does not tell
# Cached photos are this much larger than the crop, so that most random crops shrink them instead of enlarging them.
_CACHE_SCALE = 1.3
_CROP_AREA = (0.35, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)
_TURN = 20.0  # degrees, to either side
_AUTHORS_SCALE = 256 / 227  # of the photo's sides to the crop's


class TrainingPhotos:
    """Photos decoded once at training resolution and kept while a quarter of the free memory lasts, the rest decoded each time.

    Args:
        root: the folder.
        crop: side of the network's square input in pixels.
        as_authors: crops as in the paper's section 4.2, a fixed part of the whole photo made square; else ours, of random area
            and from a turned photo.
        sharers: processes that each keep photos in the same memory.
    """

    def __init__(self, root: Path, crop: int, *, as_authors: bool = False, sharers: int = 1) -> None:
        self._root = root
        self._as_authors = as_authors
        self._crop = crop
        self._shorter_side = round(_CACHE_SCALE * crop)
        self._cache: dict[Photo, NDArray[np.uint8]] = {}
        self._free = _CACHE_SHARE_OF_MEMORY * (available_memory() or _ASSUMED_MEMORY) / sharers

    def read(
        self,
        photos: Sequence[Photo],
        *,
        keep: Collection[Photo],
        on_read: Callable[[], None],
        look: Callable[[Photo, NDArray[np.uint8]], None] | None = None,
    ) -> dict[Photo, str]:
        """Decode every photo once and keep those to be learned from; returns those that cannot be read, with the reason.

        Args:
            photos: all to be decoded.
            keep: those to be kept.
            on_read: told of each, in order, whether it could be read or not.
            look: shown each that could be read, in whatever thread decoded it.
        """

        def decode(photo: Photo) -> NDArray[np.uint8] | str:
            try:
                pixels = self._decode(photo)
            except UnreadableImage as error:
                return str(error)
            if look is not None:
                look(photo, pixels)
            return pixels

        failures = {}
        with ThreadPoolExecutor(available_cores()) as pool:
            for photo, result in zip(photos, pool.map(decode, photos), strict=True):
                if isinstance(result, str):
                    failures[photo] = result
                elif photo in keep and result.nbytes < self._free:
                    self._cache[photo] = result
                    self._free -= result.nbytes
                on_read()
        return failures

    def batch(self, photos: Sequence[Photo], seed: tuple[int, ...], *, first_row: int = 0) -> Tensor:
        """Augmented, normalised images [len(photos), 3, crop, crop], channels last, a function of the photos and the seed alone.

        Args:
            first_row: where these photos begin in their batch; a row's random numbers are those of its place in the whole one.
        """
        rows = enumerate(photos, first_row)
        images = np.stack([self._augmented(photo, np.random.default_rng((*seed, row))) for row, photo in rows])
        scale = np.float32(255) * np.asarray(IMAGENET_STD, np.float32)
        shift = np.asarray(IMAGENET_MEAN, np.float32) / np.asarray(IMAGENET_STD, np.float32)
        return torch.from_numpy(images / scale - shift).permute(0, 3, 1, 2)

    def _decode(self, photo: Photo) -> NDArray[np.uint8]:
        image = open_rgb(self._root / photo.path, shorter_side=self._shorter_side, box=photo.box)
        scale = self._shorter_side / min(image.size)
        if scale < 1:
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        return np.asarray(image)

    def _decode_again(self, photo: Photo) -> NDArray[np.uint8]:
        try:
            return self._decode(photo)
        except UnreadableImage as error:
            raise HdmlError(
                f"{self._root / photo.path} could be read when the run began, but now {error}; put it back."
            ) from error

    def _augmented(self, photo: Photo, random: np.random.Generator) -> NDArray[np.uint8]:
        """A random crop and a coin's flip; what turns into view from beyond the photo's edge has the photo's mean colour."""
        pixels = self._cache.get(photo)
        pixels = self._decode_again(photo) if pixels is None else pixels
        if self._as_authors:
            return _authors_crop(Image.fromarray(pixels), self._crop, random)
        mean = tuple(round(value) for value in pixels.mean((0, 1)))
        turned = Image.fromarray(pixels).rotate(random.uniform(-_TURN, _TURN), Image.Resampling.BILINEAR, fillcolor=mean)
        box = _random_box(turned.width, turned.height, random)
        crop = turned.resize((self._crop, self._crop), Image.Resampling.BILINEAR, box=box)
        return np.asarray(crop)[:, :: -1 if random.random() < 0.5 else 1]


def _authors_crop(image: Image.Image, crop: int, random: np.random.Generator) -> NDArray[np.uint8]:
    side = round(_AUTHORS_SCALE * crop)
    square = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
    left, top = random.integers(0, side - crop, size=2, endpoint=True)
    return square[top : top + crop, left : left + crop][:, :: -1 if random.random() < 0.5 else 1]


def _random_box(width: int, height: int, random: np.random.Generator) -> tuple[float, float, float, float]:
    area = random.uniform(*_CROP_AREA) * width * height
    aspect = float(np.exp(random.uniform(*np.log(_CROP_ASPECT))))
    box_width, box_height = min(width, (area * aspect) ** 0.5), min(height, (area / aspect) ** 0.5)
    left, top = random.uniform(0, width - box_width), random.uniform(0, height - box_height)
    return left, top, left + box_width, top + box_height
