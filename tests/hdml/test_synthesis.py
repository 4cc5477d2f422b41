"""The pull and the synthetic tuples against loops written from the equations (arXiv:1903.05503, sections 3.2 and 3.3)."""

import math

import pytest
import torch
from torch import Tensor, nn

from hdml.losses import label_loss, npair_loss, reconstruction_loss
from hdml.model import EmbeddingHead, FeatureGenerator
from hdml.synthesis import (
    WindowMean,
    generator_losses,
    pull_negatives,
    pulling_share,
    real_weight,
    synthesize,
)

N, D, F, CLASSES = 4, 6, 10, 9


def random_rows(count: int, seed: int) -> Tensor:
    rows = torch.randn(count, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return rows.requires_grad_()


def pull_by_loop(anchors: Tensor, positives: Tensor, negatives: Tensor, share: float) -> Tensor:
    """Equations 2–4, one triplet at a time."""
    rows = []
    for a, p, n in zip(anchors, positives, negatives, strict=True):
        d_ap, d_an = torch.linalg.vector_norm(a - p), torch.linalg.vector_norm(a - n)
        if d_an > d_ap:
            rows.append(a + (share * d_an + (1 - share) * d_ap) * (n - a) / d_an)
        else:
            rows.append(n)
    return torch.stack(rows)


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
    assert pulling_share(math.inf, 90.0) == 1.0
    assert pulling_share(0.0, 90.0) == 0.0
    assert pulling_share(2.0, 3.0) == pytest.approx(math.exp(-1.5))


def test_real_weight_trusts_a_poor_generator_with_nothing() -> None:
    assert real_weight(math.inf, 0.1) == 1.0
    assert real_weight(0.0, 0.1) == 0.0
    assert real_weight(0.5, 0.1) == pytest.approx(math.exp(-0.2))


def test_window_mean_forgets_what_left_the_window() -> None:
    window = WindowMean(3)
    assert window.mean == math.inf
    for value in (100.0, 1.0, 2.0, 3.0):
        window.add(value)
    assert window.mean == pytest.approx(2.0)


@pytest.fixture
def modules() -> tuple[FeatureGenerator, EmbeddingHead, nn.Linear]:
    torch.manual_seed(0)
    return FeatureGenerator(D, F).double(), EmbeddingHead(F, D).double(), nn.Linear(F, CLASSES).double()


def test_synthetic_tuples_equal_loop(modules: tuple[FeatureGenerator, EmbeddingHead, nn.Linear]) -> None:
    """Every (i, j) pulled with d⁺ = ‖aᵢ − pᵢ‖, then every member through generator and head, in one batch each."""
    generator, head, classifier = modules
    anchors, positives = random_rows(N, 1), random_rows(N, 2)
    features = torch.randn(2 * N, F, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([2, 0, 8, 5])
    tuples = synthesize(anchors, positives, generator=generator, head=head, share=0.3)
    found = (
        npair_loss(tuples.anchors, tuples.candidates),
        *generator_losses(tuples.rows, features, labels, generator=generator, classifier=classifier),
    )

    pulled = torch.stack(
        [
            positives[j] if i == j else pull_by_loop(anchors[i : i + 1], positives[i : i + 1], positives[j : j + 1], 0.3)[0]
            for i in range(N)
            for j in range(N)
        ]
    )
    generated = generator(torch.cat([anchors, positives, pulled]))
    embedded = head(torch.cat([generated[:N], generated[2 * N :]]))
    synthetic = npair_loss(embedded[:N], embedded[N:].reshape(N, N, D))
    logits = classifier(torch.cat([generated[:N], generated[2 * N :]]))
    soft = (label_loss(logits[:N], labels) + label_loss(logits[N:], labels.repeat(N))) / 2
    expected = (synthetic, reconstruction_loss(features, generated[: 2 * N]), soft)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(tuples.pulled.reshape(N * N, D), pulled, rtol=1e-10, atol=1e-12)
    gradients = torch.autograd.grad(found[0], (anchors, positives))
    torch.testing.assert_close(gradients, torch.autograd.grad(expected[0], (anchors, positives)), rtol=1e-8, atol=1e-12)


def test_own_positive_stays_exactly_where_it_is(modules: tuple[FeatureGenerator, EmbeddingHead, nn.Linear]) -> None:
    generator, head, _ = modules
    anchors, positives = random_rows(N, 1), random_rows(N, 2)
    pulled = synthesize(anchors, positives, generator=generator, head=head, share=0.0).pulled
    assert all(torch.equal(pulled[i, i], positives[i]) for i in range(N))


def test_generator_losses_reach_the_generator_alone(modules: tuple[FeatureGenerator, EmbeddingHead, nn.Linear]) -> None:
    """Of the parameters they could reach through features, classifier and head, J_recon and J_soft move the generator's only."""
    generator, head, classifier = modules
    features = torch.randn(2 * N, F, dtype=torch.float64, requires_grad=True)
    anchors, positives = head(features).chunk(2)
    tuples = synthesize(anchors, positives, generator=generator, head=head, share=0.5)
    reconstruction, soft = generator_losses(tuples.rows, features, torch.arange(N), generator=generator, classifier=classifier)
    for parameter in classifier.parameters():
        assert torch.autograd.grad(reconstruction + soft, parameter, retain_graph=True, allow_unused=True) == (None,)
    assert torch.autograd.grad(reconstruction + soft, features, retain_graph=True, allow_unused=True) == (None,)
    assert all(
        torch.autograd.grad(reconstruction + soft, parameter, retain_graph=True)[0].abs().sum() > 0
        for parameter in (generator[0].weight, generator[3].weight)
    )


def test_synthetic_rows_leave_the_heads_running_statistics_alone(
    modules: tuple[FeatureGenerator, EmbeddingHead, nn.Linear],
) -> None:
    """Inference sees real rows only (METHOD, trap 4); the synthetic batch is normalised by its own statistics all the same."""
    generator, head, _ = modules
    before = {name: buffer.clone() for name, buffer in head.named_buffers()}
    assert len(before) == 3
    synthesize(random_rows(N, 1), random_rows(N, 2), generator=generator, head=head, share=0.5)
    torch.testing.assert_close(dict(head.named_buffers()), before, rtol=0, atol=0)
