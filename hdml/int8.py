"""int8 encoders: which photos calibrate one, and whether it answers as the float one does; else it is refused.

Calibration takes training photos alone. The check is on validation photos, so that the test stays what nothing was chosen by; a
run that held none out for validation is checked on what its figures are of. An encoder that learned from no photos is calibrated
on half of a gallery's, and checked on others of it.
"""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdml.agreement import top_agreement
from hdml.data import LabelledPhotos, Photo, label_photos
from hdml.evaluate import DISTRACTOR, QueryOutcomes
from hdml.measure import embed_with_encoder, evaluate_parts, has_answers, measured_photos, read_recorded, recorded_split
from hdml.quantization import quantize_encoder
from hdml.run import read_record
from hdml.significance import class_bootstrap
from hdml.splits import EvaluationSet, validation_photos
from indexing.encoder import ENCODER, INT8_ENCODER, read_metadata, write_metadata
from indexing.errors import HdmlError, UnreadableImage
from indexing.gallery import check_gallery, walk_gallery
from indexing.preprocess import Preprocessing, load_array

CALIBRATION_PHOTOS = 256
LEAST_AGREEMENT = 0.95
"""Share of the float encoder's ten nearest that an int8 encoder has to keep."""
_CHECKED_PHOTOS = 2000  # at most, without distractors
_LEAST_CHECKED = 30  # photos: among fewer, the ten nearest are most of them
_BATCH = 8
_SEED = 0

Told = Callable[[str, int, int], None]
"""Told what is being done, and how many photos of how many are done."""


@dataclass(frozen=True)
class Material:
    """Photos for an int8 encoder.

    Attributes:
        calibration: photos to take the ranges of activations from, in the order in which to take them.
        checked: what both encoders are compared on; labels may be DISTRACTOR throughout.
        checked_on: its name.
    """

    calibration: LabelledPhotos
    checked: EvaluationSet
    checked_on: str


@dataclass(frozen=True)
class Change:
    """A measure of both encoders over the same queries, and the 95 % interval of int8 − float, had there been other classes.

    The interval is None where all queries are of one class.
    """

    float32: float
    int8: float
    low: float | None
    high: float | None

    @property
    def is_a_fall(self) -> bool:
        """Whether int8 is worse by more than chance explains."""
        return self.high is not None and self.high < 0

    def __str__(self) -> str:
        interval = (
            "" if self.high is None else f" (difference {self.int8 - self.float32:+.4f}, {self.low:+.4f} to {self.high:+.4f})"
        )
        return f"{self.float32:.4f} → {self.int8:.4f}{interval}"


@dataclass(frozen=True)
class Int8Card:
    """How an int8 encoder answers beside the float encoder that it was made of.

    Attributes:
        calibration_photos: number of photos that the ranges are from.
        checked_on: what both were compared on.
        photos: their number.
        top_10_agreement: mean share of each photo's ten nearest others that both name.
        recall_at_1, map_at_r: None where no photo has another of its class to find.
    """

    calibration_photos: int
    checked_on: str
    photos: int
    top_10_agreement: float
    recall_at_1: Change | None
    map_at_r: Change | None

    def faults(self) -> list[str]:
        """Why it must not be used; empty when it may."""
        measures = {"R@1": self.recall_at_1, "MAP@R": self.map_at_r}
        found = [
            f"{name} falls by more than chance: {change}" for name, change in measures.items() if change and change.is_a_fall
        ]
        if self.top_10_agreement < LEAST_AGREEMENT:
            found.append(f"the ten nearest agree to {self.top_10_agreement:.3f}, less than {LEAST_AGREEMENT}")
        return found


def export_int8(run: Path, material: Material, *, on_progress: Told) -> Int8Card:
    """Write encoder.int8.onnx beside a run's encoder.onnx, once it has been found to answer as that one does.

    Raises:
        HdmlError: too few photos can be read, or the int8 encoder answers worse; what was in the folder before stays.
    """
    encoder = run / ENCODER
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / INT8_ENCODER
        batches = _CalibrationPhotos(material.calibration, read_metadata(encoder).preprocessing, on_progress)
        metadata = quantize_encoder(encoder, candidate, batches)
        card = compare_encoders(encoder, candidate, material, calibration_photos=batches.read, on_progress=on_progress)
        if faults := card.faults():
            raise HdmlError(
                f"An int8 encoder must answer as the float one does, but on {card.photos} photos ({card.checked_on}) "
                f"{'; '.join(faults)}. Nothing was written; go on with {encoder}."
            )
        assert metadata.quantization is not None
        write_metadata(candidate, replace(metadata, quantization=metadata.quantization | asdict(card)))
        unfinished = run / f"{INT8_ENCODER}.part"
        shutil.copyfile(candidate, unfinished)
        unfinished.replace(run / INT8_ENCODER)
    return card


