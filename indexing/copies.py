"""Whether two photos are one and the same picture: small pictures of them, hashes that propose pairs, and what confirms one.

A hash of 64 bits of the lowest frequencies proposes; the small pictures, in colour, confirm, since a hash by itself takes any two
pale things on white for copies (docs/decisions/leaks.md).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SIDE = 16  # pixels of the small picture that is compared
LEVELS = 1.5  # of 255, what writing anew moves a photo without contrast by
SHARE_OF_CONTRAST = 0.18
_FREQUENCIES = 8  # in each direction, of the hash
_MAX_DISTANCE = 10  # bits of 64
_CANDIDATES = 8  # that are looked at for each photo


def hashes(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[n, 8] bytes: which of the lowest frequencies of each picture [n, 16, 16, 3] are above their median."""
    grey = pictures.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    steps = np.arange(SIDE)
    waves = np.cos(np.pi * (steps[None] + 0.5) * steps[:_FREQUENCIES, None] / SIDE).astype(np.float32)
    spectrum = (waves @ grey @ waves.T).reshape(len(grey), -1)
    bits = spectrum > np.median(spectrum[:, 1:], axis=1, keepdims=True)  # the first is the mean brightness
    return np.packbits(bits, axis=1)


def close_hashes(asked: NDArray[np.uint8], searched: NDArray[np.uint8]) -> Iterator[NDArray[np.int64]]:
    """For each hash, the positions of the closest others that are close enough."""
    import faiss  # brute force over packed bits: 60,000 hashes against as many in seconds

    index = faiss.IndexBinaryFlat(8 * searched.shape[1])
    index.add(np.ascontiguousarray(searched))
    distances, positions = index.search(np.ascontiguousarray(asked), min(_CANDIDATES, len(searched)))
    for row, near in zip(positions, distances <= _MAX_DISTANCE, strict=True):
        yield row[near]


def difference(pictures: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[n] root of the mean squared difference between pictures [n, h, w, 3], or one [h, w, 3], and others, in levels of 255."""
    squares: NDArray[np.float32] = np.square(pictures.astype(np.float32) - others.astype(np.float32)).mean((-3, -2, -1))
    return np.sqrt(squares)


def tolerance(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[n] how far another picture may be from each of [n, h, w, 3], or from one, to be a copy of it, in levels of 255."""
    allowed: NDArray[np.float64] = LEVELS + SHARE_OF_CONTRAST * pictures.std((-3, -2)).mean(-1)
    return allowed
