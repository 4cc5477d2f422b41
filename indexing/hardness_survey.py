"""What a model's synthesis makes of a whole label or gallery: labels kept, how much harder, losses; and where to look first.

Every anchor has the tuples that the lens shows of it: its nearest positive, and the nearest photo of each of the nearest other
labels, pulled at the model's own λ.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexing.hardness import NEGATIVES, HardnessLens, NoLens
from indexing.hardness_photos import Photos
from indexing.tuple_losses import violation_rule

ANCHORS = 256
BINS = 24
_FIRST = 12  # of the anchors and pairs of labels to look at first
_COMPARED_AT_A_TIME = 64  # anchors with all photos

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Tuples:
    """Tuples of some anchors, one a row, and what became of them at the model's own λ.

    Attributes:
        anchors, positives, negatives: [T] positions among the photos.
        d_ap, d_an: [T] distances of the positive and of the real negative from their anchor.
        reembedded: [T] of the synthetic from the anchor that is generated and embedded again as well.
        losses, synthetic_losses: [T] of the real tuple and of the re-embedded one, each by itself.
        violations, synthetic_violations: [T] whether they violate the margin.
        kept: [T] whether the real photo nearest to the synthetic has the negative's label.
    """

    anchors: NDArray[np.int64]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    d_ap: Numbers
    d_an: Numbers
    reembedded: Numbers
    losses: Numbers
    synthetic_losses: Numbers
    violations: NDArray[np.bool_]
    synthetic_violations: NDArray[np.bool_]
    kept: NDArray[np.bool_]

    @property
    def gains(self) -> Numbers:
        """How much nearer the synthetic is to its anchor than the real negative is to the real one, as a share of that distance;
        below 0 it is farther."""
        return 1 - self.reembedded / np.maximum(self.d_an, np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Histogram:
    """Counts [b] of values between edges [b + 1]."""

    edges: list[float]
    counts: list[int]


@dataclass(frozen=True)
class Shares:
    """Means over some tuples.

    Attributes:
        tuples: their number.
        kept: share whose synthetic keeps its label.
        gain: mean of ``Tuples.gains``.
        harder: share whose synthetic is nearer than its real negative.
        loss, synthetic_loss: means.
        violations, synthetic_violations: shares.
    """

    tuples: int
    kept: float
    gain: float
    harder: float
    loss: float
    synthetic_loss: float
    violations: float
    synthetic_violations: float


@dataclass(frozen=True)
class OfLabel:
    """The means over the tuples of the anchors of a label."""

    label: str
    means: Shares


@dataclass(frozen=True)
class Start:
    """An anchor worth a look: the photo, the negative's label that makes it so, and the figure."""

    id: int
    path: str
    label: str
    other: str
    value: float


@dataclass(frozen=True)
class Survey:
    """What became of the tuples of a label's anchors, or of those of all labels.

    Attributes:
        label: None for all.
        anchors: number of anchors, evenly spaced by id where there are more than ANCHORS.
        of: number of photos that could be anchors.
        share: λ, the model's own.
        violation: in words, when a negative violates the margin.
        loss: name of the loss.
        means: over all tuples.
        labels: over those of each label, the fewest labels kept first.
        gains, losses, synthetic_losses: distributions, the last two over the same edges.
        hardest: the anchors with the highest real loss of a tuple, which is the value; one of each label.
        pulled: the same among the anchors of which all negatives are farther than the positive, so that all are pulled.
        confused: of the pairs of labels with the most real violations, the share of which is the value, the anchor with the
            highest loss.
    """

    label: str | None
    anchors: int
    of: int
    share: float
    violation: str
    loss: str
    means: Shares
    labels: list[OfLabel]
    gains: Histogram
    losses: Histogram
    synthetic_losses: Histogram
    hardest: list[Start]
    pulled: list[Start]
    confused: list[Start]


