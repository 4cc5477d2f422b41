"""Agreement on the ten nearest, against an explicit loop."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hdml import agreement
from hdml.agreement import top_agreement


def unit_rows(count: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_loop(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    def nearest(vectors: NDArray[np.float32], query: int) -> set[int]:
        others = [index for index in range(len(vectors)) if index != query]
        return set(sorted(others, key=lambda index: -float(vectors[query] @ vectors[index]))[:10])

    depth = min(10, len(first) - 1)
    shares = [len(nearest(first, query) & nearest(second, query)) / depth for query in range(len(first))]
    return sum(shares) / len(shares)


@pytest.mark.parametrize("rows_at_once", [4, 512])
@pytest.mark.parametrize("count", [5, 11, 30])
def test_agreement_equals_an_explicit_loop(monkeypatch: pytest.MonkeyPatch, count: int, rows_at_once: int) -> None:
    monkeypatch.setattr(agreement, "_BLOCK", rows_at_once)
    first, second = unit_rows(count, 0), unit_rows(count, 1)
    assert top_agreement(first, second) == pytest.approx(by_loop(first, second))
    assert top_agreement(first, first) == 1
    assert (top_agreement(first, second) < 1) == (count > 11)


def test_one_photo_has_no_others_to_disagree_on() -> None:
    assert top_agreement(unit_rows(1, 0), unit_rows(1, 1)) == 1
