"""What a step is logged with: losses, how hard the synthetic tuples are, and whether the embeddings collapse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hdml.synthesis import SyntheticTuples

SIMILARITY_LIMIT = 0.9
"""Mean cosine of two photos of a batch above which the embeddings count as collapsing."""
RANK_LIMIT = 2.0
"""Effective rank of a batch below which they do, too."""


@dataclass(frozen=True)
class StepFigures:
    """What one step is logged with; everything from ``synthetic_loss`` on is None without HDML.

    Attributes:
        metric_loss: J_m, raw and unweighted.
        synthetic_loss: J_syn.
        reconstruction_loss, label_loss: J_recon and J_soft.
        classifier_loss: cross-entropy of real features.
        pulling_share: λ of this step.
        real_weight: exp(−β/J_gen) of this step.
        real_distance, pulled_distance: mean distance of negatives from their anchors, before and after the pull, as multiples of
            the mean d_ap.
        synthetic_distance: the same of re-embedded anchors and negatives, as a multiple of the re-embedded d_ap.
        label_preservation: share of synthetic negatives that the classifier gives the label of the real one.
        violations: share of synthetic negatives that lie nearer to their anchor than the positive does, after re-embedding.
    """

    metric_loss: float
    synthetic_loss: float | None = None
    reconstruction_loss: float | None = None
    label_loss: float | None = None
    classifier_loss: float | None = None
    pulling_share: float | None = None
    real_weight: float | None = None
    real_distance: float | None = None
    pulled_distance: float | None = None
    synthetic_distance: float | None = None
    label_preservation: float | None = None
    violations: float | None = None


def read_back(steps: Sequence[Mapping[str, Tensor]]) -> list[dict[str, float]]:
    """The scalars of some steps, with a single wait for the device that computes them."""
    scalars = [value.detach().double() for step in steps for value in step.values()]
    values = iter(torch.stack(scalars).tolist())
    return [{name: next(values) for name in step} for step in steps]


@torch.no_grad()
def tuple_figures(
    real: tuple[Tensor, Tensor, Tensor], synthetic: SyntheticTuples, labels: Tensor, logits: Tensor, *, direction: bool
) -> dict[str, Tensor]:
    """The last five of :class:`StepFigures`, on the device.

    Args:
        real: anchors [N, D], positives [N, D] and negatives [N, M, D] as the loss sees them.
        labels: [N, M] of the negatives.
        logits: [N·M, classes] of the features generated for them.
        direction: whether only the direction of an embedding counts.
    """
    anchors, positives, negatives = real
    members = [synthetic.anchors, synthetic.positives, synthetic.negatives]
    again = [F.normalize(rows, dim=-1) for rows in members] if direction else members
    d_ap = _distances(anchors, positives[:, None])
    again_ap, again_an = _distances(again[0], again[1][:, None]), _distances(again[0], again[2])
    return {
        "real_distance": _ratio(_distances(anchors, negatives), d_ap),
        "pulled_distance": _ratio(_distances(anchors, synthetic.pulled), d_ap),
        "synthetic_distance": _ratio(again_an, again_ap),
        "label_preservation": (logits.argmax(1) == labels.flatten()).float().mean(),
        "violations": (again_an < again_ap).float().mean(),
    }


@dataclass(frozen=True)
class Spread:
    """How far embeddings are from having collapsed.

    Attributes:
        similarity: mean cosine of two different photos, −1..1.
        effective_rank: exp of the entropy of the shares of the singular values, 1..min(B, D).
    """

    similarity: float
    effective_rank: float

    @property
    def collapsing(self) -> bool:
        return self.similarity > SIMILARITY_LIMIT or self.effective_rank < RANK_LIMIT


@torch.no_grad()
def spread_of(embeddings: Tensor) -> Spread:
    """Of a batch [B, D], B > 1, of embeddings that need not be normalised.

    The rank is that of O. Roy and M. Vetterli, "The effective rank", EUSIPCO 2007, of the unit embeddings.
    """
    unit = F.normalize(embeddings.float())
    count = len(unit)
    # The sum over all pairs is the squared length of the sum; the pairs of a photo with itself come off.
    similarity = (unit.sum(0).square().sum() - unit.square().sum()) / (count * (count - 1))
    values = torch.linalg.svdvals(unit)
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    return Spread(similarity.item(), torch.special.entr(shares).sum().exp().item())


def _distances(anchors: Tensor, others: Tensor) -> Tensor:
    distances: Tensor = torch.linalg.vector_norm(anchors[:, None] - others, dim=-1)
    return distances


def _ratio(distances: Tensor, d_ap: Tensor) -> Tensor:
    return distances.mean() / d_ap.mean().clamp_min(torch.finfo(d_ap.dtype).tiny)
