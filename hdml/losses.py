"""Tuple losses: N-pair and triplet over anchors and their candidates, and the two losses of the generator.

Both metric losses take the same tuples, so that real and synthetic ones go through the same code: anchors [N, D], one per class,
and candidates [N, N, D], where row i belongs to anchor i alone, ``candidates[i, i]`` is its positive and ``candidates[i, j]`` its
negative of class j. On real photos row i is the same for all i (the N positives); on synthetic ones it is not.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def npair_loss(anchors: Tensor, candidates: Tensor) -> Tensor:
    """N-pair loss: cross-entropy of each anchor's inner products with its candidates, meaned over anchors.

    K. Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", NIPS 2016, equation 7 (without its L2 term,
    which is :func:`embedding_regulariser`).

    Args:
        anchors: [N, D].
        candidates: [N, N, D]; ``candidates[i, i]`` is the positive of anchor i.

    Returns:
        Scalar; ln N for embeddings that carry no information.
    """
    logits = torch.einsum("id,ijd->ij", anchors, candidates)
    return F.cross_entropy(logits, torch.arange(len(anchors), device=anchors.device))


def triplet_loss(anchors: Tensor, candidates: Tensor, *, margin: float) -> Tensor:
    """Hinge on squared distances, d_ap² − d_an² + margin, meaned over all N(N−1) triplets, the satisfied ones included.

    The mean over *all* triplets keeps J_avg falling as violations vanish; a mean over violations alone would hold it up
    (METHOD: arXiv:1903.05503, equation 5, whose sum is over disjoint triplets).

    Args:
        anchors: [N, D].
        candidates: [N, N, D]; ``candidates[i, i]`` is the positive of anchor i.
        margin: in units of squared embedding distance.

    Returns:
        Scalar; the margin for embeddings that carry no information.
    """
    squared = (anchors[:, None] - candidates).square().sum(-1)
    count = len(anchors)
    violations = F.relu(squared.diagonal()[:, None] - squared + margin)
    off_diagonal = ~torch.eye(count, dtype=torch.bool, device=anchors.device)
    return violations[off_diagonal].sum() / (count * (count - 1))


def embedding_regulariser(anchors: Tensor, positives: Tensor) -> Tensor:
    """Sohn's L2 term: a quarter of the sum of the mean squared lengths of anchors [N, D] and positives [N, D].

    It belongs to the N-pair loss; here the triplet loss has it too, so that the losses differ in one thing only.
    """
    return 0.25 * (anchors.square().sum(1).mean() + positives.square().sum(1).mean())


def reconstruction_loss(features: Tensor, reconstructed: Tensor) -> Tensor:
    """J_recon: squared error of the reconstruction y' = i(z), as a share of the features' variance in the batch.

    The paper sums ‖y − y'‖² (equation 8), which ties its weights to the backbone's scale and width; the share has none, and is 1
    for a generator that always returns the mean photo. Both arguments are [B, F].
    """
    variance = (features - features.mean(0)).square().sum()
    return (features - reconstructed).square().sum() / variance.clamp_min(torch.finfo(features.dtype).tiny)


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """J_soft: cross-entropy of synthetic features under the classifier, as a share of ln(classes), its value at chance.

    Args:
        logits: [B, classes] of the classifier on generated features.
        labels: [B] the label that each feature has to keep.
    """
    return F.cross_entropy(logits, labels) / math.log(logits.shape[1])


@dataclass(frozen=True)
class MetricLoss:
    """A tuple loss with the value that it has when embeddings carry no information, which makes α scale-free."""

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    at_chance: float


def metric_loss(name: str, *, classes_per_batch: int, margin: float) -> MetricLoss:
    """The metric loss of a name in ``METRIC_LOSSES``.

    Raises:
        ValueError: unknown name.
    """
    if name == "npair":
        return MetricLoss(name, npair_loss, math.log(classes_per_batch))
    if name == "triplet":
        return MetricLoss(name, lambda anchors, candidates: triplet_loss(anchors, candidates, margin=margin), margin)
    raise ValueError(f"the loss must be one of {', '.join(METRIC_LOSSES)}, got {name!r}")


METRIC_LOSSES = ("npair", "triplet")
