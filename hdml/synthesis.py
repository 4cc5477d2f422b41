"""Hardness-aware synthesis: pull negatives towards their anchor, generate features from them, and embed these again.

W. Zheng, Z. Chen, J. Lu, J. Zhou, "Hardness-Aware Deep Metric Learning", CVPR 2019 (arXiv:1903.05503).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hdml.losses import length
from hdml.model import FeatureGenerator
from hdml.tuples import Tuples


def pulling_share(metric_loss_avg: Tensor, alpha: float) -> Tensor:
    """λ = exp(−α / J_avg), the share of the way from d⁺ to d that a pulled negative keeps (section 3.2, equation 4).

    1 (no pull) for an infinite J_avg, 0 (as near as the positive) for J_avg = 0.
    """
    return _exp_of_ratio(metric_loss_avg, alpha)


def real_weight(generator_loss_avg: Tensor, beta: float) -> Tensor:
    """exp(−β / J_gen): the weight of the real tuples; the worse the generator, the nearer to 1 (section 3.3, equation 12)."""
    return _exp_of_ratio(generator_loss_avg, beta)


def _exp_of_ratio(average: Tensor, factor: float) -> Tensor:
    return torch.where(average > 0, torch.exp(-factor / average), 0.0)


def pull_negatives(anchors: Tensor, positives: Tensor, negatives: Tensor, share: float | Tensor) -> Tensor:
    """Move each negative towards its anchor, never closer than the positive is.

    With d⁺ = ‖a − p‖ and d = ‖a − n‖, a negative with d > d⁺ goes to distance λ·d + (1−λ)·d⁺ on its segment; one that is at
    least as close as the positive stays where it is (section 3.2, equations 2–4). Gradients flow through all three arguments,
    distances included. Computed in float32 or better whatever the autocast.

    Args:
        anchors, positives, negatives: [..., D], broadcastable; need not be normalised.
        share: λ in [0, 1], from :func:`pulling_share`; a tensor is not checked, which would wait for the device.

    Returns:
        [..., D], the pulled negatives.

    Raises:
        ValueError: the share is a number outside [0, 1].
    """
    anchors, positives, negatives = _checked(anchors, positives, negatives, share)
    offset = negatives - anchors
    d_an, d_ap = length(offset), length(positives - anchors)
    # 0/0 in the branch that `where` does not take would survive it as a NaN in the gradient; that is why no length is 0.
    pulled = anchors + offset * ((share * d_an + (1 - share) * d_ap) / d_an)
    return torch.where(d_an > d_ap, pulled, negatives)


def pull_on_sphere(anchors: Tensor, positives: Tensor, negatives: Tensor, share: float | Tensor) -> Tensor:
    """:func:`pull_negatives` for unit embeddings: the same distances, along the great circle instead of the segment.

    A point of the segment is shorter than one, and a loss that normalises would move it back out, to another distance; here the
    distance that the equations ask for is the distance that the loss sees.
    """
    anchors, positives, negatives = _checked(anchors, positives, negatives, share)
    d_an, d_ap = length(negatives - anchors), length(positives - anchors)
    target = share * d_an + (1 - share) * d_ap
    cosine = 1 - target.square() / 2
    # At the anchor itself or opposite to it the sine is 0, where a square root has no gradient.
    sine = (1 - cosine.square()).clamp_min(torch.finfo(cosine.dtype).eps).sqrt()
    across = negatives - (negatives * anchors).sum(-1, keepdim=True) * anchors
    pulled = cosine * anchors + sine * across / length(across)
    return torch.where(d_an > d_ap, pulled, negatives)


def _checked(anchors: Tensor, positives: Tensor, negatives: Tensor, share: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if isinstance(share, float) and not 0.0 <= share <= 1.0:
        raise ValueError(f"the pulling share must lie in [0, 1], got {share}")
    wide = torch.promote_types(negatives.dtype, torch.float32)
    return anchors.to(wide), positives.to(wide), negatives.to(wide)


@dataclass(frozen=True)
class SyntheticTuples:
    """What the tuples of a batch become.

    Attributes:
        pulled: [N, M, D]; ``pulled[i, j]`` is negative j of anchor i, pulled towards it.
        rows: [B + N·M, D] what the generator was given: the batch, then the pulled ones.
        anchors, positives: [N, D] re-embedded.
        negatives: [N, M, D] re-embedded; block i belongs to anchor i alone.
    """

    pulled: Tensor
    rows: Tensor
    anchors: Tensor
    positives: Tensor
    negatives: Tensor


def synthesize(
    embeddings: Tensor,
    tuples: Tuples,
    *,
    generator: FeatureGenerator,
    head: nn.Module,
    share: Tensor,
    on_sphere: bool = False,
    trace: bool = False,
    residual_of: Tensor | None = None,
) -> SyntheticTuples:
    """Synthetic tuples: every negative pulled towards its anchor, then every member generated and embedded again (section 3.3).

    Anchor and positive pass the generator too. The generator's BatchNorm sees real and synthetic rows together; the head's sees
    the synthetic ones as a batch of their own. Gradients run back through the generator but not into it.

    Args:
        embeddings: [B, D] of the batch.
        share: λ in [0, 1], a scalar or one of each negative [N, M, 1].
        on_sphere: embeddings are of unit length, and pulled ones stay so.
        trace: whether the head's running statistics learn from synthetic rows (docs/decisions/batchnorm.md).
        residual_of: [B, F] real features, to which the generator's step from z to ẑ is added; None takes its output as it is.
    """
    pulled, rows, generated = generate(
        embeddings, tuples, generator=generator, share=share, on_sphere=on_sphere, residual_of=residual_of
    )
    members = synthetic_members(tuples, len(rows))
    embedded = head(generated[members]) if trace else leaving_no_trace(head, generated[members], frozen=False)
    count = len(tuples.anchors)
    return SyntheticTuples(
        pulled=pulled,
        rows=rows,
        anchors=embedded[:count],
        positives=embedded[count : 2 * count],
        negatives=embedded[2 * count :].unflatten(0, pulled.shape[:2]),
    )


def generate(
    embeddings: Tensor,
    tuples: Tuples,
    *,
    generator: FeatureGenerator,
    share: Tensor,
    on_sphere: bool = False,
    residual_of: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The first half of :func:`synthesize`: pulled negatives [N, M, D], the generator's rows [B + N·M, D] and its features."""
    anchors, positives, negatives = tuples.of(embeddings)
    pull = pull_on_sphere if on_sphere else pull_negatives
    pulled = pull(anchors[:, None], positives[:, None], negatives, share)
    rows = torch.cat([embeddings.to(pulled.dtype), pulled.flatten(0, 1)])
    generated = leaving_no_trace(generator, rows, frozen=True)
    if residual_of is not None:
        generated = residual_features(generated, residual_of, tuples)
    return pulled, rows, generated


def synthetic_members(tuples: Tuples, rows: int) -> Tensor:
    """Positions of the synthetic anchors [N], positives [N] and negatives [N·M], in this order, among the generator's rows."""
    pulled = tuples.negatives.numel()
    return torch.cat([tuples.anchors, tuples.positives, torch.arange(rows - pulled, rows, device=tuples.anchors.device)])


def residual_features(generated: Tensor, features: Tensor, tuples: Tuples) -> Tensor:
    """[B + N·M, F] y of the batch, and for every pulled negative y + i(ẑ) − i(z): what it was, moved by what the pull changes."""
    batch, source = len(features), tuples.negatives.flatten()
    moved = features[source] + generated[batch:] - generated[source]
    return torch.cat([features, moved])


def leaving_no_trace(module: nn.Module, rows: Tensor, *, frozen: bool) -> Tensor:
    """The module's output, computed on copies of its buffers; frozen, its parameters receive no gradient from it either."""
    state = {name: buffer.clone() for name, buffer in module.named_buffers()}
    if frozen:
        state |= {name: parameter.detach() for name, parameter in module.named_parameters()}
    output: Tensor = functional_call(module, state, (rows,))
    return output
