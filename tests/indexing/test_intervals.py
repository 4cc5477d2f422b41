"""Wilson's interval, against its definition: the shares that a test of 5 % would not refuse."""

import math

import pytest

from indexing.intervals import Z, wilson


@pytest.mark.parametrize(("share", "n"), [(0.5, 10), (0.03, 200), (0.9, 7), (0.25, 1000)])
def test_at_its_bounds_the_share_is_just_so_many_deviations_away(share: float, n: int) -> None:
    for bound in wilson(share, n):
        assert abs(share - bound) == pytest.approx(Z * math.sqrt(bound * (1 - bound) / n), rel=1e-9)


def test_no_hit_and_all_hits_leave_something_open() -> None:
    low, high = wilson(0.0, 30)
    assert low == 0.0
    assert high == pytest.approx(Z**2 / (30 + Z**2))
    assert wilson(1.0, 30) == (pytest.approx(1 - high), 1.0)
