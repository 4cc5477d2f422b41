"""Losses over tuples, and the two losses of the generator.

All take the same tuples, so that real and synthetic ones go through the same code: anchors [N, D], positives [N, D] and
negatives [N, M, D], where row i of each belongs to anchor i alone. All are means with a fixed divisor (the paper
setting's triplets a sum), the satisfied tuples included: a mean over violations alone would hold J_avg up as they vanish
(pytorch-metric-learning's AvgNonZeroReducer does).

Those that search by direction normalise what they are given; N-pair and triplet take lengths as they are.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def npair_loss(anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Cross-entropy of each anchor's inner products with its positive and its negatives.

    K. Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", NIPS 2016, equation 7 (without its L2 term,
    which is :func:`embedding_regulariser`). ln(M + 1) for embeddings that carry no information.
    """
    to_positive = (anchors * positives).sum(-1, keepdim=True)
    to_negatives = torch.einsum("id,ijd->ij", anchors, negatives)
    return (torch.cat([to_positive, to_negatives], 1).logsumexp(1) - to_positive[:, 0]).mean()


def triplet_loss(anchors: Tensor, positives: Tensor, negatives: Tensor, *, margin: float, summed: bool = False) -> Tensor:
    """Hinge on squared distances, d_ap² − d_an² + margin, over all N·M triplets (arXiv:1903.05503, equation 5).

    The mean, or the sum as in the authors' code, which their α = 7 goes with.
    """
    d_ap = (anchors - positives).square().sum(-1, keepdim=True)
    d_an = (anchors[:, None] - negatives).square().sum(-1)
    hinges = F.relu(d_ap - d_an + margin)
    return hinges.sum() if summed else _mean(hinges)


def contrastive_loss(
    anchors: Tensor, positives: Tensor, negatives: Tensor, *, pos_margin: float = 0.0, neg_margin: float = 1.0
) -> Tensor:
    """Distances of positives above one margin plus those of negatives below the other, of unit embeddings.

    R. Hadsell, S. Chopra, Y. LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006, without squares.
    """
    d_ap, d_an = _unit_distances(anchors, positives, negatives)
    return F.relu(d_ap - pos_margin).mean() + _mean(F.relu(neg_margin - d_an))


def margin_loss(anchors: Tensor, positives: Tensor, negatives: Tensor, *, margin: float = 0.2, beta: float = 1.2) -> Tensor:
    """Positives within a boundary and negatives beyond it, each by a margin, of unit embeddings.

    C.-Y. Wu et al., "Sampling Matters in Deep Embedding Learning", ICCV 2017, equation 4, with one β for all classes.
    """
    d_ap, d_an = _unit_distances(anchors, positives, negatives)
    return F.relu(d_ap - beta + margin).mean() + _mean(F.relu(beta - d_an + margin))


def multi_similarity_loss(
    anchors: Tensor, positives: Tensor, negatives: Tensor, *, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5
) -> Tensor:
    """X. Wang et al., "Multi-Similarity Loss with General Pair Weighting", CVPR 2019, equation 16, before any mining."""
    anchors, positives, negatives = (F.normalize(rows, dim=-1) for rows in (anchors, positives, negatives))
    to_positive = (anchors * positives).sum(-1)
    to_negatives = torch.einsum("id,ijd->ij", anchors, negatives)
    near = F.softplus(-alpha * (to_positive - base)) / alpha
    far = F.softplus((beta * (to_negatives - base)).logsumexp(1)) / beta
    return (near + far).mean()


def angular_loss(anchors: Tensor, positives: Tensor, negatives: Tensor, *, alpha: float = 40.0) -> Tensor:
    """J. Wang et al., "Deep Metric Learning with Angular Loss", ICCV 2017, equation 8; α in degrees, of unit embeddings."""
    anchors, positives, negatives = (F.normalize(rows, dim=-1) for rows in (anchors, positives, negatives))
    squared_tangent = math.tan(math.radians(alpha)) ** 2
    near = 2 * (1 + squared_tangent) * (anchors * positives).sum(-1, keepdim=True)
    far = 4 * squared_tangent * torch.einsum("id,ijd->ij", anchors + positives, negatives)
    return F.softplus((far - near).logsumexp(1)).mean()


def embedding_regulariser(anchors: Tensor, positives: Tensor) -> Tensor:
    """Sohn's L2 term: a quarter of the sum of the mean squared lengths of anchors [N, D] and positives [N, D].

    It belongs to the N-pair loss; here every loss that takes lengths as they are has it, so that losses differ in one thing only.
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


def _unit_distances(anchors: Tensor, positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Distances [N] to the positives and [N, M] to the negatives, of unit embeddings; their gradient at zero is zero."""
    anchors, positives, negatives = (F.normalize(rows, dim=-1) for rows in (anchors, positives, negatives))
    return length(anchors - positives)[:, 0], length(anchors[:, None] - negatives)[..., 0]


def length(vectors: Tensor) -> Tensor:
    """Euclidean length over the last dimension, kept; never 0, so that it can be divided by, and its gradient there is 0."""
    return vectors.square().sum(-1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny).sqrt()


def _mean(terms: Tensor) -> Tensor:
    """The mean; 0 for no terms, when one class alone is left."""
    return terms.sum() / max(1, terms.numel())
