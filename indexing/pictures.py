"""Small pictures of photos: decoded and encoded anew, so that no byte of an original leaves the gallery."""

import io
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from PIL import Image

from indexing.database import connect, in_words, transaction
from indexing.device import available_cores
from indexing.errors import UnreadableImage
from indexing.gallery import Failure
from indexing.preprocess import ImageSource, open_rgb, reason_of

PICTURES = "pictures.sqlite"  # in the folder of an index that has come without its photos
_QUALITY = 88
_AT_A_TIME = 64
_SCHEMA = "CREATE TABLE IF NOT EXISTS pictures (item INTEGER PRIMARY KEY, tag TEXT NOT NULL, jpeg BLOB NOT NULL)"


def draw(source: ImageSource, side: int) -> bytes:
    """A photo as a JPEG file, upright, at most ``side`` pixels long, never enlarged.

    Raises:
        UnreadableImage: it cannot be decoded.
        OSError: it cannot be read.
    """
    image = open_rgb(source, shorter_side=side)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    target = io.BytesIO()
    image.save(target, "JPEG", quality=_QUALITY)
    return target.getvalue()


def draw_all(
    photos: Iterable[tuple[int, Path]], database: Path, side: int, *, progress: Callable[[int], None] | None = None
) -> list[Failure]:
    """Draw photos, given by item and file, into a database; those that it has already and that are as they were are passed over.

    Args:
        progress: told how many are done.

    Returns:
        Those that cannot be drawn, with the reason.
    """
    failed, done = [], 0
    with in_words(database), closing(connect(database)) as connection, ThreadPoolExecutor(available_cores()) as pool:
        connection.execute(_SCHEMA)
        known = dict(connection.execute("SELECT item, tag FROM pictures"))
        photos = iter(photos)
        while some := list(islice(photos, _AT_A_TIME)):
            drawn = pool.map(lambda photo: (*photo, *_drawn(photo[1], side, known.get(photo[0]))), some)
            with transaction(connection, "IMMEDIATE"):
                for item, file, tag, jpeg, reason in drawn:
                    if reason is not None:
                        failed.append(Failure(str(file), reason))
                    elif jpeg is not None:
                        connection.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?)", (item, tag, jpeg))
            done += len(some)
            if progress is not None:
                progress(done)
    return failed


def _drawn(file: Path, side: int, known: str | None) -> tuple[str | None, bytes | None, str | None]:
    """Tag, picture and reason; the picture is None when it is known, or when there is a reason why there is none."""
    try:
        tag = f"{file.stat().st_mtime_ns:x}-{side}"
        return tag, None if tag == known else draw(file, side), None
    except OSError as error:
        return None, None, reason_of(error)
    except UnreadableImage as error:
        return None, None, str(error)


def has_pictures(index_dir: Path) -> bool:
    """Whether an index has come with pictures, in place of its photos."""
    return (index_dir / PICTURES).is_file()


def kept_picture(index_dir: Path, item: int) -> tuple[bytes, str] | None:
    """The picture of an item that an index has come with, and its tag; None when there is none of this item."""
    with _read(index_dir / PICTURES) as connection:
        found: tuple[bytes, str] | None = connection.execute("SELECT jpeg, tag FROM pictures WHERE item = ?", (item,)).fetchone()
    return found


@contextmanager
def _read(database: Path) -> Iterator[sqlite3.Connection]:
    with in_words(database), closing(connect(database)) as connection:
        yield connection
