"""The registry: every name works, the library's own are reached, and what does not go together is refused."""

import math

import pytest
import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor

from hdml.metric_losses import LOSSES, metric_loss

CLASSES, PER_CLASS, D = 6, 4, 8


def batch(seed: int = 0, per_class: int = PER_CLASS) -> tuple[Tensor, Tensor]:
    labels = torch.arange(CLASSES).repeat(per_class)
    embeddings = torch.randn(len(labels), D, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    return embeddings, labels


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_moves_the_embeddings(name: str) -> None:
    embeddings, labels = batch(per_class=LOSSES[name].photos_per_class)
    loss = metric_loss(name, classes_per_batch=CLASSES, classes=CLASSES, dimension=D)
    torch.manual_seed(0)
    gradient = torch.autograd.grad(loss(embeddings, labels), embeddings)[0]
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", [name for name, spec in LOSSES.items() if spec.has_proxies])
def test_proxies_are_parameters_that_learn(name: str) -> None:
    loss = metric_loss(name, classes_per_batch=CLASSES, classes=CLASSES, dimension=D)
    proxies = list(loss.parameters())
    assert proxies
    gradients = torch.autograd.grad(loss(*batch()), proxies)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_losses_without_proxies_have_no_parameters() -> None:
    for name, spec in LOSSES.items():
        if not spec.has_proxies:
            assert list(metric_loss(name, classes_per_batch=CLASSES).parameters()) == [], name


def test_multi_similarity_is_the_librarys_with_its_miner() -> None:
    embeddings, labels = batch()
    expected = losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)(
        embeddings, labels, miners.MultiSimilarityMiner(epsilon=0.1)(embeddings, labels)
    )
    assert metric_loss("multi-similarity", classes_per_batch=CLASSES)(embeddings, labels).item() == expected.item()


def test_semihard_triplets_share_margin_and_distance_with_their_miner() -> None:
    """FaceNet's negatives are semi-hard by the loss's own margin; with another they would be others."""
    embeddings, labels = batch()
    loss = metric_loss("triplet-semihard", classes_per_batch=CLASSES, options={"margin": 0.7})
    unit = torch.nn.functional.normalize(embeddings)
    terms = []
    for a in range(len(labels)):
        for p in range(len(labels)):
            for n in range(len(labels)):
                if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
                    gap = (unit[a] - unit[n]).square().sum() - (unit[a] - unit[p]).square().sum()
                    if 0 < gap <= 0.7:
                        terms.append(0.7 - gap)
    positive = [term for term in terms if term > 0]
    assert loss(embeddings, labels).item() == pytest.approx(float(sum(positive) / len(positive)), rel=1e-5)


def test_npair_equals_the_librarys_on_pairs() -> None:
    embeddings, labels = batch(per_class=2)
    found = metric_loss("npair", classes_per_batch=CLASSES)(embeddings, labels)
    anchors, positives = embeddings.chunk(2)
    expected = torch.nn.functional.cross_entropy(anchors @ positives.T, torch.arange(CLASSES))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("npair", math.log(CLASSES)), ("triplet", 1.0), ("contrastive", math.sqrt(2)), ("angular", math.log(CLASSES))],
)
def test_at_chance_is_the_loss_of_unit_vectors_at_right_angles(name: str, expected: float) -> None:
    assert metric_loss(name, classes_per_batch=CLASSES).at_chance == pytest.approx(expected)


def test_unknown_names_are_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"npair, triplet, .*, got 'nothing'"):
        metric_loss("nothing", classes_per_batch=CLASSES)
    with pytest.raises(ValueError, match="triplet has the options margin, got 'scale'"):
        metric_loss("triplet", classes_per_batch=CLASSES, options={"scale": 1.0})
    with pytest.raises(ValueError, match="needs classes and dimension, got 0 and 8"):
        metric_loss("proxy-anchor", classes_per_batch=CLASSES, dimension=8)


def test_triplets_alone_can_be_summed() -> None:
    embeddings, labels = batch(per_class=2)
    mean, total = (metric_loss("triplet", classes_per_batch=CLASSES, summed=summed) for summed in (False, True))
    torch.testing.assert_close(total(embeddings, labels), mean(embeddings, labels) * CLASSES * (CLASSES - 1))
    with pytest.raises(ValueError, match="triplet alone can be summed over its tuples, got 'npair'"):
        metric_loss("npair", classes_per_batch=CLASSES, summed=True)


def test_what_takes_no_hdml_says_why() -> None:
    for name, spec in LOSSES.items():
        assert spec.takes_hdml != bool(spec.refusal), name
