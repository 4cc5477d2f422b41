"""Probe tuples: the same few photos, looked at while a run trains, so that the lens can replay what became of them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdml.data import LabelledPhotos
from hdml.run import PROBES, StepLog
from hdml.trainee import Trainee
from hdml.tuples import Tuples
from indexing.errors import UnreadableImage
from indexing.preprocess import evaluation_preprocessing, load_array

TUPLES = 8
LOOKS = 40  # over a run, besides the one before its first step


class Probes:
    """The probe tuples of a run and their log, one line a look: deterministic in the photos and the seed.

    The photos are of training classes and seen as they are searched, not augmented; looking changes nothing of what trains.
    """

    def __init__(self, run: Path, photos: LabelledPhotos, *, image_size: int, steps: int, steps_done: int, seed: int) -> None:
        """Choose the tuples; what a killed run looked at beyond its checkpoint is dropped."""
        self._every = max(1, steps // LOOKS)
        self._steps = steps
        self._log = StepLog(run, steps_done=steps_done, file=PROBES)
        chosen, preprocessing, images, self._about = choose_tuples(photos, seed), evaluation_preprocessing(image_size), [], []
        labels = []
        for rows in chosen:
            try:
                arrays = [
                    load_array(photos.root / photos.photos[row].path, preprocessing, box=photos.photos[row].box) for row in rows
                ]
            except (UnreadableImage, OSError):
                continue  # the run itself has told of it
            images += arrays
            labels += [int(photos.labels[row]) for row in rows]
            self._about.append([_known(photos, row) for row in rows])
        self._images = torch.from_numpy(np.stack(images)) if images else None
        self._labels = torch.tensor(labels, dtype=torch.int64)

    def due(self, steps_done: int) -> bool:
        """Whether a look is wanted after so many steps."""
        return self._images is not None and (steps_done % self._every == 0 or steps_done == self._steps)

    def look(self, trainee: Trainee, steps_done: int) -> None:
        """Log λ of the next step, and of each tuple its distances and whether the synthetic keeps its label."""
        assert self._images is not None
        assert trainee.hardness is not None
        first = torch.arange(0, len(self._labels), 3)
        tuples = Tuples(first, first + 1, first[:, None] + 2)
        weight = next(trainee.model.parameters())
        trainee.model.eval()
        trainee.hardness.eval()
        with torch.no_grad():
            images = self._images.to(weight.device, weight.dtype, memory_format=torch.channels_last)
            features, embeddings = trainee.model(images)
            share, found = trainee.hardness.look(
                features, embeddings, self._labels.to(weight.device), head=trainee.model.head, tuples=tuples.to(weight.device)
            )
        trainee.hardness.train()
        trainee.train()
        row: dict[str, Any] = {
            "step": steps_done,
            "share": share.item(),
            **{name: _plain(values) for name, values in found.items()},
        }
        self._log.add(row | ({"tuples": self._about} if steps_done == 0 else {}))

    def close(self) -> None:
        self._log.close()


def choose_tuples(photos: LabelledPhotos, seed: int) -> list[tuple[int, int, int]]:
    """Rows of an anchor, a positive and a negative each, of as many classes as there are, TUPLES at most."""
    counts = np.bincount(photos.labels, minlength=len(photos.classes))
    anchors = np.flatnonzero(counts >= 2)
    if len(anchors) == 0 or (counts > 0).sum() < 2:
        return []
    rng = np.random.default_rng(seed)
    chosen = []
    for label in sorted(rng.permutation(anchors)[:TUPLES]):
        own, others = np.flatnonzero(photos.labels == label), np.flatnonzero(photos.labels != label)
        anchor, positive = rng.permutation(own)[:2]
        chosen.append((int(anchor), int(positive), int(rng.choice(others))))
    return chosen


def _known(photos: LabelledPhotos, row: int) -> dict[str, str]:
    """A photo's class, and the hash of its bytes by which an index knows it."""
    content = (photos.root / photos.paths[row]).read_bytes()
    return {"label": photos.classes[photos.labels[row]], "hash": hashlib.blake2b(content, digest_size=20).hexdigest()}


def _plain(values: Tensor) -> list[Any]:
    return [round(value, 5) if isinstance(value, float) else value for value in values.tolist()]