def survey(lens: HardnessLens, label: str | None = None) -> Survey:
    """Survey the anchors of a label, or of all labels.

    Raises:
        NoLens: no photo has the label, or no label has two photos, or there is no other label.
    """
    photos = lens.photos()
    possible = possible_anchors(photos, label, name=lens.opened.name)
    count = min(len(possible), ANCHORS)
    found = hard_tuples(lens, photos, possible[np.arange(count) * len(possible) // count])
    labels = np.array([photos.items[i].label for i in found.anchors], object)
    everything = np.concatenate([found.losses, found.synthetic_losses])
    edges = np.histogram_bin_edges(everything, BINS)
    return Survey(
        label=label,
        anchors=count,
        of=len(possible),
        share=lens.synthesizer.pulling_share,
        violation=violation_rule(lens.synthesizer.loss, lens.synthesizer.loss_options),
        loss=lens.synthesizer.loss,
        means=means_of(found, np.ones(len(labels), bool)),
        labels=sorted(
            (OfLabel(str(one), means_of(found, labels == one)) for one in sorted(set(labels))),
            key=lambda of: (of.means.kept, of.label),
        ),
        gains=_histogram(found.gains, np.histogram_bin_edges(found.gains, BINS)),
        losses=_histogram(found.losses, edges),
        synthetic_losses=_histogram(found.synthetic_losses, edges),
        hardest=_hardest(photos, found, np.ones(len(labels), bool)),
        pulled=_hardest(photos, found, ~np.isin(found.anchors, found.anchors[found.d_an <= found.d_ap])),
        confused=_confused(photos, found),
    )


def possible_anchors(photos: Photos, label: str | None, *, name: str) -> NDArray[np.int64]:
    """Positions of the photos that can be anchors: their label has another photo, and there is another label."""
    counts = np.bincount(photos.label_numbers[photos.label_numbers >= 0], minlength=len(photos.labels))
    if len(counts) < 2:
        raise NoLens(f"the photos of the index {name} must have two labels at least, one for negatives, but have {len(counts)}.")
    if label is not None and label not in photos.labels:
        raise NoLens(f"no photo of the index {name} has the label {label}.")
    wanted = counts >= 2
    if label is not None:
        wanted &= np.array([each == label for each in photos.labels])
    possible = np.flatnonzero((photos.label_numbers >= 0) & wanted[photos.label_numbers])
    if len(possible) == 0:
        raise NoLens(f"{'no label' if label is None else label} of the index {name} has two photos; anchors need a positive.")
    return possible


def hard_tuples(lens: HardnessLens, photos: Photos, anchors: NDArray[np.int64]) -> Tuples:
    """The tuples of some anchors (positions), and what becomes of them."""
    of, positives, negatives = nearest_by_label(photos, anchors)
    centres, near, real = photos.vectors[of], photos.vectors[positives], photos.vectors[negatives]
    _, synthetic = lens.synthesizer.synthesize(centres, near, real)
    again = lens.again(centres)
    losses, violations = lens.tuple_losses(centres, near, real)
    synthetic_losses, synthetic_violations = lens.tuple_losses(again, lens.again(near), synthetic)
    found = photos.search(synthetic, 1)
    kept = [photos.items[row[0][0]].label == photos.items[i].label for row, i in zip(found, negatives, strict=True)]
    return Tuples(
        anchors=of,
        positives=positives,
        negatives=negatives,
        d_ap=np.linalg.norm(near - centres, axis=1).astype(np.float64),
        d_an=np.linalg.norm(real - centres, axis=1).astype(np.float64),
        reembedded=np.linalg.norm(synthetic - again, axis=1).astype(np.float64),
        losses=losses,
        synthetic_losses=synthetic_losses,
        violations=violations,
        synthetic_violations=synthetic_violations,
        kept=np.array(kept, bool),
    )


def nearest_by_label(
    photos: Photos, anchors: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Anchor, nearest positive and nearest photo of each of the NEGATIVES nearest other labels: positions, one tuple a row."""
    order = np.argsort(photos.label_numbers, kind="stable")
    order = order[photos.label_numbers[order] >= 0]
    starts = np.searchsorted(photos.label_numbers[order], np.arange(len(photos.labels)))
    ends = np.append(starts[1:], len(order))
    sorted_vectors = photos.vectors[order] - photos.vectors.mean(axis=0)
    squares = np.square(sorted_vectors).sum(1)
    rows = []
    for first in range(0, len(anchors), _COMPARED_AT_A_TIME):
        some = anchors[first : first + _COMPARED_AT_A_TIME]
        # Squared distances but for the anchor's own length, which orders nothing.
        distances = squares - 2 * (photos.vectors[some] - photos.vectors.mean(axis=0)) @ sorted_vectors.T
        distances[some[:, None] == order[None]] = np.inf
        nearest = np.minimum.reduceat(distances, starts, axis=1)
        for anchor, row, of_labels in zip(some, distances, nearest, strict=True):
            own = photos.label_numbers[anchor]
            of_labels[own] = np.inf
            positive = order[starts[own] + row[starts[own] : ends[own]].argmin()]
            for label in np.argsort(of_labels, kind="stable")[: min(NEGATIVES, len(starts) - 1)]:
                negative = order[starts[label] + row[starts[label] : ends[label]].argmin()]
                rows.append((anchor, positive, negative))
    of, positives, negatives = np.array(rows, np.int64).T
    return of, positives, negatives


def means_of(found: Tuples, where: NDArray[np.bool_]) -> Shares:
    """The means over some of the tuples, at least one."""
    gains = found.gains[where]
    return Shares(
        tuples=int(where.sum()),
        kept=float(found.kept[where].mean()),
        gain=float(gains.mean()),
        harder=float((gains > 0).mean()),
        loss=float(found.losses[where].mean()),
        synthetic_loss=float(found.synthetic_losses[where].mean()),
        violations=float(found.violations[where].mean()),
        synthetic_violations=float(found.synthetic_violations[where].mean()),
    )


def _histogram(values: Numbers, edges: Numbers) -> Histogram:
    counts, _ = np.histogram(values, edges)
    return Histogram([float(edge) for edge in edges], [int(count) for count in counts])


def _hardest(photos: Photos, found: Tuples, where: NDArray[np.bool_]) -> list[Start]:
    starts: dict[str, Start] = {}
    for row in np.argsort(-found.losses, kind="stable"):
        if not where[row]:
            continue
        start = _start(photos, found, int(row), float(found.losses[row]))
        starts.setdefault(start.label, start)
        if len(starts) == _FIRST:
            break
    return list(starts.values())


def _confused(photos: Photos, found: Tuples) -> list[Start]:
    """Pairs of labels by how many of an anchor label's photos have a violating negative of the other, most first."""
    pairs: dict[tuple[int, int], list[int]] = {}
    for row in range(len(found.anchors)):
        pair = int(photos.label_numbers[found.anchors[row]]), int(photos.label_numbers[found.negatives[row]])
        pairs.setdefault(pair, []).append(row)
    anchors = {label: len(set(found.anchors[_rows_of(photos, found, label)])) for label, _ in pairs}
    starts = []
    for (label, _), rows in pairs.items():
        value = float(found.violations[rows].sum()) / anchors[label]
        if value > 0:
            hardest = max(rows, key=lambda row: float(found.losses[row]))
            starts.append(_start(photos, found, hardest, value))
    return sorted(starts, key=lambda start: (-start.value, start.label, start.other))[:_FIRST]


def _rows_of(photos: Photos, found: Tuples, label: int) -> NDArray[np.bool_]:
    return np.asarray(photos.label_numbers[found.anchors] == label)


def _start(photos: Photos, found: Tuples, row: int, value: float) -> Start:
    item, negative = photos.items[found.anchors[row]], photos.items[found.negatives[row]]
    return Start(item.id, item.path, str(item.label), str(negative.label), value)
