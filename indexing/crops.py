"""Where one photo is a part of another: a window found by correlation, then fitted, then held to both photos' own colours.

A window keeps the shape of the crop: its sides, as shares of the whole photo's, are bound by the two photos' aspect ratios. First
a small grey picture of the crop slides over one of the whole, at every size (normalised cross-correlation through Fourier
transforms: J. P. Lewis, "Fast Normalized Cross-Correlation", Vision Interface 1995); then the best window is moved and stretched
by fractions of a pixel until the colours agree best.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import irfft2, rfft2

from indexing.copies import LEVELS, difference, tolerance
from indexing.preprocess import Window

PICTURE = 48  # pixels of a side of the picture that crops are looked for in, whatever the photo's shape
SMALLEST = 0.5  # share of the whole photo's width and height that a crop has at least
_COARSE = 32  # pixels of a side of the grey picture that windows slide over
_SCALES = tuple(float(share) for share in 0.95 ** np.arange(14))
_FITTED = 24  # pixels of a side at which colours are compared
PROMISING = 0.75  # correlation from which on a window is fitted
_SHADES = 0.07  # share of the contrast that mean colours may differ by: a window is easily moved until plain things agree
_STRETCH, _SHIFT = 0.08, 0.08  # how far a window may be fitted away from where it was found
_AT_A_TIME = 256

Pictures = NDArray[np.uint8]


def correlate(wholes: Pictures, parts: Pictures, shape: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The window of each whole that looks most like its part, in grey.

    Args:
        wholes, parts: [n, PICTURE, PICTURE, 3].
        shape: [n] aspect ratio (width over height) of the part over that of the whole.

    Returns:
        Correlation [n], −1 where the part's shape leaves no window; and windows [n, 4]: left, top, width, height as shares.
    """
    grey = np.array([0.299, 0.587, 0.114], np.float32)
    best: NDArray[np.float32] = np.full(len(wholes), -1, np.float32)
    windows = np.zeros((len(wholes), 4), np.float32)
    for start in range(0, len(wholes), _AT_A_TIME):
        rows = np.arange(start, min(start + _AT_A_TIME, len(wholes)))
        whole: NDArray[np.float32] = _resampled(wholes[rows] @ grey, _COARSE, _COARSE)
        whole -= whole.mean((1, 2), keepdims=True)
        part = parts[rows] @ grey
        spectra, sums = rfft2(whole), _integral(np.stack([whole, whole**2]).astype(np.float64))
        for scale in _SCALES:
            widths = np.round(_COARSE * scale * np.minimum(1, shape[rows])).astype(int)
            heights = np.round(_COARSE * scale * np.minimum(1, 1 / shape[rows])).astype(int)
            for width, height in {*zip(widths.tolist(), heights.tolist(), strict=True)}:
                if min(width, height) < SMALLEST * _COARSE:
                    continue
                chosen = (widths == width) & (heights == height)
                found, tops, lefts = _slide(spectra[chosen], sums[:, chosen], _resampled(part[chosen], height, width))
                at = rows[chosen]
                better = found > best[at]
                best[at[better]] = found[better]
                placed = np.stack([lefts, tops, np.full_like(lefts, width), np.full_like(tops, height)], axis=1) / _COARSE
                windows[at[better]] = placed[better]
    return best, windows


def _slide(
    spectra: NDArray[np.complex128], sums: NDArray[np.float64], parts: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Best correlation of parts [n, h, w] within wholes, with its top and left; wholes as spectra and as integrals [2, n, …]."""
    n, height, width = parts.shape
    centred = parts - parts.mean((1, 2), keepdims=True)
    products = irfft2(spectra * rfft2(centred, (_COARSE, _COARSE)).conj(), (_COARSE, _COARSE))
    down, right = _COARSE - height + 1, _COARSE - width + 1  # further on, windows would wrap around
    total, squares = (
        each[:, height : height + down, width : width + right]
        - each[:, :down, width : width + right]
        - each[:, height : height + down, :right]
        + each[:, :down, :right]
        for each in sums
    )
    noise = LEVELS**2 * height * width  # so that what has no contrast correlates with nothing
    spread = np.sqrt(np.maximum(squares - total**2 / (height * width), 0) + noise)
    lengths = np.sqrt((centred**2).sum((1, 2)) + noise)
    scores = (products[:, :down, :right] / (spread * lengths[:, None, None])).reshape(n, -1)
    places = scores.argmax(1)
    return scores[np.arange(n), places], places // right, places % right


def _integral(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(grey, [(0, 0)] * (grey.ndim - 2) + [(1, 0), (1, 0)])
    return np.asarray(padded.cumsum(-1).cumsum(-2), np.float64)


def _resampled(grey: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    side = grey.shape[-1]
    return np.asarray(_weights(side, height) @ grey @ _weights(side, width).T, np.float32)


@cache
def _weights(source: int, target: int) -> NDArray[np.float32]:
    """[target, source] of a bilinear resize, averaging when it shrinks."""
    scale = source / target
    reach = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - abs(np.arange(source)[None] - centres[:, None]) / reach)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def fit(whole: Pictures, part: Pictures, window: NDArray[np.float32]) -> tuple[float, Window]:
    """Move and stretch a window until it looks most like the part; how far they differ then, in shares of what a copy may.

    Args:
        whole, part: [PICTURE, PICTURE, 3].
        window: left, top, width and height as shares of the whole.
    """
    image = Image.fromarray(whole)
    target = np.asarray(Image.fromarray(part).resize((_FITTED, _FITTED), Image.Resampling.BILINEAR))
    place = np.array([window[0] + window[2] / 2, window[1] + window[3] / 2, 1.0])  # centre, and stretch of both sides
    found_at, sides = place[:2].copy(), np.asarray(window[2:], float)

    def box(at: NDArray[np.float64]) -> tuple[float, float, float, float]:
        low, high = at[:2] - at[2] * sides / 2, at[:2] + at[2] * sides / 2
        (left, top), (right, bottom) = np.clip([low, high], 0, 1).tolist()
        return left, top, right, bottom

    def look(at: NDArray[np.float64]) -> Pictures:
        left, top, right, bottom = box(at)
        corners = (PICTURE * left, PICTURE * top, PICTURE * right, PICTURE * bottom)
        return np.asarray(image.resize((_FITTED, _FITTED), Image.Resampling.BILINEAR, box=corners))

    def differ(at: NDArray[np.float64]) -> float:
        if abs(at[2] - 1) > _STRETCH or abs(at[:2] - found_at).max() > _SHIFT:
            return np.inf
        return float(difference(target, look(at)[None])[0])

    least = differ(place)
    for step in 0.5 ** np.arange(5):
        moved = True
        while moved:
            moved = False
            for axis, size in enumerate((0.5 / _COARSE, 0.5 / _COARSE, 0.025)):
                for sign in (-1, 1):
                    tried = place.copy()
                    tried[axis] += sign * size * step
                    if (found := differ(tried)) < least:
                        place, least, moved = tried, found, True
    shades = abs(target.mean((0, 1)) - look(place).mean((0, 1))).max()
    contrast = float(target.std((0, 1)).mean())
    return max(least / float(tolerance(target)), float(shades) / (LEVELS + _SHADES * contrast)), Window(*box(place))
