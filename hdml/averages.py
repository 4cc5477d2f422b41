"""Running means of the losses, which set λ and the weight of the synthetic tuples; buffers, so that a resumed run has them.

They stay on the CPU: they are read at the start of every step, when a GPU should not be waited for.
"""

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class _OnCpu(nn.Module):
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        return self


class WindowMean(_OnCpu):
    """Mean of the last ``size`` values; infinite while there are none, when training has just begun."""

    values: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.full((size,), math.inf, dtype=torch.float64))

    def add(self, value: float) -> None:
        self.values.copy_(torch.cat([self.values[1:], self.values.new_tensor([value])]))

    @property
    def mean(self) -> float:
        known = [value for value in self.values.tolist() if value < math.inf]
        return math.fsum(known) / len(known) if known else math.inf


class BlockMean(_OnCpu):
    """Mean of the last whole block of ``size`` values, as the authors' code takes it; ``start`` while there is none."""

    values: Tensor
    last: Tensor

    def __init__(self, size: int = 64, *, start: float = 1e6) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("values", torch.zeros(2, dtype=torch.float64))  # sum and number of the block that is filling
        self.register_buffer("last", torch.tensor(start, dtype=torch.float64))

    def add(self, value: float) -> None:
        self.values += self.values.new_tensor([value, 1.0])
        if self.values[1] == self.size:
            self.last.copy_(self.values[0] / self.size)
            self.values.zero_()

    @property
    def mean(self) -> float:
        return self.last.item()
