"""A query is moved by examples as an explicit loop over coordinates moves it."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from indexing.errors import HdmlError
from indexing.rocchio import Weights, rocchio


def units(count: int, *, seed: int, dimension: int = 6) -> list[NDArray[np.float32]]:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension))
    return list((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))


def by_loop(
    query: NDArray[np.float32] | None, more: list[NDArray[np.float32]], less: list[NDArray[np.float32]], weights: Weights
) -> list[float]:
    moved = []
    for place in range(6):
        value = 0.0 if query is None else weights.query * float(query[place])
        for vector in more:
            value += weights.more * float(vector[place]) / len(more)
        for vector in less:
            value -= weights.less * float(vector[place]) / len(less)
        moved.append(value)
    length = math.sqrt(sum(value * value for value in moved))
    return [value / length for value in moved]


@pytest.mark.parametrize("query", [True, False])
@pytest.mark.parametrize(("more", "less"), [(3, 2), (1, 0), (0, 4)])
@pytest.mark.parametrize("weights", [Weights(), Weights(0.2, 2, 1.5), Weights(0, 1, 1)])
def test_a_moved_query_is_that_of_a_loop(query: bool, more: int, less: int, weights: Weights) -> None:
    begun = units(1, seed=1)[0] if query else None
    wanted, unwanted = units(more, seed=2), units(less, seed=3)
    moved = rocchio(begun, wanted, unwanted, weights)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, by_loop(begun, wanted, unwanted, weights), atol=1e-6)


def test_the_default_weights_are_those_of_the_literature() -> None:
    (query,) = units(1, seed=1)
    more, less = units(2, seed=2), units(2, seed=3)
    np.testing.assert_allclose(rocchio(query, more, less), by_loop(query, more, less, Weights(1, 0.75, 0.15)), atol=1e-6)


def test_a_query_that_examples_cancel_is_said() -> None:
    (query,) = units(1, seed=1)
    for more, less, weights in (([], [query], Weights(less=1)), ([-query], [], Weights(more=1)), ([query], [], Weights(0, 0, 0))):
        with pytest.raises(HdmlError, match="they cancel out; take other examples"):
            rocchio(query, more, less, weights)


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf])
def test_a_weight_that_is_none_is_said(wrong: float) -> None:
    with pytest.raises(HdmlError, match=f"0 or more and finite, not {wrong}"):
        Weights(less=wrong)
