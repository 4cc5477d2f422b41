"""Hardness-aware synthesis: pull negatives towards their anchor, generate features with their labels, and weigh both losses.

W. Zheng, Z. Chen, J. Lu, J. Zhou, "Hardness-Aware Deep Metric Learning", CVPR 2019 (arXiv:1903.05503).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from hdml.losses import label_loss, reconstruction_loss
from hdml.model import FeatureGenerator


class WindowMean(nn.Module):
    """Mean of the last ``size`` values; infinite while there are none, when training has just begun."""

    values: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.full((size,), math.inf, dtype=torch.float64))

    def add(self, value: float) -> None:
        self.values.copy_(torch.cat([self.values[1:], self.values.new_tensor([value])]))

    @property
    def mean(self) -> float:
        known = [value for value in self.values.tolist() if value < math.inf]
        return math.fsum(known) / len(known) if known else math.inf


def pulling_share(metric_loss_avg: float, alpha: float) -> float:
    """λ = exp(−α / J_avg), the share of the way from d⁺ to d that a pulled negative keeps (section 3.2, equation 4).

    1 (no pull) for an infinite J_avg, 0 (as near as the positive) for J_avg = 0.
    """
    return math.exp(-alpha / metric_loss_avg) if metric_loss_avg > 0 else 0.0


def real_weight(generator_loss_avg: float, beta: float) -> float:
    """exp(−β / J_gen): the weight of the real tuples; the worse the generator, the nearer to 1 (section 3.3, equation 12)."""
    return math.exp(-beta / generator_loss_avg) if generator_loss_avg > 0 else 0.0


def pull_negatives(anchors: Tensor, positives: Tensor, negatives: Tensor, share: float | Tensor) -> Tensor:
    """Move each negative towards its anchor, never closer than the positive is.

    With d⁺ = ‖a − p‖ and d = ‖a − n‖, a negative with d > d⁺ goes to distance λ·d + (1−λ)·d⁺ on its segment; one that is at
    least as close as the positive stays where it is (section 3.2, equations 2–4). Gradients flow through all three arguments,
    distances included. Computed in float32 or better whatever the autocast.

    Args:
        anchors, positives, negatives: [..., D], broadcastable; need not be normalised.
        share: λ in [0, 1], from :func:`pulling_share`; a tensor only when exported.

    Returns:
        [..., D], the pulled negatives.

    Raises:
        ValueError: the share is a number outside [0, 1].
    """
    if isinstance(share, float) and not 0.0 <= share <= 1.0:
        raise ValueError(f"the pulling share must lie in [0, 1], got {share}")
    wide = torch.promote_types(negatives.dtype, torch.float32)
    anchors, positives, negatives = anchors.to(wide), positives.to(wide), negatives.to(wide)
    offset = negatives - anchors
    d_an = _length(offset)
    d_ap = _length(positives - anchors)
    # A zero distance would put 0/0 into the branch that `where` does not take, and NaN survives it in the gradient.
    pulled = anchors + offset * ((share * d_an + (1 - share) * d_ap) / d_an.clamp_min(_smallest(wide)))
    return torch.where(d_an > d_ap, pulled, negatives)


def _length(vectors: Tensor) -> Tensor:
    """Euclidean length over the last dimension, kept; its gradient at zero is zero instead of NaN."""
    squared = vectors.square().sum(-1, keepdim=True)
    return squared.clamp_min(_smallest(vectors.dtype) ** 2).sqrt()


def _smallest(dtype: torch.dtype) -> float:
    return float(torch.finfo(dtype).tiny ** 0.5)


@dataclass(frozen=True)
class SyntheticTuples:
    """What one batch of N anchors and N positives becomes.

    Attributes:
        pulled: [N, N, D]; ``pulled[i, j]`` is positive j pulled towards anchor i, and ``pulled[i, i]`` the untouched positive i.
        rows: [2N + N·N, D] what the generator was given: anchors, positives, and the pulled ones.
        anchors: [N, D] re-embedded synthetic anchors.
        candidates: [N, N, D] re-embedded synthetic candidates; block i belongs to anchor i alone.
    """

    pulled: Tensor
    rows: Tensor
    anchors: Tensor
    candidates: Tensor


def synthesize(
    anchors: Tensor, positives: Tensor, *, generator: FeatureGenerator, head: nn.Module, share: float
) -> SyntheticTuples:
    """Synthetic tuples of an N-pair batch: every (anchor i, positive j) pulled, generated and embedded again (section 3.3).

    Every member of a tuple passes the generator, anchor and positive included. The generator's BatchNorm sees real and synthetic
    rows together; the head's sees the synthetic ones as a batch of their own. Gradients run back through the generator but not
    into it, and neither module's running statistics learn from this (docs/decisions/batchnorm.md).

    Args:
        anchors, positives: [N, D] embeddings of one pair per class, not normalised.
        share: λ in [0, 1].
    """
    count, dimension = anchors.shape
    pulled = pull_negatives(anchors[:, None], positives[:, None], positives[None], share)
    # Row i is pulled with d⁺ = ‖a_i − p_i‖, so its own positive meets d = d⁺ and stays, up to rounding: put the exact one back.
    own = torch.eye(count, dtype=torch.bool, device=anchors.device)[..., None]
    pulled = torch.where(own, positives[None].to(pulled.dtype), pulled)
    rows = torch.cat([anchors.to(pulled.dtype), positives.to(pulled.dtype), pulled.reshape(-1, dimension)])
    generated = _leaving_no_trace(generator, rows, frozen=True)
    embedded = _leaving_no_trace(head, torch.cat([generated[:count], generated[2 * count :]]), frozen=False)
    return SyntheticTuples(
        pulled=pulled, rows=rows, anchors=embedded[:count], candidates=embedded[count:].reshape(count, count, -1)
    )


def _leaving_no_trace(module: nn.Module, rows: Tensor, *, frozen: bool) -> Tensor:
    """The module's output, computed on copies of its buffers; frozen, its parameters receive no gradient from it either."""
    state = {name: buffer.clone() for name, buffer in module.named_buffers()}
    if frozen:
        state |= {name: parameter.detach() for name, parameter in module.named_parameters()}
    output: Tensor = functional_call(module, state, (rows,))
    return output


def generator_losses(
    rows: Tensor, features: Tensor, labels: Tensor, *, generator: FeatureGenerator, classifier: nn.Linear
) -> tuple[Tensor, Tensor]:
    """J_recon and J_soft (section 3.3, equations 8–10), each scale-free; their gradients reach the generator alone.

    Args:
        rows: [2N + N·N, D] of :func:`synthesize`.
        features: [2N, F] real features of anchors and positives.
        labels: [N] class of each pair.
        classifier: of features; learns from real ones, not from this.

    Returns:
        J_recon, and J_soft as the mean of two means, anchors and candidates, as in the authors' code.
    """
    count = len(labels)
    generated = generator(rows.detach())
    synthetic = torch.cat([generated[:count], generated[2 * count :]])
    logits = F.linear(synthetic, classifier.weight.detach(), classifier.bias.detach())
    soft_anchors = label_loss(logits[:count], labels)
    soft_candidates = label_loss(logits[count:], labels.repeat(count))
    return reconstruction_loss(features.detach(), generated[: 2 * count]), (soft_anchors + soft_candidates) / 2
