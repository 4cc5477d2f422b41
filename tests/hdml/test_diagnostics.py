"""What a step is logged with, against loops and by construction."""

import numpy as np
import pytest
import torch

from hdml.diagnostics import spread_of, tuple_figures
from hdml.synthesis import SyntheticTuples

N, M, D = 3, 2, 4


def test_tuple_figures_equal_loop() -> None:
    torch.manual_seed(0)
    real = (torch.randn(N, D), torch.randn(N, D), torch.randn(N, M, D))
    pulled, anchors, positives, negatives = torch.randn(N, M, D), torch.randn(N, D), torch.randn(N, D), torch.randn(N, M, D)
    labels, logits = torch.tensor([[1, 2], [0, 2], [0, 1]]), torch.randn(N * M, 5)
    found = tuple_figures(real, SyntheticTuples(pulled, pulled, anchors, positives, negatives), labels, logits, direction=False)

    def distances(a: torch.Tensor, others: torch.Tensor) -> list[float]:
        return [(a[i] - others[i, j]).norm().item() for i in range(N) for j in range(others.shape[1])]

    d_ap = np.mean(distances(real[0], real[1][:, None]))
    assert found["real_distance"] == pytest.approx(np.mean(distances(real[0], real[2])) / d_ap, rel=1e-5)
    assert found["pulled_distance"] == pytest.approx(np.mean(distances(real[0], pulled)) / d_ap, rel=1e-5)
    again_ap = distances(anchors, positives[:, None])
    assert found["synthetic_distance"] == pytest.approx(np.mean(distances(anchors, negatives)) / np.mean(again_ap), rel=1e-5)
    kept = [logits[M * i + j].argmax() == labels[i, j] for i in range(N) for j in range(M)]
    assert found["label_preservation"] == pytest.approx(np.mean(kept))
    nearer = [d < again_ap[row // M] for row, d in enumerate(distances(anchors, negatives))]
    assert found["violations"] == pytest.approx(np.mean(nearer))


def test_effective_rank_counts_equal_directions() -> None:
    spread = spread_of(torch.eye(6)[:4] * torch.tensor([[1.0], [5.0], [0.1], [2.0]]))
    assert spread.effective_rank == pytest.approx(4.0)
    assert spread.similarity == pytest.approx(0.0, abs=1e-6)
    assert not spread.collapsing


def test_similarity_is_the_mean_over_pairs_of_different_photos() -> None:
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    pairs = [torch.cosine_similarity(rows[i], rows[j], dim=0).item() for i in range(5) for j in range(5) if i != j]
    assert spread_of(rows).similarity == pytest.approx(np.mean(pairs), abs=1e-6)


@pytest.mark.parametrize(
    "rows",
    [torch.ones(6, 4), torch.ones(6, 4) + 0.1 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(6, 4)],
    ids=["same", "nearly the same", "zero"],
)
def test_collapse_is_told(rows: torch.Tensor) -> None:
    assert spread_of(rows).collapsing


def test_embeddings_on_one_line_are_told_as_collapsing() -> None:
    """Half at one end and half at the other: the mean similarity is about zero, but there is one direction."""
    line = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]).repeat(3, 1)
    assert spread_of(line).similarity < 0.1
    assert spread_of(line).collapsing
