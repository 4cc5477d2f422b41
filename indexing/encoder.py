"""The encoder: an ONNX file that turns photos into embeddings, and the metadata that it carries."""

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexing.checksum import checksum
from indexing.device import has_vnni, onnx_providers
from indexing.errors import HdmlError
from indexing.preprocess import ImageSource, Preprocessing, Window, load_array

logger = logging.getLogger(__name__)

FORMAT = 1
METADATA_KEY = "hdml"
ENCODER = "encoder.onnx"  # its name in a run's and in an index's folder
_MARK = b'"checksum": "'  # in the metadata, before the digits
_DIGITS = 16  # eight of all of the file, eight of pieces of it
_TAIL_BYTES = 1 << 16  # of a file, within which the metadata is
INT8_ENCODER = "encoder.int8.onnx"  # its name in a run's folder, beside the encoder that it was made of
IMPORTED = "imported-"  # how the fingerprint of an index begins whose vectors came from elsewhere, without their encoder


@dataclass(frozen=True)
class EncoderMetadata:
    """What an encoder's file says about itself.

    Attributes:
        dimension: length of an embedding.
        preprocessing: what to do to a photo before the network sees it.
        normalisation: ``"l2"``: embeddings have unit length.
        fingerprint: 16 hexadecimal digits; two encoders with the same one give the same embeddings.
        backbone: name of the network, e.g. ``"resnet18"``.
        training_data: e.g. ``"grocery: 34 classes"``, or ``"none"``.
        version: of the product that exported the file.
        quantization: of an int8 encoder: the fingerprint of the encoder that it was made ``of``, how, and how it was checked.
    """

    dimension: int
    preprocessing: Preprocessing
    normalisation: str
    fingerprint: str
    backbone: str
    training_data: str
    version: str
    quantization: dict[str, Any] | None = None

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **{name: value for name, value in asdict(self).items() if value is not None}})

    @classmethod
    def from_json(cls, text: str) -> "EncoderMetadata":
        """Read what to_json wrote; raises HdmlError when the text is something else or of a later format."""
        try:
            fields = json.loads(text)
            found = fields.pop("format")
            fields.pop("checksum", None)
            if found != FORMAT:
                raise HdmlError(f"the encoder's metadata must be of format {FORMAT}, but is of format {found}; update hdml")
            shape = fields.pop("preprocessing")
            preprocessing = Preprocessing(**{**shape, "mean": tuple(shape["mean"]), "std": tuple(shape["std"])})
            return cls(preprocessing=preprocessing, **fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HdmlError(f"the encoder's metadata cannot be understood ({error}); export the model again") from error


def write_metadata(path: Path, metadata: EncoderMetadata) -> None:
    """Put the metadata into an ONNX file, in place of any it had; the file is replaced atomically."""
    put_metadata(path, metadata.to_json())


def put_metadata(path: Path, text: str) -> None:
    """Put a JSON object into an ONNX file, in place of any it had, with a checksum of the file; it is replaced atomically."""
    import onnx

    model = onnx.load(path)
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=METADATA_KEY, value=json.dumps({**json.loads(text), "checksum": "0" * _DIGITS}))
    unfinished = path.with_name(path.name + ".part")
    onnx.save(model, unfinished)
    _, tail, end = _marked(unfinished)
    digits = "".join(f"{checksum(unfinished, tail, end=end, whole=whole):08x}" for whole in (True, False))
    with unfinished.open("r+b") as file:
        file.seek(end)
        file.write(digits.encode())
    unfinished.replace(path)


def is_imported(fingerprint: str) -> bool:
    """Whether an index of that fingerprint has vectors from elsewhere, and no encoder."""
    return fingerprint.startswith(IMPORTED)


def _marked(path: Path) -> tuple[bytes, bytes, int]:
    """The digits of an ONNX file's checksum, what follows them, and where they begin; no digits where it has no checksum."""
    with path.open("rb") as file:
        start = max(0, path.stat().st_size - _TAIL_BYTES)
        file.seek(start)
        tail = file.read()
    place = tail.rfind(_MARK)
    if place < 0:
        return b"", b"", 0
    place += len(_MARK)
    return tail[place : place + _DIGITS], tail[place + _DIGITS :], start + place


