"""How far a share may be off: Wilson's interval."""

import math

Z = 1.96  # standard deviations, of 95 %


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share that was found in n independent cases (E. B. Wilson, JASA 22, 1927), its bounds in 0..1."""
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)
