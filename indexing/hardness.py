"""The hardness lens: one anchor, its positive, its hard negatives, and what a trained model's synthesis makes of them at every λ.

All distances are Euclidean, in the space in which the run pulled negatives (arXiv:1903.05503, section 3.2): between unnormalised
embeddings (the unit vectors of the catalogue times their norms), or between the unit vectors when its loss sees directions. The
nearest real photos of a synthetic are compared exactly, by cosine similarity.

What is generated and embedded again passes the generator and the head as exported: at inference, with running statistics. The
losses of training are of the same networks with the statistics of each batch, so that its distances are near these, not equal.
"""

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from indexing.encoder import read_metadata
from indexing.errors import HdmlError
from indexing.hardness_photos import Photos, Point, read_photos
from indexing.items import Item
from indexing.projection import Projection
from indexing.search import OpenIndex
from indexing.synthesizer import SYNTHESIZER, Probed, ProbeLook, Stage, Synthesizer, Training, Vectors
from indexing.tsne import Tsne, has_tsne
from indexing.tuple_losses import violated, violation_rule

NEGATIVES = 6
NEIGHBORS = 48
NEAREST = 3
STEPS = 100  # of λ, from 0 to 1

MapKind = Literal["pca", "tsne"]


class NoLens(HdmlError):
    """This index or this anchor can have no lens; the message says why and what to do."""


@dataclass(frozen=True)
class Photo:
    """A real photo as the anchor sees it: how far, and where it lies on the map."""

    id: int
    path: str
    label: str | None
    distance: float
    at: Point


@dataclass(frozen=True)
class Negative:
    """A hard negative, and what becomes of it at each λ of ``Look.shares``.

    Attributes:
        photo: the real negative; its distance is d.
        loss: the run's loss of the tuple of anchor, positive and this negative, by itself.
        violates: whether it violates the margin there, see ``Look.violation``.
        pulled: distances from the anchor to the pulled negative.
        distances: from the anchor to the synthetic, which is generated from the pulled negative and embedded again.
        reembedded: from the anchor, once that is generated and embedded again too, to the synthetic: what J_syn sees.
        losses, violations: of the tuple of re-embedded anchor, positive and synthetic.
        nearest: ids and scores of the real photos nearest to the synthetic by cosine similarity, best first, the anchor possibly
            among them.
        label_kept: whether the first of them has the negative's label.
        pulled_at, at: places of the pulled negative and of the synthetic on the map.
    """

    photo: Photo
    loss: float
    violates: bool
    pulled: list[float]
    distances: list[float]
    reembedded: list[float]
    losses: list[float]
    violations: list[bool]
    nearest: list[list[tuple[int, float]]]
    label_kept: list[bool]
    pulled_at: list[Point]
    at: list[Point]


@dataclass(frozen=True)
class Name:
    """What is known of a photo that is one of the nearest."""

    path: str
    label: str | None


@dataclass(frozen=True)
class Look:
    """All that the lens shows around one anchor.

    Attributes:
        anchor: the centre, at distance 0.
        positive: the photo of the anchor's label that negatives are pulled as near as; its distance is d⁺.
        positives: the NEIGHBORS nearest other photos of the anchor's label, nearest first.
        negatives: the nearest photo of each of the nearest other labels, nearest first.
        neighbors: the photos nearest to the anchor, whatever their label.
        names: of the photos that any synthetic is near, by id.
        reembedded_positive: distance between anchor and positive when both are generated and embedded again.
        shares: values of λ from 0 to 1, ascending, the model's own among them.
        own: position of the model's own λ among them.
        loss: the metric loss that the run was trained with.
        violation: in words, when a negative violates the margin.
        on_sphere: whether distances are between unit embeddings.
        training: λ over the run; None where the synthesizer does not know.
        map: on which kind of map the places are.
    """

    anchor: Photo
    positive: Photo
    positives: list[Photo]
    negatives: list[Negative]
    neighbors: list[Photo]
    names: dict[int, Name]
    reembedded_positive: float
    shares: list[float]
    own: int
    loss: str
    violation: str
    on_sphere: bool
    training: "Course | None"
    map: MapKind


@dataclass(frozen=True)
class Course:
    """λ over a run: its steps in all, those done when the model was, and the stages, earliest first."""

    steps: int
    chosen: int
    stages: list[Stage]


