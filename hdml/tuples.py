"""Tuples: which photos of a batch are anchors, and which is each one's positive and which are its negatives."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tuples:
    """N tuples of an anchor, its positive and its M negatives, as rows of a batch.

    Attributes:
        anchors, positives: [N].
        negatives: [N, M]; those of row i belong to anchor i alone.
    """

    anchors: Tensor
    positives: Tensor
    negatives: Tensor

    def to(self, device: torch.device) -> "Tuples":
        """The same tuples on a device."""
        return Tuples(*(rows.to(device, non_blocking=True) for rows in (self.anchors, self.positives, self.negatives)))

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Anchors [N, D], positives [N, D] and negatives [N, M, D] among the rows [B, D] of a batch."""
        return rows[self.anchors], rows[self.positives], rows[self.negatives]


def pair_tuples(labels: Tensor) -> Tuples:
    """The tuples of an N-pair batch: each class's second photo is the positive of its first and a negative of all other firsts.

    Args:
        labels: [2N], two photos of each of N classes in any order.

    Raises:
        ValueError: a class has not exactly two photos.
    """
    same = labels[:, None] == labels[None]
    counts = same.sum(1)
    if not bool((counts == 2).all()):
        odd = int(torch.nonzero(counts != 2)[0, 0])
        raise ValueError(
            f"every class of a batch must have exactly 2 photos, but class {labels[odd].item()} has {counts[odd].item()}; "
            "draw pairs, for example with pytorch-metric-learning's MPerClassSampler(labels, m=2, batch_size=...)"
        )
    partner = (same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)).int().argmax(1)
    first = torch.nonzero(partner > torch.arange(len(labels), device=labels.device))[:, 0]
    second = partner[first]
    count = len(first)
    others = ~torch.eye(count, dtype=torch.bool, device=labels.device)
    return Tuples(first, second, second.expand(count, count)[others].reshape(count, count - 1))


def triplet_tuples(labels: Tensor) -> Tuples:
    """The disjoint triplets of a batch in thirds: anchors [N], their positives [N], and one negative of each [N].

    Args:
        labels: [3N] classes of the three thirds.

    Raises:
        ValueError: the labels are no thirds, a positive is of another class than its anchor, or a negative of the same.
    """
    if len(labels) % 3:
        raise ValueError(f"a batch of triplets must fall into thirds, but has {len(labels)} photos")
    anchors, positives, negatives = labels.chunk(3)
    wrong = (anchors != positives) | (anchors == negatives)
    if bool(wrong.any()):
        row = int(torch.nonzero(wrong)[0, 0])
        found = [part[row].item() for part in (anchors, positives, negatives)]
        raise ValueError(f"anchor and positive must share a class that the negative has not, but triplet {row} is of {found}")
    rows = torch.arange(len(labels), device=labels.device).reshape(3, -1)
    return Tuples(rows[0], rows[1], rows[2][:, None])
