"""The pull and the synthetic tuples against loops written from the equations (arXiv:1903.05503, sections 3.2 and 3.3)."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hdml.model import EmbeddingHead, FeatureGenerator
from hdml.synthesis import (
    SyntheticTuples,
    pull_negatives,
    pull_on_sphere,
    pulling_share,
    real_weight,
    synthesize,
)
from hdml.tuples import Tuples, pair_tuples
from tests.hdml import references

N, D, F = 4, 6, 10


def random_rows(count: int, seed: int) -> Tensor:
    rows = torch.randn(count, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return rows.requires_grad_()


def pull_by_loop(anchors: Tensor, positives: Tensor, negatives: Tensor, share: float) -> Tensor:
    return torch.stack([references.pull(a, p, n, share) for a, p, n in zip(anchors, positives, negatives, strict=True)])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_pull_equals_loop_with_gradients(share: float) -> None:
    rows = random_rows(8, 0), random_rows(8, 1), random_rows(8, 2)
    found, expected = pull_negatives(*rows, share), pull_by_loop(*rows, share)
    far = (rows[0] - rows[2]).norm(dim=1) > (rows[0] - rows[1]).norm(dim=1)
    assert far.any()
    assert not far.all()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    direction = torch.randn(8, D, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    gradients = torch.autograd.grad((found * direction).sum(), rows)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * direction).sum(), rows), rtol=1e-9, atol=1e-12)


def test_pull_passes_gradcheck() -> None:
    rows = random_rows(6, 0), random_rows(6, 1), random_rows(6, 2)
    assert torch.autograd.gradcheck(lambda a, p, n: pull_negatives(a, p, n, 0.4), rows)


def test_pulled_negative_lies_at_the_distance_of_the_equation() -> None:
    anchor, positive, negative = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    for share, distance in ((1.0, 5.0), (0.5, 3.0), (0.0, 1.0)):
        torch.testing.assert_close(pull_negatives(anchor, positive, negative, share), torch.tensor([[0.0, distance]]))


def test_pull_of_coinciding_points_is_finite_with_its_gradients() -> None:
    """d = 0 puts 0/0 into the branch not taken; NaN would survive torch.where in the gradient (METHOD, trap 3)."""
    point = torch.ones(1, D, requires_grad=True)
    far = torch.zeros(1, D, requires_grad=True)
    for anchor, positive, negative in ((point, point, point), (point, far, point), (point, point, far)):
        pulled = pull_negatives(anchor, positive, negative, 0.5)
        gradients = torch.autograd.grad(pulled.sum(), (point, far), allow_unused=True)
        assert torch.isfinite(pulled).all()
        assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)


def test_pull_with_share_outside_its_range_raises_with_the_value() -> None:
    rows = torch.zeros(1, D)
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        pull_negatives(rows, rows, rows, 1.5)


def test_pull_is_computed_in_float32_under_low_precision() -> None:
    rows = [torch.randn(3, D, generator=torch.Generator().manual_seed(seed)).bfloat16() for seed in range(3)]
    assert pull_negatives(rows[0], rows[1], rows[2], 0.5).dtype == torch.float32


def test_pulling_share_at_its_ends() -> None:
    assert pulling_share(torch.tensor(math.inf), 90.0).item() == 1.0
    assert pulling_share(torch.tensor(0.0), 90.0).item() == 0.0
    assert pulling_share(torch.tensor(2.0), 3.0).item() == pytest.approx(math.exp(-1.5))


def test_real_weight_trusts_a_poor_generator_with_nothing() -> None:
    assert real_weight(torch.tensor(math.inf), 0.1).item() == 1.0
    assert real_weight(torch.tensor(0.0), 0.1).item() == 0.0
    assert real_weight(torch.tensor(0.5), 0.1).item() == pytest.approx(math.exp(-0.2))


def on_sphere(*seeds: int, count: int = 8) -> list[Tensor]:
    return [functional.normalize(random_rows(count, seed).detach()).requires_grad_() for seed in seeds]


@pytest.mark.parametrize("share", [0.2, 0.7, 1.0])
def test_pull_on_the_sphere_keeps_the_length_and_the_distance_of_the_equation(share: float) -> None:
    anchors, positives, negatives = on_sphere(0, 1, 2)
    found = pull_on_sphere(anchors, positives, negatives, share)
    expected = pull_by_loop(anchors, positives, negatives, share)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(8, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close((found - anchors).norm(dim=1), (expected - anchors).norm(dim=1), rtol=1e-9, atol=1e-9)
    assert pull_on_sphere(anchors, positives, negatives, 1.0).allclose(negatives)


def test_pull_on_the_sphere_passes_gradcheck() -> None:
    rows = on_sphere(0, 1, 2, count=6)
    assert torch.autograd.gradcheck(lambda a, p, n: pull_on_sphere(a, p, n, 0.4), rows)


def test_pull_on_the_sphere_of_coinciding_and_opposite_points_is_finite() -> None:
    point = functional.normalize(torch.ones(1, D), dim=1).requires_grad_()
    opposite = (-point).detach().requires_grad_()
    cases = ((point, point, point), (point, opposite, point), (point, point, opposite))
    for anchor, positive, negative in cases:
        pulled = pull_on_sphere(anchor, positive, negative, 0.0)
        gradients = torch.autograd.grad(pulled.sum(), (point, opposite), allow_unused=True)
        assert torch.isfinite(pulled).all()
        assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)


@pytest.fixture
def modules() -> tuple[FeatureGenerator, EmbeddingHead]:
    torch.manual_seed(0)
    return FeatureGenerator(D, F).double(), EmbeddingHead(F, D).double()


def pair_batch() -> tuple[Tensor, Tuples]:
    return random_rows(2 * N, 1), pair_tuples(torch.arange(N).repeat(2))


def synthesized(
    modules: tuple[FeatureGenerator, EmbeddingHead], embeddings: Tensor, tuples: Tuples, **how: object
) -> SyntheticTuples:
    generator, head = modules
    return synthesize(embeddings, tuples, generator=generator, head=head, share=0.3, **how)  # type: ignore[arg-type]


def test_synthetic_tuples_equal_loop(modules: tuple[FeatureGenerator, EmbeddingHead]) -> None:
    """Every (i, j) pulled with d⁺ = ‖aᵢ − pᵢ‖, then every member through generator and head, in one batch each."""
    generator, head = modules
    embeddings, tuples = pair_batch()
    found = synthesized(modules, embeddings, tuples)
    anchors, positives = embeddings.chunk(2)
    pulled = [references.pull(anchors[i], positives[i], positives[j], 0.3) for i in range(N) for j in range(N) if i != j]
    generated = generator(torch.cat([embeddings, torch.stack(pulled)]))
    embedded = head(generated)
    assert torch.equal(found.rows[: 2 * N], embeddings)
    torch.testing.assert_close(found.pulled.flatten(0, 1), torch.stack(pulled), rtol=1e-10, atol=1e-12)
    members = torch.cat([found.anchors, found.positives, found.negatives.flatten(0, 1)])
    torch.testing.assert_close(members, embedded, rtol=1e-9, atol=1e-12)
    direction = torch.randn(embedded.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    gradients = torch.autograd.grad((members * direction).sum(), embeddings)
    expected = torch.autograd.grad((embedded * direction).sum(), embeddings)
    torch.testing.assert_close(gradients, expected, rtol=1e-7, atol=1e-9)


def test_residual_features_are_the_real_ones_where_nothing_is_pulled(modules: tuple[FeatureGenerator, EmbeddingHead]) -> None:
    generator, head = modules
    embeddings, tuples = pair_batch()
    features = torch.randn(2 * N, F, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = synthesize(embeddings, tuples, generator=generator, head=head, share=1.0, residual_of=features)
    members = torch.cat([features, features[tuples.negatives.flatten()]])
    expected = head(members)
    torch.testing.assert_close(torch.cat([found.anchors, found.positives]), expected[: 2 * N], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.negatives.flatten(0, 1), expected[2 * N :], rtol=1e-9, atol=1e-12)


def test_nothing_reaches_the_generator_and_everything_the_embeddings(modules: tuple[FeatureGenerator, EmbeddingHead]) -> None:
    embeddings, tuples = pair_batch()
    found = synthesized(modules, embeddings, tuples)
    loss = found.negatives.square().sum()
    assert all(torch.autograd.grad(loss, p, retain_graph=True, allow_unused=True) == (None,) for p in modules[0].parameters())
    assert (torch.autograd.grad(loss, embeddings)[0].abs().sum(1) > 0).all()


@pytest.mark.parametrize("trace", [False, True])
def test_synthetic_rows_enter_the_heads_running_statistics_only_when_asked(
    modules: tuple[FeatureGenerator, EmbeddingHead], trace: bool
) -> None:
    """Inference sees real rows only (METHOD, trap 4); the synthetic batch is normalised by its own statistics all the same."""
    _, head = modules
    before = {name: buffer.clone() for name, buffer in head.named_buffers()}
    assert len(before) == 3
    synthesized(modules, *pair_batch(), trace=trace)
    changed = [not torch.equal(buffer, before[name]) for name, buffer in head.named_buffers()]
    assert all(changed) if trace else not any(changed)
