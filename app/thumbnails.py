"""Small pictures of items, by id: drawn from their photos, or those that a bundle came with, and kept on disk."""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from indexing.device import available_cores
from indexing.errors import UnknownItem, UnreadableImage
from indexing.pictures import PICTURES, draw, has_pictures, kept_picture
from indexing.search import OpenIndex

logger = logging.getLogger(__name__)

KEPT = 1024**3  # bytes; a thumbnail of 320 px has about 20 kB
_AFTER_TRIMMING = 0.9  # of what may be kept, so that not every thumbnail needs room to be made
_USED_AGAIN = 3600.0  # seconds; a file's time of last use is written no more often
_DRAWN_AS = "1"  # changes when thumbnails are to be drawn otherwise
_DIGEST = 16  # bytes


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


class Thumbnails:
    """Thumbnails of all indexes, kept in a folder from one start to the next, those used last up to a number of bytes.

    Several processes may share the folder. A file begins with a digest of the rest: a damaged one is drawn anew. Where nothing
    can be written, every thumbnail is drawn when it is asked for.

    Attributes:
        hits, misses: thumbnails that were kept, and that had to be drawn.
    """

    def __init__(self, folder: Path, *, limit: int = KEPT) -> None:
        self._folder, self._limit = folder, limit
        self.hits = self.misses = 0
        # A large photo takes 600 MB while it is decoded.
        self._drawing = threading.Semaphore(available_cores())
        self._numbers = count()
        self._lock = threading.Lock()
        self._size: int | None = None  # bytes in the folder; unknown until they are first counted
        self._writable = limit > 0

    def thumbnail(self, opened: OpenIndex, item_id: int, size: int) -> Thumbnail:
        """The picture of an item, upright, at most ``size`` pixels long, never enlarged; raises UnknownItem."""
        path = known_path(opened, item_id)
        if has_pictures(opened.path):
            kept = kept_picture(opened.path, item_id)
            if kept is None:
                raise UnknownItem(
                    f"the bundle of {opened.name} has no picture of {path}, which could not be read when it was packed"
                )
            jpeg, tag = kept
            key = _key(opened.path / PICTURES, item_id, tag, size)
            return Thumbnail(self._kept(key, lambda: draw(jpeg, size)), f"{item_id}-{tag}-{size}")
        file = opened.gallery / path
        try:
            about = file.stat()
            key = _key(file, about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size, size)
            return Thumbnail(self._kept(key, lambda: draw(file, size)), f"{item_id}-{about.st_mtime_ns:x}-{size}")
        except (OSError, UnreadableImage) as error:
            raise UnknownItem(f'{path} can no longer be read; bring the index up to date with "hdml index"') from error

    def _kept(self, key: str, draw_anew: Callable[[], bytes]) -> bytes:
        place = self._folder / key[:2] / key
        found = self._read(place)
        if found is not None:
            self.hits += 1
            return found
        self.misses += 1
        with self._drawing:
            drawn = draw_anew()
        if self._writable:
            self._write(place, drawn)
        return drawn

    def _read(self, place: Path) -> bytes | None:
        try:
            with place.open("rb") as file:
                digest, jpeg = file.read(_DIGEST), file.read()
                changed = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        if _digest(jpeg) != digest:
            return None
        self._note_use(place, changed)
        return jpeg

    def _note_use(self, place: Path, last: float) -> None:
        """By the file's time of change: times of reading are often not kept."""
        if time.time() - last > _USED_AGAIN:
            try:
                os.utime(place)
            except OSError:
                logger.debug("the time of %s cannot be set", place)

    def _write(self, place: Path, jpeg: bytes) -> None:
        part = place.with_name(f"{place.name}.{os.getpid()}-{next(self._numbers)}.part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(_digest(jpeg) + jpeg)
            part.replace(place)
        except OSError as error:
            self._writable = False
            logger.warning("thumbnails are not kept, since %s cannot be written: %s", self._folder, error)
            return
        with self._lock:
            self._size = None if self._size is None else self._size + _DIGEST + len(jpeg)
            if self._size is None or self._size > self._limit:
                self._size = self._trimmed()

    def _trimmed(self) -> int:
        """Remove those used longest ago, and what killed processes left, until there is room; the bytes that are left."""
        files = []
        for place in self._folder.glob("??/*"):
            try:
                about = place.stat()
            except FileNotFoundError:  # another process makes room as well
                continue
            files.append((about.st_mtime, about.st_size, place))
        left = sum(size for _, size, _ in files)
        if left <= self._limit:
            return left
        for _, size, place in sorted(files):
            if left <= self._limit * _AFTER_TRIMMING:
                break
            place.unlink(missing_ok=True)
            left -= size
        return left


def _key(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, (_DRAWN_AS, *parts))).encode("utf-8", "surrogateescape")).hexdigest()


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()
