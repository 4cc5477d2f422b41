"""Labels that are probably wrong: the nearest photos, and a linear classifier that has not seen the photo, both say another one.

Neighbours alone do badly under an encoder that was not trained on such photos, and a classifier alone where classes are no blobs;
a label is doubted where both prefer another. The classifier is ridge regression on the classes' indicators, in closed form, so
that what it says of a photo that is left out costs no second fit (D. M. Allen, "The relationship between variable selection and
data augmentation and a method for prediction", Technometrics 16, 1974); its penalty is the one that predicts left-out photos
best. Labels are ranked by the normalised margin, how much likelier than the given label the likeliest other is (C. G. Northcutt,
L. Jiang and I. L. Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70, 2021).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pages = Callable[[], Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]]
"""Positions [m] and vectors [m, D] of some photos at a time, as often as they are wanted."""

SMALLEST_CLASS = 3  # different photos; of a smaller one nobody can say what it looks like
DOUBT = 0.2  # of 1, from which on a label is told as probably wrong
_VOTERS = 15
_SHARPNESS = 20.0  # of votes, per unit of cosine similarity
_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_EVIDENCE = 3  # photos of the suggested label, and as many of the given one


@dataclass(frozen=True)
class LabelDoubt:
    """A label that is probably wrong.

    Attributes:
        place: position of the photo.
        suggested: number of the class that is likelier.
        doubt: how much likelier, 0..1, the lower of what the neighbours and the classifier say.
        for_suggested, for_given: positions of the nearest photos of both classes among the neighbours, the nearest first.
    """

    place: int
    suggested: int
    doubt: float
    for_suggested: tuple[int, ...]
    for_given: tuple[int, ...]


def find_label_errors(
    labels: NDArray[np.int64], contents: NDArray[np.int64], places: NDArray[np.int64], scores: NDArray[np.float32], pages: Pages
) -> list[LabelDoubt]:
    """Photos whose labels are probably wrong, the most doubtful first.

    Args:
        labels: [n] number of each photo's class, −1 for none.
        contents: [n] equal for duplicates, which are no evidence for one another.
        places, scores: [n, k] positions and similarities of each photo's nearest others, −1 and −∞ where there are no more.
        pages: vectors of the photos.
    """
    classes = int(labels.max(initial=-1)) + 1
    pairs = np.unique(np.stack([labels, contents], axis=1), axis=0)
    large = np.bincount(pairs[pairs[:, 0] >= 0, 0], minlength=classes) >= SMALLEST_CLASS
    if large.sum() < 2:
        return []
    asked = np.flatnonzero((labels >= 0) & large[labels])
    classifier = _fit(labels, classes, pages)
    voters = distinct_neighbours(places, contents)
    doubts = []
    for page, linear in classifier():
        rows = np.flatnonzero(np.isin(page, asked))
        votes = _votes(labels, voters[page[rows]], scores[page[rows]], classes)
        margins = [_margins(said, labels[page[rows]]) for said in (votes, linear[rows])]
        suggested = _margins(votes + linear[rows], labels[page[rows]])[1]
        doubt = np.minimum(margins[0][0], margins[1][0])
        for at in np.flatnonzero(doubt >= DOUBT).tolist():
            place, better = int(page[rows[at]]), int(suggested[at])
            near = [int(other) for other in voters[place] if other >= 0]
            for_suggested, for_given = (
                tuple(other for other in near if labels[other] == label)[:_EVIDENCE] for label in (better, labels[place])
            )
            doubts.append(LabelDoubt(place, better, float(doubt[at]), for_suggested, for_given))
    return sorted(doubts, key=lambda found: (-found.doubt, found.place))


def distinct_neighbours(places: NDArray[np.int64], contents: NDArray[np.int64]) -> NDArray[np.int64]:
    """[n, k] positions of each photo's neighbours, −1 in place of its duplicates and of all but one of each other content."""
    own = np.where(places >= 0, contents[places], -1)
    distinct = np.where((own >= 0) & (own != contents[:, None]), places, -1)
    for column in range(1, places.shape[1]):
        repeated = (own[:, :column] == own[:, column : column + 1]).any(1)
        distinct[repeated, column] = -1
    return distinct


def _votes(
    labels: NDArray[np.int64], voters: NDArray[np.int64], scores: NDArray[np.float32], classes: int
) -> NDArray[np.float64]:
    """[m, classes] share of the votes of each photo's nearest, the nearer the more."""
    known = (voters >= 0) & (labels[voters] >= 0)
    known &= known.cumsum(1) <= _VOTERS
    weights = np.where(known, np.exp(_SHARPNESS * (np.where(known, scores, -1) - 1)), 0)
    votes = np.zeros((len(voters), classes))
    for column in range(voters.shape[1]):
        np.add.at(votes, (np.arange(len(voters)), np.maximum(labels[voters[:, column]], 0)), weights[:, column])
    shares: NDArray[np.float64] = votes / np.maximum(votes.sum(1, keepdims=True), np.finfo(float).tiny)
    return shares


def _margins(said: NDArray[np.float64], given: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How much more is said for the likeliest other class than for the given one, and which class that is."""
    rows = np.arange(len(said))
    others = said.copy()
    others[rows, given] = -np.inf
    return others.max(1, initial=-np.inf) - said[rows, given], others.argmax(1)


def _fit(
    labels: NDArray[np.int64], classes: int, pages: Pages
) -> Callable[[], Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]]:
    """A function that gives, by pages, positions [m] and what the classifier says of each if it is left out [m, classes]."""
    mean, shares, inner, cross, count = _moments(labels, classes, pages)
    values, axes = np.linalg.eigh(inner)
    turned = axes.T @ cross

    def said(penalty: float) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        damped = 1 / (np.maximum(values, 0) + penalty)
        coefficients = damped[:, None] * turned
        for page, vectors in pages():
            labelled = labels[page] >= 0
            page, along = page[labelled], (vectors[labelled] - mean) @ axes
            truth = _indicators(labels[page], classes) - shares
            leverage = (along**2 @ damped + 1 / count)[:, None]
            yield page, (along @ coefficients - leverage * truth) / (1 - leverage) + shares

    def misses(penalty: float) -> float:
        return sum(float(np.square(_indicators(labels[page], classes) - told).sum()) for page, told in said(penalty))

    best = min(_PENALTIES, key=misses)
    return lambda: said(best)


def _moments(
    labels: NDArray[np.int64], classes: int, pages: Pages
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], int]:
    """Of the photos with labels: mean vector, shares of the classes, centred X'X [D, D] and X'Y [D, classes], number."""
    total: NDArray[np.float64] | None = None
    for page, vectors in pages():
        labelled = labels[page] >= 0
        x, y = vectors[labelled].astype(np.float64), _indicators(labels[page[labelled]], classes)
        row = np.concatenate([np.ones((len(x), 1)), x], axis=1)
        sums = row.T @ np.concatenate([row, y], axis=1)
        total = sums if total is None else total + sums
    assert total is not None  # there are labels
    count, dimension = total[0, 0], len(total) - 1
    mean, shares = total[0, 1 : dimension + 1] / count, total[0, dimension + 1 :] / count
    inner = total[1:, 1 : dimension + 1] - count * np.outer(mean, mean)
    cross = total[1:, dimension + 1 :] - count * np.outer(mean, shares)
    return mean, shares, inner, cross, int(count)


def _indicators(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    return np.asarray(labels[:, None] == np.arange(classes), np.float64)