@dataclass(frozen=True)
class Dot:
    """A photo on the map."""

    id: int
    path: str
    label: str | None
    at: Point


@dataclass(frozen=True)
class Map:
    """The gallery on a plane.

    Attributes:
        kind: the plane of its two principal components, or one where neighbours stay together (t-SNE).
        dots: photos, evenly spaced by id where there are more than MAPPED.
        photos: number of photos in the index.
        share: part of the variance that lies in the plane of principal components; None on another map.
        trustworthiness: of the dots, see :func:`indexing.projection.trustworthiness`; None for too few. Neighbours in truth are
            those by the ruler's distances for principal components, and those by cosine similarity for t-SNE.
    """

    kind: MapKind
    dots: list[Dot]
    photos: int
    share: float | None
    trustworthiness: float | None


@dataclass(frozen=True)
class ProbePhoto:
    """A photo of a probe tuple; id and path are None where this index does not hold it."""

    id: int | None
    path: str | None
    label: str


@dataclass(frozen=True)
class Replay:
    """What became of a run's probe tuples, from its first step to its last.

    Attributes:
        steps, chosen: of the run, and those done when the model was.
        tuples: anchor, positive and negative of each.
        looks: earliest first.
    """

    steps: int
    chosen: int
    tuples: list[tuple[ProbePhoto, ProbePhoto, ProbePhoto]]
    looks: list[ProbeLook]