def _is_whole(path: Path, *, check_all: bool) -> bool:
    """Whether an ONNX file is as it was written, as far as its checksum tells; one without may be anything."""
    digits, tail, end = _marked(path)
    expected = digits[: _DIGITS // 2] if check_all else digits[_DIGITS // 2 :]
    return not digits or expected == f"{checksum(path, tail, end=end, whole=check_all):08x}".encode()


class NoMetadata(HdmlError):
    """An ONNX file that hdml's export did not write."""


class Encoder:
    """An encoder ready to run; safe to call from several threads.

    Attributes:
        path: the ONNX file.
        metadata: what the file says about itself.
        device: ``"cpu"`` or ``"cuda"``, as the session really runs.
        preprocessing: that of the metadata.
    """

    def __init__(self, path: Path, *, device: str = "auto", threads: int = 0) -> None:
        """Open an encoder.

        Args:
            path: an ONNX file written by the export.
            device: ``"auto"`` uses CUDA when its provider really loads, else the CPU.
            threads: onnxruntime's threads within one operation; 0 takes every core.

        Raises:
            HdmlError: no such file, not an encoder, or a CUDA that was asked for and is not there.
        """
        self.path = path
        self._session = open_session(path, device=device, threads=threads)
        self.device = device_of(self._session)
        self.metadata = EncoderMetadata.from_json(hdml_metadata(self._session, path))
        self.preprocessing = self.metadata.preprocessing
        self._one_by_one = self._session.get_inputs()[0].shape[0] == 1  # of networks that others exported

    def encode(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embed a batch: [B, 3, crop, crop] → unit embeddings [B, D] and their lengths before normalisation [B]."""
        batches = images[:, None] if self._one_by_one else [images]
        found = [self._session.run(["embedding", "norm"], {"images": batch}) for batch in batches]
        embeddings, norms = zip(*found, strict=True)
        return np.concatenate(embeddings), np.concatenate(norms)

    def encode_photo(self, source: ImageSource, *, crop: Window | None = None) -> tuple[NDArray[np.float32], float]:
        """Embed one photo, or a part of it: unit embedding [D] and its length before normalisation; raises UnreadableImage."""
        embeddings, norms = self.encode(load_array(source, self.preprocessing, box=crop)[None])
        return embeddings[0], float(norms[0])

    def look(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Unit embeddings [B, D] of a batch [B, 3, crop, crop], and its last spatial maps [B, F, h, w]."""
        embeddings, maps = self._session.run(["embedding", "feature_map"], {"images": images})
        return np.asarray(embeddings), np.asarray(maps)


def read_metadata(path: Path, *, check_all: bool = False) -> EncoderMetadata:
    """What an encoder's file says about itself; cheaper than opening it to run. Raises HdmlError as Encoder does.

    Args:
        check_all: whether all of a large file is read to tell whether it is damaged, not only pieces of it.
    """
    session = open_session(path, device="cpu", optimise=False, check_all=check_all)
    return EncoderMetadata.from_json(hdml_metadata(session, path))


def open_session(path: Path, *, device: str = "auto", threads: int = 0, optimise: bool = True, check_all: bool = False) -> Any:
    """Open any ONNX file by the device rule; raises HdmlError as Encoder does.

    Returns:
        onnxruntime.InferenceSession, which has no type stubs.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as failures

    if not path.is_file():
        raise HdmlError(f"{path} must be an ONNX file, but there is none; train a model or export one with hdml export")
    if not _is_whole(path, check_all=check_all):
        raise HdmlError(f"{path} must be as it was exported, but is damaged: its checksum is another; export the model again")
    providers = onnx_providers(device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if not has_vnni():
        # Other x86 CPUs add pairs of int8 products in 16 bits, where large ones are cut off, unless they take a slower path:
        # one encoder would give other embeddings here than where VNNI adds them in 32 bits.
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3  # errors only: a provider that does not load is checked below, and said in our words
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except (
        failures.InvalidProtobuf,
        failures.InvalidGraph,
        failures.InvalidArgument,
        failures.NotImplemented,
        failures.Fail,
        UnicodeDecodeError,  # of its own message, which holds names from the file
    ) as error:
        said = " ".join(str(error).split())
        raise HdmlError(
            f"{path} must be an ONNX file, but onnxruntime cannot load it ({said}); export the model again"
        ) from error
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise HdmlError('the device "cuda" was asked for, but onnxruntime\'s CUDA provider does not load; see hdml doctor')
    return session


def device_of(session: Any) -> str:
    """``"cpu"`` or ``"cuda"``, as an onnxruntime session really runs."""
    return "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"


def hdml_metadata(session: Any, path: Path) -> str:
    """The JSON text that hdml's export put into the file; raises NoMetadata when there is none."""
    try:
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    except UnicodeDecodeError as error:
        raise HdmlError(f"{path} must be as it was exported, but its metadata is no text; export the model again") from error
    if text is None:
        raise NoMetadata(
            f'{path} is an ONNX file without hdml\'s metadata; make an encoder of it with "hdml encoder add {path}", or another '
            'with "hdml train" or "hdml export"'
        )
    return str(text)
