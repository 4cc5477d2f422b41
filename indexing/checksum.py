"""Checksums that tell a damaged file from a whole one before a library opens it that might crash on it, or believe it."""

import zlib
from pathlib import Path

import numpy as np

_PIECE_BYTES = 1 << 20
_PIECES = 32  # of a large file, that are read where not all of it is; of one that has no more, all


def checksum(file: Path, about: bytes = b"", *, end: int | None = None, whole: bool) -> int:
    """CRC-32 of some bytes about a file, of its length, and of what is in it before ``end``.

    Args:
        end: in bytes; None for the end of the file.
        whole: whether all of that counts; else, where it is large, pieces of it, evenly spread, the first and the last included.
    """
    end = file.stat().st_size if end is None else end
    starts = list(range(0, end, _PIECE_BYTES))
    if not whole and len(starts) > _PIECES:
        starts = np.linspace(0, end - _PIECE_BYTES, _PIECES).astype(int).tolist()
    found = zlib.crc32(about + str(end).encode())
    with file.open("rb") as content:
        for start in starts:
            content.seek(start)
            found = zlib.crc32(content.read(min(_PIECE_BYTES, end - start)), found)
    return found