class HardnessLens:
    """The lens of one open index; several threads may look at once.

    Attributes:
        opened: the index.
        model: fingerprint of the encoder that it is of; an index that has been changed over to another needs another lens.
        synthesizer: the index's own.
    """

    def __init__(self, opened: OpenIndex) -> None:
        """Raises NoLens when the index has no synthesizer, and HdmlError when it has a damaged or a foreign one."""
        self.model = opened.present().model
        path = opened.catalogue.encoder_of(self.model).with_name(SYNTHESIZER)
        if not path.is_file():
            raise NoLens(_why_no_synthesizer(opened.name, path.parent))
        self.synthesizer = Synthesizer(path)
        if self.synthesizer.fingerprint not in (self.model, _quantized_from(opened.catalogue.encoder_of(self.model))):
            raise HdmlError(
                f"the synthesizer of the index {opened.name} must belong to its encoder {self.model}, but belongs to "
                f"{self.synthesizer.fingerprint}; remove the index and build it anew"
            )
        self.opened = opened
        self._photos: Photos | None = None
        self._reading = threading.Lock()
        self._mapping = threading.Lock()

    def look(self, anchor_id: int, positive_id: int | None = None, kind: MapKind = "pca") -> Look:
        """Look at the surroundings of an item.

        Args:
            anchor_id: id of a labelled item.
            positive_id: id of another item of its label; the nearest one by default.
            kind: of the map on which places are told.

        Raises:
            NoTsne: there can be no such map here.
            NoLens: there is no photo or no such anchor, it has no label or is the only photo of it, or there is no other label.
            HdmlError: the positive is not another photo of the anchor's label.
        """
        photos = self.photos()
        anchor = photos.positions.get(anchor_id)
        if anchor is None:
            raise NoLens(f"the anchor must be a photo of the index {self.opened.name}, but it has none with id {anchor_id}.")
        distances = np.linalg.norm(photos.vectors - photos.vectors[anchor], axis=1)
        by_distance = [int(i) for i in np.argsort(distances, kind="stable") if i != anchor]
        positives = _positives(photos.items, anchor, by_distance)
        positive = _chosen(photos.items, positives, positive_id)
        negatives = _negatives(photos.items, anchor, by_distance)
        plane = self._plane(photos, kind)
        shown = [anchor, *positives[:NEIGHBORS], positive, *negatives, *by_distance[:NEIGHBORS]]
        at = dict(zip(shown, photos.places(shown, plane), strict=True))

        def seen(i: int) -> Photo:
            item = photos.items[i]
            return Photo(item.id, item.path, item.label, float(distances[i]), at[i])

        own = self.synthesizer.pulling_share
        shares = sorted({*(step / STEPS for step in range(STEPS + 1)), own})
        again = self.again(photos.vectors[[anchor, positive]])
        found = self._become(photos, plane, anchor, positive, negatives, shares, again)
        return Look(
            anchor=seen(anchor),
            positive=seen(positive),
            positives=[seen(i) for i in positives[:NEIGHBORS]],
            negatives=[Negative(photo=seen(i), **columns) for i, columns in zip(negatives, found, strict=True)],
            neighbors=[seen(i) for i in by_distance[:NEIGHBORS]],
            names={
                item.id: Name(item.path, item.label)
                for item in photos.items_of(each for columns in found for nearest in columns["nearest"] for each, _ in nearest)
            },
            reembedded_positive=float(np.linalg.norm(again[1] - again[0])),
            shares=shares,
            own=shares.index(own),
            loss=self.synthesizer.loss,
            violation=violation_rule(self.synthesizer.loss, self.synthesizer.loss_options),
            on_sphere=self.synthesizer.on_sphere,
            training=_course(self.synthesizer.training),
            map=kind,
        )

    def map(self, kind: MapKind = "pca") -> Map:
        """The gallery on one plane, on which :class:`Look` places what it shows.

        Raises:
            NoLens: there is no photo.
            NoTsne: there can be no such map here.
        """
        photos = self.photos()
        plane = self._plane(photos, kind)
        items = [photos.items[i] for i in photos.mapped]
        dots = [
            Dot(item.id, item.path, item.label, at) for item, at in zip(items, photos.places(photos.mapped, plane), strict=True)
        ]
        if isinstance(plane, Tsne):
            return Map(kind, dots, len(photos.items), None, photos.tsne_trustworthiness)
        return Map(kind, dots, len(photos.items), plane.share, photos.trustworthiness)

    def map_kinds(self) -> list[MapKind]:
        """The kinds of maps that there can be here."""
        return ["pca", "tsne"] if has_tsne() else ["pca"]

    def _plane(self, photos: Photos, kind: MapKind) -> Projection | Tsne:
        if kind == "pca":
            return photos.plane
        with self._mapping:  # made once, whoever else asks for it meanwhile
            return photos.tsne

    def replay(self) -> Replay | None:
        """The probe tuples of the run, their photos by the ids that they have here; None where the run watched none."""
        training = self.synthesizer.training
        if training is None or not training.looks:
            return None
        known = {record.hash: record for record in self.opened.catalogue.photo_records() if record.hash is not None}

        def named(photo: Probed) -> ProbePhoto:
            record = known.get(photo.hash)
            return ProbePhoto(record.id if record else None, record.path if record else None, photo.label)

        tuples = [(named(anchor), named(positive), named(negative)) for anchor, positive, negative in training.tuples]
        return Replay(training.steps, training.chosen, tuples, training.looks)

    def photos(self) -> Photos:
        """All photos of the index, read again only when the index has changed.

        Raises:
            NoLens: there is none, or the index has just been changed over to another model.
        """
        with self._reading:
            sequence = self.opened.catalogue.sequence()
            if self._photos is None or self._photos.sequence != sequence:
                self._photos = read_photos(self.opened, sequence, unit=self.synthesizer.on_sphere)
            photos, moment = self._photos, self.opened.present()
        if photos is None:
            raise NoLens(
                f'the index {self.opened.name} must hold photos, but it has none that can be read; run "hdml index" again'
            )
        if {moment.model, *photos.models} != {self.model}:
            raise NoLens(f"the index {self.opened.name} has just been changed over to another model; look again.")
        return photos

    def again(self, vectors: Vectors) -> Vectors:
        """Anchors and positives [N, D], generated and embedded again: every member of a synthetic tuple is, and d = 0 and d = d⁺
        are never pulled."""
        return self.synthesizer.synthesize(vectors, vectors, vectors)[1]

    def tuple_losses(self, anchors: Vectors, positives: Vectors, negatives: Vectors) -> tuple[NDArray[Any], NDArray[Any]]:
        """The run's loss of each tuple [..., D] by itself, and whether it violates the margin: [...] each."""
        d_ap, d_an = (np.linalg.norm(others - anchors, axis=-1) for others in (positives, negatives))
        losses = self.synthesizer.tuple_loss(anchors, positives, negatives)
        return losses, violated(d_ap, d_an, loss=self.synthesizer.loss, options=self.synthesizer.loss_options)

    def _become(
        self,
        photos: Photos,
        plane: Projection | Tsne,
        anchor: int,
        positive: int,
        negatives: list[int],
        shares: list[float],
        again: Vectors,
    ) -> list[dict[str, Any]]:
        """The fields of :class:`Negative`, but the photo, of each negative.

        Args:
            plane: on which they are placed.
            again: [2, D] anchor and positive, generated and embedded again.
        """
        real, centre, near = photos.vectors[negatives], photos.vectors[anchor], photos.vectors[positive]
        made = [self.synthesizer.synthesize(centre, near, real, share) for share in shares]
        pulled, synthetic = (np.stack(rows, axis=1) for rows in zip(*made, strict=True))  # [M, S, D]
        real_losses, real_violations = self.tuple_losses(centre[None], near[None], real)
        losses, violations = self.tuple_losses(again[0], again[1], synthetic)
        nearest = photos.search(synthetic.reshape(-1, synthetic.shape[-1]), NEAREST)
        kept = [photos.items[row[0][0]].label for row in nearest]
        columns = {
            "pulled": np.linalg.norm(pulled - centre, axis=-1),
            "distances": np.linalg.norm(synthetic - centre, axis=-1),
            "reembedded": np.linalg.norm(synthetic - again[0], axis=-1),
            "losses": losses,
            "violations": violations,
            "pulled_at": plane.place(pulled),
            "at": plane.place(synthetic),
        }
        found = []
        for row, i in enumerate(negatives):
            own = range(row * len(shares), (row + 1) * len(shares))
            found.append(
                {
                    "loss": float(real_losses[row]),
                    "violates": bool(real_violations[row]),
                    "nearest": [[(photos.items[each].id, score) for each, score in nearest[place]] for place in own],
                    "label_kept": [kept[place] == photos.items[i].label for place in own],
                    **{name: values[row].tolist() for name, values in columns.items()},
                }
            )
        return found


