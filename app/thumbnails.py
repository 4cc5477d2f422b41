"""Small pictures of gallery photos, by item id: decoded and encoded anew, so that no byte of an original leaves the gallery."""

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from indexing.errors import HdmlError, UnreadableImage
from indexing.preprocess import open_rgb
from indexing.search import OpenIndex

_KEPT = 1024  # thumbnails in memory; about 20 kB each at 320 px


class UnknownItem(HdmlError):
    """A request names an item that the index does not have, or whose file is gone."""


@dataclass(frozen=True)
class Thumbnail:
    """A JPEG file, and a tag that changes when the photo or the size does."""

    content: bytes
    tag: str


def known_path(opened: OpenIndex, item_id: int) -> str:
    """An item's path relative to the gallery; raises UnknownItem when there is no such item."""
    found = opened.catalogue.known([item_id])
    if item_id not in found:
        raise UnknownItem(f"the index {opened.name} has no item with id {item_id}")
    return found[item_id][0]


def thumbnail(opened: OpenIndex, item_id: int, size: int) -> Thumbnail:
    """The picture of an item, upright, at most ``size`` pixels long, never enlarged; raises UnknownItem."""
    path = known_path(opened, item_id)
    try:
        file = opened.gallery / path
        changed = file.stat().st_mtime_ns
        return Thumbnail(_drawn(file, changed, size), f"{item_id}-{changed:x}-{size}")
    except (OSError, UnreadableImage) as error:
        raise UnknownItem(f'{path} can no longer be read; bring the index up to date with "hdml index"') from error


@lru_cache(maxsize=_KEPT)
def _drawn(file: Path, changed: int, size: int) -> bytes:
    # `changed` is part of the key, so that an edited photo is drawn anew.
    image = open_rgb(file, shorter_side=size)
    image.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
    target = io.BytesIO()
    image.save(target, "JPEG", quality=88)
    return target.getvalue()
