"""More like this, less like that: a query moved among embeddings by examples that a person has picked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexing.errors import HdmlError

_LEAST_LENGTH = 1e-6  # of a sum of unit vectors; what is shorter is made of rounding errors


@dataclass(frozen=True)
class Weights:
    """How much each part of a query counts: what it began with (α), the mean of ``more`` (β) and that of ``less`` (γ).

    The defaults are those that Manning, Raghavan and Schütze call reasonable (Introduction to Information Retrieval, 2008,
    section 9.1.1): what somebody wants says more than what somebody does not want.

    Raises:
        HdmlError: one is negative, or not finite.
    """

    query: float = 1.0
    more: float = 0.75
    less: float = 0.15

    def __post_init__(self) -> None:
        for weight in (self.query, self.more, self.less):
            if not 0 <= weight < np.inf:
                raise HdmlError(f"the weights of a query and of its examples must be 0 or more and finite, not {weight}")


DEFAULT_WEIGHTS = Weights()


def rocchio(
    query: NDArray[np.float32] | None,
    more: Sequence[NDArray[np.float32]],
    less: Sequence[NDArray[np.float32]],
    weights: Weights = DEFAULT_WEIGHTS,
) -> NDArray[np.float32]:
    """Move a query towards the examples that it should be like, and away from those that it should not be like.

    The new query is ``α query + β mean(more) − γ mean(less)``, made one long (J. J. Rocchio, "Relevance feedback in information
    retrieval", 1971; Manning et al., Introduction to Information Retrieval, 2008, section 9.1.1). Coordinates below 0 stay,
    unlike those of word counts: embeddings have both signs.

    Args:
        query: [D] of unit length; None where examples alone say what is wanted.
        more, less: [D] each, of unit length; where there are none, that part is left out.
        weights: α, β and γ.

    Returns:
        [D], of unit length.

    Raises:
        HdmlError: the parts cancel out, or weigh nothing, so that no direction is left.
    """
    parts = (([] if query is None else [query], weights.query), (more, weights.more), (less, -weights.less))
    moved = np.sum([weight * np.mean(vectors, axis=0, dtype=np.float64) for vectors, weight in parts if len(vectors)], axis=0)
    length = np.linalg.norm(moved)
    if length <= _LEAST_LENGTH * max(weights.query, weights.more, weights.less):
        raise HdmlError("a query and its examples must leave a direction to search in, but they cancel out; take other examples")
    return np.asarray(moved / length, np.float32)
