"""Measuring retrieval: of a network while it trains, and of an exported encoder on any labelled photos."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hdml.class_split import ClassSplit, split_classes
from hdml.data import LabelledPhotos, Photo
from hdml.embed import embed_photos
from hdml.evaluate import DISTRACTOR, Evaluation, evaluate_embeddings, evaluate_retrieval
from hdml.model import EncoderNetwork
from hdml.run import RECORD, read_record, read_split
from hdml.sources import read_photos
from hdml.splits import EvaluationSet, Split, published_test
from indexing.errors import HdmlError
from indexing.indexer import embed_files
from indexing.preprocess import evaluation_preprocessing

TEST = "test"
SEEN = "seen classes"


@dataclass(frozen=True)
class Measured:
    """An evaluation and what it is of."""

    evaluation: Evaluation
    root: Path
    photos: int
    measured_on: str


def measured_photos(split: Split) -> tuple[str, EvaluationSet]:
    """What a run's figures are of, named so that nobody takes them for more than they are."""
    if split.test_set is not None:
        return TEST, split.test_set
    if split.seen_set is not None:
        return SEEN, split.seen_set
    if split.validation_set is not None:
        return "validation, selected on", EvaluationSet(split.validation_set)
    return "training photos, learned from", EvaluationSet(split.train_set)


def evaluate_network(network: EncoderNetwork, photos: LabelledPhotos, image_size: int, device: torch.device) -> Evaluation:
    """Measures of an encoder network on labelled photos, each querying all the others."""
    return evaluate_network_on(network, EvaluationSet(photos), image_size, device)


def evaluate_network_on(network: EncoderNetwork, photos: EvaluationSet, image_size: int, device: torch.device) -> Evaluation:
    """Measures of an encoder network on photos that search one another, or a gallery."""
    return evaluate_parts([embed_with_network(network, part, image_size, device) for part in photos.parts], photos, str(device))


def evaluate_parts(embedded: Sequence[NDArray[np.float32]], photos: EvaluationSet, device: str) -> Evaluation:
    """Measures of unit embeddings, [n, D] for each of the set's parts, ranked on torch's device of that name."""
    if photos.gallery is None:
        return evaluate_embeddings(embedded[0], photos.queries.labels, device=device)
    return evaluate_retrieval(embedded[0], photos.queries.labels, embedded[1], photos.gallery.labels, device=device)


def read_recorded(record: Mapping[str, Any]) -> LabelledPhotos:
    """The photos that a run is of, as they are now."""
    return read_photos(Path(record["data"]["root"]), record["data"].get("data_set"))


def recorded_split(run: Path, photos: LabelledPhotos) -> Split:
    """The split that a run has recorded, in its photos as they are now."""
    parts = read_split(run)
    return Split.from_json(photos, parts) if parts else Split.of_classes(photos, ClassSplit(**read_record(run)["classes"]))


def evaluate_encoder(
    encoder: Path,
    data: Path | None,
    classes: str | None,
    *,
    data_set: str | None = None,
    device: str,
    on_progress: Callable[[int, int], None],
) -> Measured:
    """Measures of an encoder.

    Args:
        encoder: an encoder.onnx, whose run is the folder that it lies in, or any image network as an ONNX file.
        data: a labelled folder, a manifest or where ``data_set`` lies; None takes the run's own.
        classes: ``all``; ``seen``, of the run's own photos; or a rule of :func:`hdml.class_split.split_classes`. None takes what
            the run's figures are of, and of other photos those that the data themselves give to be tested on, or else all.
        data_set: the public data set that ``data`` holds.
        device: auto, cpu or cuda.
        on_progress: told how many photos of how many are embedded.

    Raises:
        HdmlError: there are no photos to measure on, or none that asks can find one of its class.
    """
    record = read_record(encoder.parent) if (encoder.parent / RECORD).exists() else {}
    if data is None and "data" not in record:
        raise HdmlError(f"{encoder} was not trained on a folder of photos; say which to measure it on: hdml eval FOLDER")
    photos = read_photos(data, data_set) if data is not None else read_recorded(record)
    measured_on, asked = _asked(encoder.parent if data is None else None, photos, classes)
    if "refit" in record and (data is None or str(data.resolve()) == record["data"]["root"]):
        measured_on += ", learned from since, in the refit"
    vectors, failed = embed_with_encoder(encoder, asked, device=device, on_progress=on_progress)
    asked = asked.without(failed)
    if not has_answers(asked):
        raise HdmlError(
            f"Measuring retrieval needs a class with at least 2 photos, one of which asks, but {data or photos.root} has none."
        )
    ranked_on = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    evaluation = evaluate_parts(np.split(vectors, [len(asked.queries.paths)]), asked, ranked_on)
    return Measured(evaluation, data or photos.root, asked.size, measured_on)


def _asked(run: Path | None, photos: LabelledPhotos, classes: str | None) -> tuple[str, EvaluationSet]:
    """What to measure on, and its name; ``run`` is that of the encoder if the photos are its own."""
    if classes == "seen":
        seen = recorded_split(run, photos).seen_set if run else None
        if seen is None:
            raise HdmlError("--classes seen needs a run that held photos out (hdml train --hold-out), and its own photos.")
        return SEEN, seen
    if classes == "all":
        return "all classes", EvaluationSet(photos)
    if classes is not None:
        return f"classes {classes}", EvaluationSet(photos.of_classes(split_classes(photos, classes).test))
    if run:
        # As recorded: a rule such as half would split anew once unreadable photos have cost the folder a class.
        return measured_photos(recorded_split(run, photos))
    tested = published_test(photos)
    return ("all classes", EvaluationSet(photos)) if tested is None else ("test, as the data state it", tested)


def has_answers(photos: EvaluationSet) -> bool:
    """Whether some photo that asks has another of its class to find."""
    if photos.gallery is None:
        return bool(np.bincount(_asking(photos)).max(initial=0) > 1)
    return bool(np.isin(_asking(photos), photos.gallery.labels).any())


def _asking(photos: EvaluationSet) -> NDArray[np.int64]:
    """Labels of the photos that ask."""
    labels = photos.queries.labels
    asking: NDArray[np.int64] = labels[labels != DISTRACTOR]
    return asking


def embed_with_network(
    network: EncoderNetwork, photos: LabelledPhotos, image_size: int, device: torch.device
) -> NDArray[np.float32]:
    """Unit embeddings [n, D] of photos, each within its box; raises HdmlError when one cannot be read."""
    preprocessing = evaluation_preprocessing(image_size)
    return embed_photos(network, photos.files, preprocessing, device, boxes=photos.boxes or None).embeddings


def embed_with_encoder(
    encoder: Path, asked: EvaluationSet, *, device: str, on_progress: Callable[[int, int], None]
) -> tuple[NDArray[np.float32], dict[Photo, str]]:
    """Unit embeddings [n, D] of the photos that can be embedded, queries first, and the others with their reasons."""
    photos = [photo for part in asked.parts for photo in part.photos]
    vectors: list[NDArray[np.float32]] = []
    failed: dict[Photo, str] = {}
    embedded = embed_files(encoder, asked.files, boxes=[photo.box for photo in photos], device=device)
    for done, (photo, found) in enumerate(zip(photos, embedded, strict=True), start=1):
        if found.vector is None:
            failed[photo] = str(found.reason)
        else:
            vectors.append(found.vector)
        on_progress(done, len(photos))
    return np.stack(vectors) if vectors else np.empty((0, 1), np.float32), failed
