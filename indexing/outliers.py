"""Outliers: photos that are far from their nearest, measured by how far photos of this gallery usually are.

The distance is the mean of those to the nearest photos that are no duplicates (F. Angiulli and C. Pizzuti, "Fast outlier
detection in high dimensional spaces", PKDD 2002, with the mean in place of the sum); what is usual are the gallery's median and
its median absolute deviation (B. Iglewicz and D. C. Hoaglin, "How to detect and handle outliers", 1993, where the limit is 3.5;
why it is 2.75 here is told in docs/audit.md).
"""

import numpy as np
from numpy.typing import NDArray

LIMIT = 2.75
_NEAREST = 10
_NORMAL = 1.4826  # standard deviations in a median absolute deviation of a normal distribution


def find_outliers(neighbours: NDArray[np.int64], scores: NDArray[np.float32]) -> list[tuple[int, float]]:
    """Positions of the outliers, with how far out each is in robust standard deviations, the farthest first.

    Args:
        neighbours, scores: [n, k] positions and similarities of each photo's nearest others, −1 where there is none.
    """
    known = neighbours >= 0
    known &= known.cumsum(1) <= _NEAREST
    asked = np.flatnonzero(known.sum(1) >= min(_NEAREST, neighbours.shape[1]))
    if len(asked) < 2 * _NEAREST:
        return []  # too few to say what is usual
    chords = np.sqrt(np.maximum(0, 2 - 2 * np.where(known, scores, 1)[asked]))
    distances = (chords * known[asked]).sum(1) / known[asked].sum(1)
    median = np.median(distances)
    deviation = _NORMAL * np.median(abs(distances - median))
    if deviation == 0:
        return []
    out = (distances - median) / deviation
    found = [(int(asked[at]), float(out[at])) for at in np.flatnonzero(out >= LIMIT)]
    return sorted(found, key=lambda one: (-one[1], one[0]))
