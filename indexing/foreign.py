"""Encoders that hdml did not export: any ONNX file of an image network, of which the usual is assumed where it says nothing."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexing.encoder import Encoder, NoMetadata, device_of, open_session
from indexing.errors import HdmlError
from indexing.preprocess import evaluation_preprocessing

_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_USUAL_SIDE = 224  # of images where the network takes any


class ForeignEncoder:
    """An image network ready to embed photos; safe to call from several threads.

    Attributes:
        path: the ONNX file.
        preprocessing: hdml's own at the network's size: ONNX has no place to say another.
        device: ``"cpu"`` or ``"cuda"``, as the session really runs.
    """

    def __init__(self, path: Path, *, device: str = "auto", threads: int = 0) -> None:
        """Open a network and try it on blank images, since a file need not tell the shapes of what it gives.

        Args:
            path, device, threads: as for Encoder.

        Raises:
            HdmlError: as Encoder, or the file takes something else than images or gives something else than vectors or maps.
        """
        self.path = path
        self._session = open_session(path, device=device, threads=threads)
        self.device = device_of(self._session)
        self._input, side = self._image_input()
        self._one_by_one = self._input.shape[0] == 1
        self.preprocessing = evaluation_preprocessing(side)
        self._output = self._vector_output()

    def encode(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embed a batch: [B, 3, crop, crop] → unit embeddings [B, D] and their lengths before normalisation [B]."""
        batches = images[:, None] if self._one_by_one else [images]
        found = np.concatenate([self._run([self._output], batch)[0].astype(np.float32) for batch in batches])
        vectors = found.mean((2, 3)) if found.ndim == 4 else found
        norms = np.linalg.norm(vectors, axis=1)
        with np.errstate(invalid="ignore"):  # embedding photos tells which vectors are not finite
            return vectors / np.maximum(norms, np.finfo(np.float32).eps)[:, None], norms

    def _run(self, outputs: list[str], images: NDArray[np.float32]) -> list[NDArray[Any]]:
        from onnxruntime import RunOptions

        options = RunOptions()
        options.log_severity_level = 4  # none: what fails is raised too
        feed = {self._input.name: images.astype(_FLOATS[self._input.type])}
        return list(self._session.run(outputs, feed, options))

    def _image_input(self) -> tuple[Any, int]:
        """The network's input and the side of the images that it takes."""
        inputs = self._session.get_inputs()
        side = _side_of(inputs[0].shape) if len(inputs) == 1 and inputs[0].type in _FLOATS else None
        if side is None:
            found = ", ".join(f"{one.name}: {one.type} {one.shape}" for one in inputs)
            raise HdmlError(
                f"{self.path} must take images alone, as float or float16 of [N or 1, 3, side, side], but it takes {found}; "
                "export the network with such an input"
            )
        return inputs[0], side

    def _vector_output(self) -> str:
        """The first output of vectors, else the first of maps."""
        from onnxruntime.capi import onnxruntime_pybind11_state as failures

        shape = (1 if self._one_by_one else 2, 3, self.preprocessing.crop, self.preprocessing.crop)
        names = [str(output.name) for output in self._session.get_outputs() if output.type in _FLOATS]
        try:
            found = self._run(names, np.zeros(shape, np.float32)) if names else []
        except (failures.Fail, failures.InvalidArgument, failures.NotImplemented, failures.RuntimeException) as error:
            raise HdmlError(
                f"{self.path} must run on images {list(shape)}, but onnxruntime fails "
                f"({' '.join(str(error).split())}); export the network for a fixed size and either any number of images or one"
            ) from error
        for dimensions in (2, 4):
            for name, values in zip(names, found, strict=True):
                if values.ndim == dimensions and len(values) == shape[0]:
                    return name
        gives = ", ".join(f"{name} {list(values.shape)}" for name, values in zip(names, found, strict=True))
        raise HdmlError(
            f"{self.path} must give float vectors [N, D], or maps [N, C, h, w] to average, but for images {list(shape)} "
            f"it gives {gives or 'no floats'}; export the network with such an output"
        )


AnyEncoder = Encoder | ForeignEncoder


def open_encoder(path: Path, *, device: str = "auto", threads: int = 0) -> AnyEncoder:
    """Open an encoder of ours by its metadata, or any other image network; raises HdmlError as both do."""
    try:
        return Encoder(path, device=device, threads=threads)
    except NoMetadata:
        return ForeignEncoder(path, device=device, threads=threads)


def _side_of(shape: list[Any]) -> int | None:
    """Side of the images [N or 1, 3, side, side] that an input takes; None when it takes something else."""
    match [size if isinstance(size, int) else None for size in shape]:
        case [None | 1, None | 3, height, width] if len({height, width} - {None}) < 2:
            return height or width or _USUAL_SIDE
    return None
