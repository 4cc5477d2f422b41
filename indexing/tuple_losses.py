"""The metric losses of single tuples in numpy, for looking at a trained model where there is no torch.

Each is that of ``hdml.losses`` for one anchor, its positive and one negative, whose docstrings name the papers; tests hold them
to each other. A loss over a batch has more negatives to an anchor, so that these are terms of it, not its value.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Values = NDArray[np.float64]


def npair(anchors: Rows, positives: Rows, negatives: Rows) -> Values:
    return _softplus(_inner(anchors, negatives) - _inner(anchors, positives))


def triplet(anchors: Rows, positives: Rows, negatives: Rows, *, margin: float = 1.0) -> Values:
    return _relu(_distances(anchors, positives) ** 2 - _distances(anchors, negatives) ** 2 + margin)


def contrastive(anchors: Rows, positives: Rows, negatives: Rows, *, pos_margin: float = 0.0, neg_margin: float = 1.0) -> Values:
    anchors, positives, negatives = _units(anchors, positives, negatives)
    return _relu(_distances(anchors, positives) - pos_margin) + _relu(neg_margin - _distances(anchors, negatives))


def margin_loss(anchors: Rows, positives: Rows, negatives: Rows, *, margin: float = 0.2, beta: float = 1.2) -> Values:
    anchors, positives, negatives = _units(anchors, positives, negatives)
    return _relu(_distances(anchors, positives) - beta + margin) + _relu(beta - _distances(anchors, negatives) + margin)


def multi_similarity(
    anchors: Rows, positives: Rows, negatives: Rows, *, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5
) -> Values:
    anchors, positives, negatives = _units(anchors, positives, negatives)
    near = _softplus(-alpha * (_inner(anchors, positives) - base)) / alpha
    return near + _softplus(beta * (_inner(anchors, negatives) - base)) / beta


def angular(anchors: Rows, positives: Rows, negatives: Rows, *, alpha: float = 40.0) -> Values:
    anchors, positives, negatives = _units(anchors, positives, negatives)
    squared_tangent = math.tan(math.radians(alpha)) ** 2
    near = 2 * (1 + squared_tangent) * _inner(anchors, positives)
    return _softplus(4 * squared_tangent * _inner(anchors + positives, negatives) - near)


TUPLE_LOSSES: dict[str, Callable[..., Values]] = {
    "npair": npair,
    "triplet": triplet,
    "contrastive": contrastive,
    "margin": margin_loss,
    "multi-similarity": multi_similarity,
    "angular": angular,
}
"""By the names of ``hdml train --loss``: those that can be made hardness-aware."""


def violation_rule(loss: str, options: Mapping[str, float]) -> str:
    """In words, when :func:`violated` says that a negative violates the margin of a loss."""
    match loss:
        case "triplet":
            return f"d² < d⁺² + {options.get('margin', 1.0):g}, the margin of the triplet loss"
        case "contrastive":
            return f"d < {options.get('neg_margin', 1.0):g}, the negative margin of the contrastive loss"
        case "margin":
            return f"d < {options.get('beta', 1.2) + options.get('margin', 0.2):g}, boundary and margin of the margin loss"
    return f"d < d⁺, nearer than the positive; {loss} has no margin"


def violated(
    d_ap: NDArray[np.floating], d_an: NDArray[np.floating], *, loss: str, options: Mapping[str, float]
) -> NDArray[np.bool_]:
    """Whether negatives at distances d from their anchors violate the margin, where the loss has one; see violation_rule.

    Args:
        d_ap, d_an: broadcastable; of unit embeddings for a loss that sees directions.
    """
    match loss:
        case "triplet":
            return np.asarray(np.square(d_an) < np.square(d_ap) + options.get("margin", 1.0))
        case "contrastive":
            return np.asarray(d_an < np.broadcast_to(options.get("neg_margin", 1.0), np.broadcast(d_ap, d_an).shape))
        case "margin":
            boundary = options.get("beta", 1.2) + options.get("margin", 0.2)
            return np.asarray(d_an < np.broadcast_to(boundary, np.broadcast(d_ap, d_an).shape))
    return np.asarray(d_an < d_ap)


def _distances(first: Rows, second: Rows) -> Values:
    return np.asarray(np.linalg.norm(np.asarray(first, np.float64) - second, axis=-1))


def _inner(first: Rows, second: Rows) -> Values:
    return np.asarray((np.asarray(first, np.float64) * second).sum(-1))


def _units(*rows: Rows) -> tuple[Rows, ...]:
    return tuple(row / np.maximum(np.linalg.norm(row, axis=-1, keepdims=True), np.finfo(np.float32).tiny) for row in rows)


def _softplus(values: Values) -> Values:
    return np.asarray(np.logaddexp(0.0, values))


def _relu(values: Values) -> Values:
    return np.maximum(values, 0.0)
