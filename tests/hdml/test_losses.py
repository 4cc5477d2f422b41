"""Losses against loops written from the equations, in float64, gradients included."""

import math

import pytest
import torch
from torch import Tensor, nn

from hdml.losses import embedding_regulariser, label_loss, metric_loss, npair_loss, reconstruction_loss, triplet_loss

N, D = 5, 7


def random_tuples(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    anchors = torch.randn(N, D, dtype=torch.float64, generator=generator, requires_grad=True)
    candidates = torch.randn(N, N, D, dtype=torch.float64, generator=generator, requires_grad=True)
    return anchors, candidates


def npair_by_loop(anchors: Tensor, candidates: Tensor) -> Tensor:
    """Sohn 2016, equation 7: mean over i of log(1 + Σ_{j≠i} exp(aᵢ·n_ij − aᵢ·pᵢ))."""
    total = torch.zeros((), dtype=anchors.dtype)
    for i in range(len(anchors)):
        positive = anchors[i] @ candidates[i, i]
        others = [torch.exp(anchors[i] @ candidates[i, j] - positive) for j in range(len(anchors)) if j != i]
        total = total + torch.log(1 + torch.stack(others).sum())
    return total / len(anchors)


def triplet_by_loop(anchors: Tensor, candidates: Tensor, margin: float) -> Tensor:
    """Mean over all (i, j ≠ i) of max(0, ‖aᵢ − pᵢ‖² − ‖aᵢ − n_ij‖² + margin)."""
    terms = []
    for i in range(len(anchors)):
        for j in range(len(anchors)):
            if i != j:
                d_ap = (anchors[i] - candidates[i, i]).pow(2).sum()
                d_an = (anchors[i] - candidates[i, j]).pow(2).sum()
                terms.append(torch.clamp(d_ap - d_an + margin, min=0))
    return torch.stack(terms).mean()


def assert_same_with_gradients(first: Tensor, second: Tensor, inputs: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)
    found = torch.autograd.grad(first, inputs)
    expected = torch.autograd.grad(second, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_npair_loss_equals_loop() -> None:
    tuples = random_tuples()
    assert_same_with_gradients(npair_loss(*tuples), npair_by_loop(*tuples), tuples)


@pytest.mark.parametrize("margin", [0.2, 1.0, 20.0])
def test_triplet_loss_equals_loop(margin: float) -> None:
    tuples = random_tuples()
    assert_same_with_gradients(triplet_loss(*tuples, margin=margin), triplet_by_loop(*tuples, margin), tuples)


@pytest.mark.parametrize("name", ["npair", "triplet"])
def test_candidates_reach_only_their_own_anchor(name: str) -> None:
    """Block i meets anchor i alone: moving block 2 moves the loss terms, and so the gradients, of no other anchor."""
    anchors, candidates = random_tuples()
    loss = metric_loss(name, classes_per_batch=N, margin=20.0).function
    moved = candidates.detach().clone()
    moved[2] += 0.1
    before = torch.autograd.grad(loss(anchors, candidates), anchors)[0]
    after = torch.autograd.grad(loss(anchors, moved), anchors)[0]
    changed = (before != after).any(1)
    assert changed.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("name", ["npair", "triplet"])
def test_at_chance_is_the_loss_of_embeddings_without_information(name: str) -> None:
    loss = metric_loss(name, classes_per_batch=N, margin=0.7)
    same = torch.ones(N, D)
    assert loss.function(same, same.expand(N, N, D)).item() == pytest.approx(loss.at_chance)


def test_metric_loss_of_unknown_name_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="npair, triplet, got 'lifted'"):
        metric_loss("lifted", classes_per_batch=N, margin=1.0)


def test_embedding_regulariser_equals_loop() -> None:
    anchors, candidates = (tuples.detach() for tuples in random_tuples())
    positives = candidates[0]
    expected = sum(float((a**2).sum() + (p**2).sum()) for a, p in zip(anchors, positives, strict=True)) / (4 * N)
    assert embedding_regulariser(anchors, positives).item() == pytest.approx(expected)


def test_reconstruction_loss_is_one_for_the_mean_photo_and_does_not_depend_on_scale() -> None:
    features = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    guess = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    assert reconstruction_loss(features, features.mean(0).expand_as(features)).item() == pytest.approx(1.0)
    assert reconstruction_loss(features, features).item() == 0.0
    scaled = reconstruction_loss(1000 * features, 1000 * guess).item()
    assert scaled == pytest.approx(reconstruction_loss(features, guess).item(), rel=1e-5)


def test_label_loss_is_one_at_chance_and_equals_cross_entropy_over_ln_classes() -> None:
    labels = torch.tensor([0, 3, 1])
    assert label_loss(torch.zeros(3, 9), labels).item() == pytest.approx(1.0)
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    expected = nn.functional.cross_entropy(logits, labels).item() / math.log(9)
    assert label_loss(logits, labels).item() == pytest.approx(expected)
