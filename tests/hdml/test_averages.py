"""Running means: of a sliding window, and of the authors' blocks."""

import math

import pytest
import torch

from hdml.averages import BlockMean, WindowMean


def test_window_mean_forgets_what_left_the_window() -> None:
    window = WindowMean(3)
    assert window.mean.item() == math.inf
    for value in (100.0, 1.0, 2.0, 3.0):
        window.add(value)
    assert window.mean.item() == pytest.approx(2.0)


def test_block_mean_is_that_of_the_last_whole_block() -> None:
    """The authors' J_avg and J_gen stand at 1e6 for the first block, so that nothing is pulled in it (METHOD, habits)."""
    block = BlockMean(2)
    assert block.mean.item() == 1e6
    block.add(1.0)
    assert block.mean.item() == 1e6
    block.add(3.0)
    assert block.mean.item() == 2.0
    block.add(100.0)
    assert block.mean.item() == 2.0


@pytest.mark.parametrize("make", [lambda: WindowMean(3), lambda: BlockMean(3)])
def test_means_are_saved_and_restored(make) -> None:
    first, second = make(), make()
    for value in (1.0, 2.0, 3.0, 4.0):
        first.add(value)
    second.load_state_dict(first.state_dict())
    assert second.mean == first.mean
    for mean in (first, second):
        mean.add(5.0)
        mean.add(6.0)
    assert second.mean == first.mean
    assert all(torch.isfinite(value).all() for value in second.state_dict().values())
