"""Losses against loops written from the equations, in float64, gradients included."""

import math

import pytest
import torch
from torch import Tensor, nn

from hdml.losses import embedding_regulariser, label_loss, npair_loss, reconstruction_loss
from hdml.metric_losses import LOSSES, metric_loss
from tests.hdml import references

N, M, D = 5, 3, 7
BY_LOOP = {
    "npair": references.npair,
    "triplet": references.triplet,
    "contrastive": references.contrastive,
    "margin": references.margin,
    "multi-similarity": references.multi_similarity,
    "angular": references.angular,
}
# Wide enough for every hinge to be open, and gentle enough for every term to count.
OPEN = {
    "triplet": {"margin": 30.0},
    "contrastive": {"neg_margin": 2.5},
    "margin": {"margin": 2.5},
    "multi-similarity": {"beta": 5.0},
}


def random_tuples(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((N, D), (N, D), (N, M, D))
    anchors, positives, negatives = (
        torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True) for shape in shapes
    )
    return anchors, positives, negatives


def tuple_loss(name: str, **options: float):
    return metric_loss(name, classes_per_batch=N, options=options).tuple_loss


@pytest.mark.parametrize("name", BY_LOOP)
@pytest.mark.parametrize("open_hinges", [False, True])
def test_tuple_loss_equals_loop(name: str, open_hinges: bool) -> None:
    tuples = random_tuples()
    options = {**LOSSES[name].options, **(OPEN.get(name, {}) if open_hinges else {})}
    found, expected = tuple_loss(name, **options)(*tuples), BY_LOOP[name](*tuples, **options)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(found, tuples), torch.autograd.grad(expected, tuples), rtol=1e-9, atol=1e-12)


def test_every_loss_that_takes_hdml_has_a_loop_to_be_held_to() -> None:
    assert set(BY_LOOP) == {name for name, spec in LOSSES.items() if spec.takes_hdml}


@pytest.mark.parametrize("name", BY_LOOP)
def test_negatives_reach_only_their_own_anchor(name: str) -> None:
    """Block i meets anchor i alone: the gradient of block 2 reaches anchor and positive 2, and no others."""
    anchors, positives, negatives = random_tuples()
    options = OPEN.get(name, {})
    gradient = torch.autograd.grad(tuple_loss(name, **options)(anchors, positives, negatives), negatives, create_graph=True)[0]
    assert gradient[2].abs().sum() > 0
    direction = torch.randn(M, D, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    reached = torch.autograd.grad((gradient[2] * direction).sum(), (anchors, positives, negatives), allow_unused=True)
    for rows in reached:
        if rows is not None:
            assert [bool(row.abs().sum() > 0) for row in rows] in ([False, False, True, False, False], [False] * N)


@pytest.mark.parametrize("name", BY_LOOP)
def test_every_negative_counts(name: str) -> None:
    """A loss that is constant on single-anchor tuples, as several of the library's are, would teach nothing."""
    tuples = random_tuples()
    gradients = torch.autograd.grad(tuple_loss(name, **OPEN.get(name, {}))(*tuples), tuples)
    assert all((gradient.abs().sum(-1) > 0).all() for gradient in gradients)


@pytest.mark.parametrize("name", BY_LOOP)
def test_loss_of_one_class_alone_is_finite(name: str) -> None:
    anchors, positives, _ = random_tuples()
    found = tuple_loss(name)(anchors[:1], positives[:1], anchors.new_zeros(1, 0, D))
    assert torch.isfinite(found)
    assert torch.isfinite(torch.autograd.grad(found, anchors, materialize_grads=True)[0]).all()


@pytest.mark.parametrize("name", BY_LOOP)
def test_coinciding_points_give_finite_gradients(name: str) -> None:
    same = torch.ones(2, D, requires_grad=True)
    found = tuple_loss(name)(same, same, same[:, None].expand(2, M, D))
    assert torch.isfinite(torch.autograd.grad(found, same)[0]).all()


def test_embedding_regulariser_equals_loop() -> None:
    anchors, positives, _ = (tuples.detach() for tuples in random_tuples())
    expected = sum(float((a**2).sum() + (p**2).sum()) for a, p in zip(anchors, positives, strict=True)) / (4 * N)
    assert embedding_regulariser(anchors, positives).item() == pytest.approx(expected)


def test_npair_loss_of_embeddings_without_information_is_ln_of_the_classes() -> None:
    same = torch.ones(N, D)
    assert npair_loss(same, same, same[None].expand(N, N, D)[:, 1:]).item() == pytest.approx(math.log(N))


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
