"""Embedding photo files with torch: the path that training reports on, and that export is held to."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hdml.model import EncoderNetwork
from indexing.device import available_cores
from indexing.errors import HdmlError, UnreadableImage
from indexing.preprocess import Box, Preprocessing, load_array

_BATCH = 32


@dataclass(frozen=True)
class Embedded:
    """Unit embeddings [n, D] of n photos and their lengths [n] before normalisation."""

    embeddings: NDArray[np.float32]
    norms: NDArray[np.float32]


def embed_photos(
    network: EncoderNetwork,
    files: Sequence[Path],
    preprocessing: Preprocessing,
    device: torch.device,
    *,
    boxes: Sequence[Box | None] | None = None,
) -> Embedded:
    """Embed photos, whole or the box of each, in float32, in order; leaves the network in evaluation mode.

    Raises:
        HdmlError: a photo cannot be read.
    """
    network.eval().to(device)
    embeddings = np.empty((len(files), network.dimension), np.float32)
    norms = np.empty(len(files), np.float32)

    parts = boxes if boxes is not None else [None] * len(files)

    def load(file: Path, box: Box | None) -> NDArray[np.float32]:
        try:
            return load_array(file, preprocessing, box=box)
        except UnreadableImage as error:
            raise HdmlError(f"{file}: {error}") from error

    with ThreadPoolExecutor(available_cores()) as pool, torch.inference_mode():
        for start in range(0, len(files), _BATCH):
            images = np.stack(list(pool.map(load, files[start : start + _BATCH], parts[start : start + _BATCH])))
            batch = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
            unit, norm, _ = network(batch)
            embeddings[start : start + _BATCH] = unit.cpu().numpy()
            norms[start : start + _BATCH] = norm.cpu().numpy()
    return Embedded(embeddings, norms)
