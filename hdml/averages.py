"""Running means of the losses, which set λ and the weight of the synthetic tuples; buffers, so that a resumed run has them.

They are computed where the losses are, so that no step waits for the device to say what they are.
"""

import math

import torch
from torch import Tensor, nn


class WindowMean(nn.Module):
    """Mean of the last ``size`` values; infinite while there are none, when training has just begun."""

    values: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.full((size,), math.inf, dtype=torch.float64))

    def add(self, value: float | Tensor) -> None:
        self.values.copy_(torch.cat([self.values[1:], _like(self.values, value)]))

    @property
    def mean(self) -> Tensor:
        """A float64 scalar."""
        known = self.values < math.inf
        total = torch.where(known, self.values, 0.0).sum()
        return torch.where(known.any(), total / known.sum(), math.inf)


class BlockMean(nn.Module):
    """Mean of the last whole block of ``size`` values, as the authors' code takes it; ``start`` while there is none."""

    total: Tensor
    count: Tensor
    last: Tensor

    def __init__(self, size: int = 64, *, start: float = 1e6) -> None:
        super().__init__()
        self.size = size
        for name, value in (("total", 0.0), ("count", 0.0), ("last", start)):
            self.register_buffer(name, torch.tensor([value], dtype=torch.float64))

    def add(self, value: float | Tensor) -> None:
        total, count = self.total + _like(self.total, value), self.count + 1
        whole = count == self.size
        self.last.copy_(torch.where(whole, total / self.size, self.last))
        self.total.copy_(torch.where(whole, 0.0, total))
        self.count.copy_(torch.where(whole, 0.0, count))

    @property
    def mean(self) -> Tensor:
        """A float64 scalar."""
        return self.last[0].clone()


def _like(values: Tensor, value: float | Tensor) -> Tensor:
    """[1], of the type and on the device of the values."""
    return torch.as_tensor(value, dtype=values.dtype, device=values.device).detach().reshape(1)
