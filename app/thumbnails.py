"""Small pictures of items, by id: drawn from their photos, or those that a bundle came with."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from indexing.errors import HdmlError, UnreadableImage
from indexing.pictures import draw, has_pictures, kept_picture
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
    if has_pictures(opened.path):
        kept = kept_picture(opened.path, item_id)
        if kept is None:
            raise UnknownItem(f"the bundle of {opened.name} has no picture of {path}, which could not be read when it was packed")
        jpeg, tag = kept
        return Thumbnail(_shrunk(jpeg, size), f"{item_id}-{tag}-{size}")
    try:
        file = opened.gallery / path
        changed = file.stat().st_mtime_ns
        return Thumbnail(_drawn(file, changed, size), f"{item_id}-{changed:x}-{size}")
    except (OSError, UnreadableImage) as error:
        raise UnknownItem(f'{path} can no longer be read; bring the index up to date with "hdml index"') from error


@lru_cache(maxsize=_KEPT)
def _drawn(file: Path, changed: int, size: int) -> bytes:
    # `changed` is part of the key, so that an edited photo is drawn anew.
    return draw(file, size)


@lru_cache(maxsize=_KEPT)
def _shrunk(jpeg: bytes, size: int) -> bytes:
    return draw(jpeg, size)