def _course(training: Training | None) -> Course | None:
    return None if training is None else Course(training.steps, training.chosen, training.stages)


def _positives(items: list[Item], anchor: int, by_distance: list[int]) -> list[int]:
    label = items[anchor].label
    if label is None:
        raise NoLens(
            f"{items[anchor].path} has no label; the lens needs labelled photos, which lie in one sub-folder per label below the "
            "gallery."
        )
    positives = [i for i in by_distance if items[i].label == label]
    if not positives:
        raise NoLens(f"{items[anchor].path} is the only photo of {label}; choose an anchor whose label has at least two.")
    return positives


def _chosen(items: list[Item], positives: list[int], positive_id: int | None) -> int:
    if positive_id is None:
        return positives[0]
    for i in positives:
        if items[i].id == positive_id:
            return i
    raise HdmlError(
        f"the positive must be another photo of the anchor's label {items[positives[0]].label}, but item {positive_id} is not one"
    )


def _negatives(items: list[Item], anchor: int, by_distance: list[int]) -> list[int]:
    """The nearest photo of each of the nearest other labels."""
    nearest: dict[str, int] = {}
    for i in by_distance:
        label = items[i].label
        if label is not None and label != items[anchor].label:
            nearest.setdefault(label, i)
            if len(nearest) == NEGATIVES:
                break
    if not nearest:
        raise NoLens(f"every labelled photo of this index is a {items[anchor].label}; negatives need a second label.")
    return list(nearest.values())


def _quantized_from(encoder: Path) -> str | None:
    """The fingerprint of the encoder that an int8 encoder was made of; its embeddings are about those of that one."""
    quantization = read_metadata(encoder).quantization
    return str(quantization["of"]) if quantization else None


def _why_no_synthesizer(name: str, folder: Path) -> str:
    reasons = {
        "plain": "the model was trained with the plain method, which generates nothing",
        "untrained": "the model is an untrained backbone, which generates nothing",
        "added": "the model was trained elsewhere, and generates nothing",
    }
    return (
        f"The index {name} has no lens: {reasons.get(_method(folder), 'its model came without a synthesizer.onnx')}. "
        'Train with "hdml train PHOTOS --method hdml" and index the gallery anew with that run.'
    )


def _method(folder: Path) -> str:
    """The method of the run that the encoder in a folder comes from, or nothing when there is no record of it."""
    record = folder / "run.json"
    if not record.is_file():
        return ""
    try:
        return str(json.loads(record.read_text(encoding="utf-8")).get("method", ""))
    except (ValueError, AttributeError, RecursionError):  # damaged, or not one of ours
        return ""
