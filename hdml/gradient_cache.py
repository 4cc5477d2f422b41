"""Batches beyond memory: the backbone takes a chunk of photos at a time, and the loss still sees the whole batch.

L. Gao, Y. Zhang, J. Han, J. Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021
(arXiv:2101.06983). Accumulating gradients over small batches instead would change the negatives.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hdml.synthesis import leaving_no_trace


def features_in_chunks(backbone: nn.Module, images: Tensor, chunk: int | None) -> Tensor:
    """[B, F] features of [B, 3, H, W], of which only one chunk's activations are ever held.

    Each chunk passes the backbone without a graph, and once more when the gradient of its features is known, with the random
    numbers of the first time. Backward takes the chunks one after the other, the last first, after all that the features went
    into: this is torch's activation checkpointing around whole passes. BatchNorm that is not frozen normalises each chunk by
    itself, and its running statistics learn from each chunk once, in the first pass.

    Args:
        chunk: photos in one pass; None takes all of them at once, and keeps their activations.
    """
    if chunk is None or chunk >= len(images):
        features: Tensor = backbone(images)
        return features
    passes = [checkpoint(_twice(backbone), part, use_reentrant=False) for part in torch.split(images, chunk)]
    return torch.cat(passes)


def _twice(backbone: nn.Module) -> Callable[[Tensor], Tensor]:
    """The backbone; when called again, on copies of its buffers."""
    passed = False

    def run(images: Tensor) -> Tensor:
        nonlocal passed
        if passed:
            return leaving_no_trace(backbone, images, frozen=False)
        passed = True
        features: Tensor = backbone(images)
        return features

    return run