def compare_encoders(
    encoder: Path, candidate: Path, material: Material, *, calibration_photos: int, on_progress: Told
) -> Int8Card:
    """Embed the same photos with both, and compare what they find.

    Raises:
        HdmlError: fewer than 30 photos can be read, or the int8 encoder has no finite embedding of some.
    """

    def embed(asked: EvaluationSet, file: Path, name: str) -> tuple[NDArray[np.float32], dict[Photo, str]]:
        # On the CPU, which int8 is for.
        return embed_with_encoder(file, asked, device="cpu", on_progress=lambda done, total: on_progress(name, done, total))

    vectors, failed = embed(material.checked, encoder, "Embedding in float")
    asked = material.checked.without(failed)
    if asked.size < _LEAST_CHECKED:
        raise HdmlError(
            f"An int8 encoder must be compared with the float one on at least {_LEAST_CHECKED} photos, but of "
            f"{material.checked_on} only {asked.size} can be read; add photos."
        )
    int8_vectors, failed = embed(asked, candidate, "Embedding in int8")
    if failed:
        photo, reason = next(iter(failed.items()))
        raise HdmlError(
            f"The int8 encoder fails on {len(failed)} of {asked.size} photos, {photo} first ({reason}); nothing was written."
        )
    recall = map_at_r = None
    if has_answers(asked):
        before, after = _outcomes(vectors, asked), _outcomes(int8_vectors, asked)
        classes = asked.queries.labels[before.queries]
        recall = _change(before.hit_at_1, after.hit_at_1, classes)
        map_at_r = _change(before.average_precision_at_r, after.average_precision_at_r, classes)
    agreement = top_agreement(vectors, int8_vectors)
    return Int8Card(calibration_photos, material.checked_on, asked.size, agreement, recall, map_at_r)


def _outcomes(vectors: NDArray[np.float32], asked: EvaluationSet) -> QueryOutcomes:
    return evaluate_parts(np.split(vectors, [len(asked.queries.paths)]), asked, "cpu").outcomes


def _change(float32: NDArray[Any], int8: NDArray[Any], classes: NDArray[np.int64]) -> Change:
    """Of a measure [q] of the same queries, of those classes [q]."""
    low, high = class_bootstrap(int8.astype(np.float64) - float32, classes)
    ends = (low, high) if math.isfinite(low) else (None, None)
    return Change(float(float32.mean()), float(int8.mean()), *ends)


class _CalibrationPhotos:
    """Batches of the first photos that can be read, as the encoder takes them; ``read`` counts them."""

    def __init__(self, photos: LabelledPhotos, preprocessing: Preprocessing, on_progress: Told) -> None:
        self.read = 0
        self._photos, self._preprocessing, self._on_progress = photos, preprocessing, on_progress

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        wanted, batch = min(CALIBRATION_PHOTOS, len(self._photos.paths)), []
        for photo in self._photos.photos:
            if self.read == wanted:
                break
            try:
                batch.append(load_array(self._photos.root / photo.path, self._preprocessing, box=photo.box))
            except UnreadableImage:
                continue  # told when the run or the index read it
            self.read += 1
            self._on_progress("Calibrating", self.read, wanted)
            if len(batch) == _BATCH:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)
        if self.read == 0:
            raise HdmlError(f"Calibration needs photos, but of those in {self._photos.root} none can be read.")


def material_of_run(run: Path) -> Material:
    """Of a trained run: its training photos, and photos that it did not learn from.

    Raises:
        HdmlError: the run learned from no photos, or they are not there any more.
    """
    record = read_record(run)
    if "data" not in record:
        raise HdmlError(
            f"{run.name} learned from no photos that could calibrate int8; say which are to be searched: "
            f"hdml export {run.name} --int8 --gallery FOLDER"
        )
    split = recorded_split(run, read_recorded(record))
    if split.validation_set is not None:
        asked = _bounded(EvaluationSet(split.validation_set)).queries.compact()
        checked_on, checked = "validation", EvaluationSet(validation_photos(asked, split.train_set))
    else:
        checked_on, found = measured_photos(split)
        checked = _bounded(found)
    if "refit" in record:
        checked_on += ", learned from since, in the refit"
    return Material(_shuffled(split.train_set), checked, checked_on)


def material_of_gallery(gallery: Path) -> Material:
    """Of any folder of photos: at most half for calibration, others to compare on, by class where its sub-folders tell any.

    Raises:
        HdmlError: no such folder, or too few photos in it.
    """
    root = check_gallery(gallery)
    found = sorted((photo.path, photo.label) for photo in walk_gallery(root) if photo.reason is None)
    if len(found) < 2 * _LEAST_CHECKED:
        raise HdmlError(
            f"An int8 encoder is calibrated on some photos of a gallery and checked on others, which takes {2 * _LEAST_CHECKED}, "
            f"but {gallery} has {len(found)}; add photos or give another folder."
        )
    photos = label_photos(root, [Photo(Path(path)) for path, _ in found], [label or "" for _, label in found])
    if "" in photos.classes:  # photos in the gallery itself, which are of no class; the empty name sorts first
        photos = replace(photos, labels=photos.labels - 1, classes=photos.classes[1:])
    shuffled = _shuffled(photos)
    calibrated = min(CALIBRATION_PHOTOS, len(found) // 2)
    rest = shuffled.select(range(calibrated, len(found)))
    return Material(shuffled.select(range(calibrated)), _bounded(EvaluationSet(rest)), f"photos of {gallery}")


def _shuffled(photos: LabelledPhotos) -> LabelledPhotos:
    return photos.select(np.random.default_rng(_SEED).permutation(len(photos.paths)).tolist())


def _bounded(photos: EvaluationSet) -> EvaluationSet:
    """At most _CHECKED_PHOTOS of them: all of some classes, but for the last, so that queries keep what they have to find."""
    labels = np.concatenate([part.labels for part in photos.parts])
    place = np.random.default_rng(_SEED).permutation(int(labels.max(initial=-1)) + 1)
    places = np.full(len(labels), len(place))
    places[labels != DISTRACTOR] = place[labels[labels != DISTRACTOR]]
    kept = np.sort(np.argsort(places, kind="stable")[:_CHECKED_PHOTOS])
    asking = len(photos.queries.paths)
    queries = photos.queries.select(kept[kept < asking].tolist())
    return EvaluationSet(queries, photos.gallery and photos.gallery.select((kept[kept >= asking] - asking).tolist()))
