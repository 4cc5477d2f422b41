"""The hardness lens: one anchor, its positive, its hard negatives, and what a trained model's synthesis makes of them.

All distances are Euclidean, in the space in which the run pulled negatives (arXiv:1903.05503, section 3.2): between unnormalised
embeddings (the unit vectors of the catalogue times their norms), or between the unit vectors when its loss sees directions. The
nearest real photos of a synthetic come from the ordinary search, which ranks by cosine similarity.

What is generated and embedded again passes the generator and the head as exported: at inference, with running statistics. The
losses of training are of the same networks with the statistics of each batch, so that its distances are near these, not equal.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexing.catalogue import Item
from indexing.encoder import hdml_metadata, open_session, read_metadata
from indexing.errors import HdmlError
from indexing.search import OpenIndex, Result

SYNTHESIZER = "synthesizer.onnx"  # its name in a run's and in an index's folder
NEGATIVES = 6
NEIGHBORS = 48
NEAREST = 3

Vector = NDArray[np.float32]
Vectors = NDArray[np.float32]


class NoLens(HdmlError):
    """This index or this anchor can have no lens; the message says why and what to do."""


class Synthesizer:
    """A run's synthesis, as exported to ``synthesizer.onnx``: pull negatives, generate features, embed them again.

    Attributes:
        pulling_share: λ of the method at the chosen checkpoint; 1 leaves negatives where they are, 0 pulls them to d⁺.
        loss: name of the metric loss, as ``hdml train`` knows it.
        on_sphere: whether it works on unit embeddings, because its loss sees directions alone.
        fingerprint: of the encoder whose embeddings it works on.
    """

    def __init__(self, path: Path) -> None:
        """Raises HdmlError when the file is not a synthesizer of this product."""
        # The network is a few small layers: a GPU would only add the time to start one.
        self._session = open_session(path, device="cpu")
        try:
            about = json.loads(hdml_metadata(self._session, path))
            if "lambda" not in about:
                raise HdmlError(f"{path} must be a synthesizer, but it is another ONNX file of hdml's; export the run again")
            self.pulling_share, self.loss = float(about["lambda"]), str(about["loss"])
            self.fingerprint = str(about["fingerprint"])
            self.on_sphere = bool(about.get("on_sphere", False))  # those of before had no such losses
        except (ValueError, TypeError, KeyError) as error:
            raise HdmlError(f"{path} must be a synthesizer, but its metadata is damaged; export the run again") from error

    def synthesize(self, anchor: Vector, positive: Vector, negatives: Vectors) -> tuple[Vectors, Vectors]:
        """Pull each negative towards the anchor at the model's own λ, generate from it, and embed the result again.

        Args:
            anchor, positive: [D], of unit length if ``on_sphere``, else unnormalised.
            negatives: [N, D], likewise.

        Returns:
            The pulled and the synthetic embeddings, each [N, D], likewise.
        """
        feed = {
            "anchors": np.repeat(anchor[None], len(negatives), axis=0),
            "positives": np.repeat(positive[None], len(negatives), axis=0),
            "negatives": negatives,
            "lambda": np.array(self.pulling_share, np.float32),
        }
        pulled, synthetic = self._session.run(["pulled", "synthetic"], feed)
        return pulled, synthetic


@dataclass(frozen=True)
class Photo:
    """A real photo as the anchor sees it: how far, and in which direction (radians, see :class:`Compass`)."""

    id: int
    path: str
    label: str | None
    distance: float
    angle: float


@dataclass(frozen=True)
class Negative:
    """A hard negative and what became of it.

    Attributes:
        photo: the real negative; its distance is d.
        pulled_distance: from the anchor to the pulled negative, which lies on the straight line to the real one.
        synthetic_distance, synthetic_angle: of the re-embedded synthetic, seen from the real anchor.
        reembedded_distance: of the synthetic from the anchor that is generated and embedded again as well.
        nearest: the real photos nearest to the synthetic by cosine similarity, best first, the anchor possibly among them.
        label_kept: whether the first of them has the negative's label.
    """

    photo: Photo
    pulled_distance: float
    synthetic_distance: float
    synthetic_angle: float
    reembedded_distance: float
    nearest: list[Result]
    label_kept: bool


@dataclass(frozen=True)
class Look:
    """All that the lens shows around one anchor.

    Attributes:
        anchor: the centre, at distance 0.
        positive: the photo of the anchor's label that negatives are pulled as near as; its distance is d⁺.
        positives: the NEIGHBORS nearest other photos of the anchor's label, nearest first.
        negatives: the nearest photo of each of the nearest other labels, nearest first.
        neighbors: the photos nearest to the anchor, whatever their label.
        reembedded_positive_distance: between anchor and positive when both are generated and embedded again.
        angle_share: part of the variation among directions, 0..1, that the angles keep.
        pulling_share: λ.
        loss: the metric loss that the run was trained with.
    """

    anchor: Photo
    positive: Photo
    positives: list[Photo]
    negatives: list[Negative]
    neighbors: list[Photo]
    reembedded_positive_distance: float
    angle_share: float
    pulling_share: float
    loss: str


class HardnessLens:
    """The lens of one open index; several threads may look at once.

    Attributes:
        opened: the index.
        model: fingerprint of the encoder that it is of; an index that has been changed over to another needs another lens.
    """

    def __init__(self, opened: OpenIndex) -> None:
        """Raises NoLens when the index has no synthesizer, and HdmlError when it has a damaged or a foreign one."""
        self.model = opened.present().model
        path = opened.catalogue.encoder_of(self.model).with_name(SYNTHESIZER)
        if not path.is_file():
            raise NoLens(_why_no_synthesizer(opened.name, path.parent))
        self._synthesizer = Synthesizer(path)
        if self._synthesizer.fingerprint not in (self.model, _quantized_from(opened.catalogue.encoder_of(self.model))):
            raise HdmlError(
                f"the synthesizer of the index {opened.name} must belong to its encoder {self.model}, but belongs to "
                f"{self._synthesizer.fingerprint}; remove the index and build it anew"
            )
        self.opened = opened
        self._photos = _Photos(-1, [], np.empty((0, opened.dimension), np.float32))

    def look(self, anchor_id: int, positive_id: int | None = None) -> Look:
        """Look at the surroundings of an item.

        Args:
            anchor_id: id of a labelled item.
            positive_id: id of another item of its label; the nearest one by default.

        Raises:
            NoLens: there is no photo or no such anchor, it has no label or is the only photo of it, or there is no other label.
            HdmlError: the positive is not another photo of the anchor's label.
        """
        photos, moment = self._current_photos(), self.opened.present()
        if {moment.model, *(item.model for item in photos.items)} != {self.model}:
            raise NoLens(f"the index {self.opened.name} has just been changed over to another model; look again.")
        anchor = photos.positions.get(anchor_id)
        if anchor is None:
            raise NoLens(f"the anchor must be a photo of the index {self.opened.name}, but it has none with id {anchor_id}.")
        distances = np.linalg.norm(photos.vectors - photos.vectors[anchor], axis=1)
        by_distance = [int(i) for i in np.argsort(distances, kind="stable") if i != anchor]
        positives = _positives(photos.items, anchor, by_distance)
        positive = _chosen(photos.items, positives, positive_id)
        negatives = _negatives(photos.items, anchor, by_distance)
        neighbors = by_distance[:NEIGHBORS]

        centre = photos.vectors[anchor]
        compass = Compass(photos.vectors[sorted({positive, *negatives, *neighbors})] - centre)
        shown = sorted({anchor, positive, *positives[:NEIGHBORS], *negatives, *neighbors})
        angles = dict(zip(shown, compass.angles(photos.vectors[shown] - centre), strict=True))

        def seen(i: int) -> Photo:
            item = photos.items[i]
            return Photo(item.id, item.path, item.label, float(distances[i]), float(angles[i]))

        # The anchor and the positive pass unpulled (d = 0 and d = d⁺): every member of a synthetic tuple is generated.
        sources = photos.vectors[[anchor, positive, *negatives]]
        pulled, synthetic = self._synthesizer.synthesize(centre, photos.vectors[positive], sources)
        pulled_distances = np.linalg.norm(pulled - centre, axis=1)
        synthetic_distances = np.linalg.norm(synthetic - centre, axis=1)
        synthetic_angles = compass.angles(synthetic - centre)
        reembedded_distances = np.linalg.norm(synthetic - synthetic[0], axis=1)
        found = []
        for row, i in enumerate(negatives, start=2):
            nearest = self.opened.search_vector(synthetic[row], k=NEAREST, moment=moment)
            found.append(
                Negative(
                    photo=seen(i),
                    pulled_distance=float(pulled_distances[row]),
                    synthetic_distance=float(synthetic_distances[row]),
                    synthetic_angle=float(synthetic_angles[row]),
                    reembedded_distance=float(reembedded_distances[row]),
                    nearest=nearest,
                    label_kept=nearest[0].label == photos.items[i].label,
                )
            )
        return Look(
            anchor=seen(anchor),
            positive=seen(positive),
            positives=[seen(i) for i in positives[:NEIGHBORS]],
            negatives=found,
            neighbors=[seen(i) for i in neighbors],
            reembedded_positive_distance=float(reembedded_distances[1]),
            angle_share=compass.share,
            pulling_share=self._synthesizer.pulling_share,
            loss=self._synthesizer.loss,
        )

    def _current_photos(self) -> "_Photos":
        """All photos of the index, read again only when the index has changed."""
        photos, sequence = self._photos, self.opened.catalogue.sequence()
        if photos.sequence != sequence:
            photos = self._photos = _read_photos(self.opened, sequence, unit=self._synthesizer.on_sphere)
        return photos


class Compass:
    """Gives directions an angle: a projection on the first two principal components of some directions.

    Everything on one straight line from the centre gets one angle. Angles between lines are not true ones.
    """

    def __init__(self, offsets: Vectors) -> None:
        """Take the components from vectors [N, D] that start at the centre; their lengths do not matter."""
        directions = _directions(offsets)
        self._mean = directions.mean(axis=0)
        _, sizes, rows = np.linalg.svd(directions - self._mean, full_matrices=False)
        self._axes = rows[:2]
        variation = np.square(sizes)
        total = float(variation.sum())
        self.share = float(variation[:2].sum()) / total if total > 0 else 1.0

    def angles(self, offsets: Vectors) -> NDArray[np.float64]:
        """Angles in radians, −π..π, of vectors [N, D] that start at the centre."""
        across = (_directions(offsets) - self._mean) @ self._axes.T
        vertical = across[:, 1] if across.shape[1] > 1 else np.zeros(len(across))
        return np.asarray(np.arctan2(vertical, across[:, 0]), np.float64)


@dataclass(frozen=True)
class _Photos:
    """Items by id with their embeddings [N, D] in the synthesizer's space, as of one sequence number of the catalogue."""

    sequence: int
    items: list[Item]
    vectors: Vectors

    @cached_property
    def positions(self) -> dict[int, int]:
        return {item.id: i for i, item in enumerate(self.items)}


def _read_photos(opened: OpenIndex, sequence: int, *, unit: bool) -> _Photos:
    items = opened.catalogue.items()
    if not items:
        raise NoLens(f'the index {opened.name} must hold photos, but it has none that can be read; run "hdml index" again')
    vectors = np.stack([item.vector * np.float32(1 if unit else item.norm) for item in items])
    return _Photos(sequence, items, vectors)


def _directions(offsets: Vectors) -> Vectors:
    """Unit vectors; a photo that coincides with the centre keeps its zero."""
    lengths = np.linalg.norm(offsets, axis=1, keepdims=True)
    return np.asarray(offsets / np.where(lengths > 0, lengths, 1), np.float32)


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
    if not nearest:
        raise NoLens(f"every labelled photo of this index is a {items[anchor].label}; negatives need a second label.")
    return list(nearest.values())[:NEGATIVES]


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
