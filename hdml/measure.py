"""Measuring retrieval: of a network while it trains, and of an exported encoder on any labelled folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hdml.data import LabelledPhotos, Photo, evaluation_preprocessing, read_labelled_folder
from hdml.embed import embed_photos
from hdml.evaluate import Evaluation, evaluate_embeddings
from hdml.model import EncoderNetwork
from hdml.run import RECORD, read_record
from hdml.splits import ClassSplit, split_classes
from indexing.errors import HdmlError
from indexing.indexer import embed_files


@dataclass(frozen=True)
class Measured:
    """An evaluation and what it is of."""

    evaluation: Evaluation
    root: Path
    photos: int
    measured_on: str


def measured_photos(photos: LabelledPhotos, split: ClassSplit) -> tuple[str, LabelledPhotos]:
    """What a run's figures are of, named so that nobody takes them for more than they are."""
    if split.test:
        return "test", photos.of_classes(split.test)
    if split.validation:
        return "validation, selected on", photos.of_classes(split.validation)
    return "training photos, learned from", photos.of_classes(split.train)


def evaluate_network(network: EncoderNetwork, photos: LabelledPhotos, image_size: int, device: torch.device) -> Evaluation:
    """Measures of an encoder network on labelled photos, each querying all the others."""
    preprocessing = evaluation_preprocessing(image_size)
    embedded = embed_photos(network, photos.files, preprocessing, device, boxes=photos.boxes or None)
    return evaluate_embeddings(embedded.embeddings, photos.labels, device=str(device))


def evaluate_encoder(
    encoder: Path, data: Path | None, classes: str | None, *, device: str, on_progress: Callable[[int, int], None]
) -> Measured:
    """Measures of an exported encoder.

    Args:
        encoder: an encoder.onnx; its run is the folder that it lies in.
        data: a labelled folder; None takes the run's own.
        classes: ``all``, or a rule of :func:`hdml.splits.split_classes`; None takes those that the run's figures are of, and all
            classes of another folder.
        device: auto, cpu or cuda.
        on_progress: told how many photos of how many are embedded.

    Raises:
        HdmlError: there is no folder to measure on, or no class in it has two photos.
    """
    root, own = data or _trained_on(encoder), data is None
    photos = read_labelled_folder(root)
    measured_on = "all classes"
    if classes not in (None, "all"):
        measured_on, photos = f"classes {classes}", photos.of_classes(split_classes(photos, str(classes)).test)
    elif own and classes is None:
        # As recorded: a rule such as half would split anew once unreadable photos have cost the folder a class.
        measured_on, photos = measured_photos(photos, ClassSplit(**read_record(encoder.parent)["classes"]))
    embeddings, failed = _embed(encoder, photos, device=device, on_progress=on_progress)
    photos = photos.without(failed)
    if np.bincount(photos.labels).max(initial=0) < 2:
        raise HdmlError(f"Measuring retrieval needs a class with at least 2 photos, but {root} has none.")
    ranked_on = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    evaluation = evaluate_embeddings(embeddings, photos.labels, device=ranked_on)
    return Measured(evaluation, root, len(photos.paths), measured_on)


def _embed(
    encoder: Path, photos: LabelledPhotos, *, device: str, on_progress: Callable[[int, int], None]
) -> tuple[NDArray[np.float32], set[Photo]]:
    """Embeddings [n, D] of the photos that can be read, in order, and those that cannot."""
    vectors: list[NDArray[np.float32]] = []
    failed: set[Photo] = set()
    embedded = embed_files(encoder, photos.files, boxes=photos.boxes or None, device=device)
    for done, (photo, found) in enumerate(zip(photos.photos, embedded, strict=True), start=1):
        if found.vector is None:
            failed.add(photo)
        else:
            vectors.append(found.vector)
        on_progress(done, len(photos.paths))
    return np.stack(vectors) if vectors else np.empty((0, 1), np.float32), failed


def _trained_on(encoder: Path) -> Path:
    record = read_record(encoder.parent) if (encoder.parent / RECORD).exists() else {}
    if "data" not in record:
        raise HdmlError(f"{encoder} was not trained on a folder of photos; say which to measure it on: hdml eval FOLDER")
    return Path(record["data"]["root"])
