"""Any image network in an ONNX file, made into an encoder of ours: one file that takes photos as ours do and says it all itself.

The network itself stays as it is. Before it comes what it wants of its input besides size and statistics: float16, or bytes with
the colours last. Behind it comes what makes one vector of what it gives, and its length.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from indexing.encoder import METADATA_KEY, Encoder, EncoderMetadata, open_session, write_metadata
from indexing.errors import HdmlError
from indexing.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

PREPROCESSOR = "preprocessor_config.json"  # as Hugging Face's transformers write it beside a model
Pooling = Literal["cls", "mean"]

_USUAL_SIDE = 224  # of images where the network takes any
_MOST_BYTES = 2**31 - 1  # of one ONNX file, which is a protobuf message
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_RESAMPLING = {2: "bilinear", 3: "bicubic"}  # by the numbers of PIL.Image.Resampling
_AXES_ARE_INPUTS = 18  # since that opset
_PREFERRED = "image_embeds"  # CLIP's vector in the space that it shares with text, which it gives beside others
_TOLERANCE = 1e-3  # that an embedding may differ once the network is wrapped; float16 is computed elsewhere in another order


@dataclass(frozen=True)
class Asked:
    """What is said of a network by whoever adds it; None leaves it to the file beside it, or to what is usual.

    Attributes:
        image_size, resize: pixels: side of its input, and shorter side before the centre is cropped to that.
        mean, std: of the colours in units of 0..1.
        interpolation: ``"bilinear"`` or ``"bicubic"``.
        output: name of the output to take.
        pooling: what makes a vector of tokens [N, T, D]: ``"cls"``, the first one, or ``"mean"`` of all.
    """

    image_size: int | None = None
    resize: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: str | None = None
    output: str | None = None
    pooling: Pooling = "cls"


@dataclass(frozen=True)
class Wrapped:
    """An encoder that was made of a network.

    Attributes:
        metadata: of the encoder.
        output: of the network that its vectors come from.
        shape: that the output has for two images, or for one where the network takes no more.
        preprocessing_from: the file that told the preprocessing; None where none did.
    """

    metadata: EncoderMetadata
    output: str
    shape: list[int]
    preprocessing_from: Path | None


@dataclass(frozen=True)
class _Network:
    """A network that is open, and how it takes images."""

    path: Path
    session: Any
    name: str  # of its input
    type: str
    side: int | None  # None: any
    channels_last: bool
    one_by_one: bool

    def run(self, outputs: Sequence[str], images: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Outputs for images as an encoder of ours takes them, [N, 3, side, side]."""
        given = images.transpose(0, 2, 3, 1) if self.channels_last else images
        kind = _TYPES[self.type]
        given = (np.round(given) if kind is np.uint8 else given).astype(kind)
        return list(self.session.run(list(outputs), {self.name: np.ascontiguousarray(given)}))


def wrap_network(source: Path, target: Path, asked: Asked, *, name: str) -> Wrapped:
    """Write an encoder made of a network, once it gives what the network gives for two pictures.

    Args:
        source: an ONNX file, with its external data beside it if it has any, which come into the one file.
        target: the encoder's file; its folder is there.
        name: noted as the encoder's backbone.

    Raises:
        HdmlError: the file cannot be read, takes something else than images or gives nothing to make a vector of, is too large
            for one file, or what is asked of it does not fit.
    """
    network = _open(source)
    preprocessing, told_by = _preprocessing(network, asked)
    pictures = _pictures(preprocessing)[: 1 if network.one_by_one else 2]
    output, found = _choose_output(network, asked.output, pictures)
    model = _read(source)
    dimension = _wrap(model, network, preprocessing.crop, output, found, asked.pooling)
    metadata = EncoderMetadata(
        dimension=dimension,
        preprocessing=preprocessing,
        normalisation="l2",
        fingerprint=_fingerprint(source, preprocessing, output, asked.pooling),
        backbone=name,
        training_data="unknown",
        version=version("hdml"),
    )
    unfinished = target.with_name(f"{target.name}.unchecked")
    try:
        _write(model, unfinished, metadata)
        _check(unfinished, network, pictures, _pool(found, asked.pooling))
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return Wrapped(metadata, output, list(found.shape), told_by)


def _open(path: Path) -> _Network:
    session = open_session(path, device="cpu")
    if METADATA_KEY in session.get_modelmeta().custom_metadata_map:
        raise HdmlError(f"{path} is an encoder of hdml's already; give the file itself wherever an encoder is asked for")
    inputs = session.get_inputs()
    layout = _layout(inputs[0].shape) if len(inputs) == 1 and inputs[0].type in _TYPES else None
    if layout is None:
        found = ", ".join(f"{one.name}: {one.type} {one.shape}" for one in inputs)
        raise HdmlError(
            f"{path} must take square images alone, as float, float16 or uint8 of [N or 1, 3, side, side] or [N or 1, side, "
            f"side, 3], but it takes {found}; export the part of the network that sees images"
        )
    side, channels_last = layout
    return _Network(path, session, inputs[0].name, inputs[0].type, side, channels_last, inputs[0].shape[0] == 1)


def _layout(shape: list[Any]) -> tuple[int | None, bool] | None:
    """Side of the images that an input takes, None for any, and whether their colours come last; None when it takes others."""
    match [size if isinstance(size, int) else None for size in shape]:
        case [None | 1, height, width, 3] if len({height, width} - {None}) < 2 and height != 3:
            return height or width, True
        case [None | 1, None | 3, height, width] if len({height, width} - {None}) < 2:
            return height or width, False
    return None


def _preprocessing(network: _Network, asked: Asked) -> tuple[Preprocessing, Path | None]:
    """As asked, else as the file beside the network says, else as is usual; and that file, if there is one."""
    told, file = _told_beside(network.path)
    crop = asked.image_size or told.get("crop") or network.side or _USUAL_SIDE
    if network.side not in (None, crop):
        raise HdmlError(f"{network.path} takes images of {network.side} px, but is to be given {crop} px; leave --image-size out")
    if network.type == "tensor(uint8)":
        if asked.mean or asked.std:
            raise HdmlError(f"{network.path} takes pixels as bytes and normalises them itself; leave --mean and --std out")
        statistics = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}  # which leaves the bytes as they are
    else:
        statistics = {
            "mean": asked.mean or told.get("mean", IMAGENET_MEAN),
            "std": asked.std or told.get("std", IMAGENET_STD),
        }
    try:
        preprocessing = Preprocessing(
            resize=asked.resize or max(crop, told.get("resize", crop)),
            crop=crop,
            interpolation=asked.interpolation or told.get("interpolation", "bilinear"),
            **statistics,
        )
    except ValueError as error:
        raise HdmlError(f"{network.path} cannot be given photos so: {error}") from error
    return preprocessing, file


def _told_beside(path: Path) -> tuple[dict[str, Any], Path | None]:
    """What Hugging Face's file beside a network, or in the folder above it, says in our terms.

    Its sizes may be of a square that photos are squeezed into; here their centres are cropped to that square instead.
    """
    file = next((at / PREPROCESSOR for at in (path.parent, path.parent.parent) if (at / PREPROCESSOR).is_file()), None)
    if file is None:
        return {}, None
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        told: dict[str, Any] = {}
        resize = _side(about["size"]) if about.get("do_resize", True) and about.get("size") is not None else None
        crop = _side(about["crop_size"]) if about.get("do_center_crop") and about.get("crop_size") is not None else resize
        told |= {key: value for key, value in (("resize", resize), ("crop", crop)) if value is not None}
        if "resample" in about:
            told["interpolation"] = _RESAMPLING[about["resample"]]
        if not np.isclose(about.get("rescale_factor", 1 / 255), 1 / 255):
            raise ValueError(f"rescale_factor {about['rescale_factor']}")
        if about.get("do_normalize", True) and "image_mean" in about:
            told |= {"mean": _three(about["image_mean"]), "std": _three(about["image_std"])}
        elif not about.get("do_normalize", True):
            told |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HdmlError(
            f"{file} must tell a square size, mean, std, and a resampling of 2 (bilinear) or 3 (bicubic), but that cannot be "
            f"read of it ({type(error).__name__}: {error}); move it away and give them as options"
        ) from error
    return told, file


def _side(size: int | dict[str, int]) -> int:
    """Of a size such as 224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    sides = {int(size)} if isinstance(size, int) else {int(side) for side in size.values()}
    (side,) = sides
    return side


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _pictures(preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Two pictures [2, 3, side, side], as a photo is given: coarse patches of any colour, since what is flat says little."""
    side = preprocessing.crop
    patches = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)
    spread = np.arange(side) * 8 // side
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return np.ascontiguousarray((patches[:, :, spread][:, :, :, spread] - mean) / std, np.float32)


def _choose_output(network: _Network, wanted: str | None, images: NDArray[np.float32]) -> tuple[str, NDArray[Any]]:
    """Name and values of the output to take: the one that is wanted, else vectors, else maps, else tokens."""
    from onnxruntime.capi import onnxruntime_pybind11_state as failures

    names = [str(output.name) for output in network.session.get_outputs() if output.type in _TYPES]
    try:
        found = dict(zip(names, network.run(names, images), strict=True)) if names else {}
    except (failures.Fail, failures.InvalidArgument, failures.NotImplemented, failures.RuntimeException) as error:
        raise HdmlError(
            f"{network.path} must run on images {list(images.shape)}, but onnxruntime fails ({' '.join(str(error).split())}); "
            "give the size that it takes with --image-size, or export it for a fixed one"
        ) from error
    fit = {name: values for name, values in found.items() if values.ndim in (2, 3, 4) and len(values) == len(images)}
    if wanted is not None:
        fit = {name: values for name, values in fit.items() if name == wanted}
    if not fit:
        gives = ", ".join(f"{name} {list(values.shape)}" for name, values in found.items()) or "no numbers"
        raise HdmlError(
            f"{network.path} must give {'' if wanted is None else f'by its output {wanted} '}float vectors [N, D], tokens "
            f"[N, T, D] or maps [N, C, h, w], but for images {list(images.shape)} it gives {gives}"
        )
    name = min(fit, key=lambda name: (name != _PREFERRED, {2: 0, 4: 1, 3: 2}[fit[name].ndim]))
    return name, fit[name]


def _pool(found: NDArray[Any], pooling: Pooling) -> NDArray[np.float32]:
    """Vectors [N, D] of what an output gives."""
    values = found.astype(np.float32)
    if values.ndim == 4:
        return np.asarray(values.mean((2, 3)))
    if values.ndim == 3:
        return np.asarray(values[:, 0] if pooling == "cls" else values.mean(1))
    return values


def _read(path: Path) -> Any:
    """The model with its external data in it; raises HdmlError when that is more than one file can hold."""
    import onnx

    files = [path, *_external_files(path)]
    size = sum(file.stat().st_size for file in files)
    if size > _MOST_BYTES:
        raise HdmlError(
            f"{path} must fit one ONNX file, of 2 GB, but has {size / 1e9:.1f} GB with its data; export it in float16"
        )
    return onnx.load(path)


def _external_files(path: Path) -> list[Path]:
    """Files that hold a network's weights beside it."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    graph = onnx.load(path, load_external_data=False).graph
    outside = (ExternalDataInfo(tensor).location for tensor in graph.initializer if uses_external_data(tensor))
    return [path.parent / name for name in sorted(set(outside))]


def _wrap(model: Any, network: _Network, side: int, output: str, found: NDArray[Any], pooling: Pooling) -> int:
    """Put around a model, in place, what makes it an encoder; returns the length of its vectors."""
    from onnx import TensorProto, compose, helper, numpy_helper

    inner = "network/"  # no name of ours may meet one of the network's
    compose.add_prefix(model, inner, inplace=True)
    graph, opset = model.graph, _opset(model)
    constants: list[Any] = []

    def reduce(kind: str, given: str, result: str, axes: list[int], *, keep: bool) -> Any:
        if opset < _AXES_ARE_INPUTS:
            return helper.make_node(kind, [given], [result], axes=axes, keepdims=int(keep))
        constants.append(numpy_helper.from_array(np.array(axes, np.int64), f"{result}/axes"))
        return helper.make_node(kind, [given, f"{result}/axes"], [result], keepdims=int(keep))

    before, seen = [], "images"
    if network.type == "tensor(uint8)":
        constants.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
        before.append(helper.make_node("Add", [seen, "half"], ["images/half"]))
        before.append(helper.make_node("Floor", ["images/half"], ["images/rounded"]))  # casting alone would cut 254.99998 off
        seen = "images/rounded"
    if network.channels_last:
        before.append(helper.make_node("Transpose", [seen], ["images/last"], perm=[0, 2, 3, 1]))
        seen = "images/last"
    before.append(helper.make_node("Cast", [seen], [inner + network.name], to=_onnx_type(network.type)))

    after = [helper.make_node("Cast", [inner + output], ["given"], to=TensorProto.FLOAT)]
    if found.ndim == 4:
        after.append(reduce("ReduceMean", "given", "raw", [2, 3], keep=False))
    elif found.ndim == 3 and pooling == "mean":
        after.append(reduce("ReduceMean", "given", "raw", [1], keep=False))
    elif found.ndim == 3:
        constants.append(numpy_helper.from_array(np.array(0, np.int64), "first"))
        after.append(helper.make_node("Gather", ["given", "first"], ["raw"], axis=1))
    else:
        after.append(helper.make_node("Identity", ["given"], ["raw"]))
    constants.append(numpy_helper.from_array(np.array(np.finfo(np.float32).eps, np.float32), "least"))
    after += [
        reduce("ReduceL2", "raw", "length", [1], keep=True),
        reduce("ReduceL2", "raw", "norm", [1], keep=False),
        helper.make_node("Max", ["length", "least"], ["divisor"]),
        helper.make_node("Div", ["raw", "divisor"], ["embedding"]),
    ]
    dimension, batch = found.shape[1] if found.ndim != 3 else found.shape[2], 1 if network.one_by_one else "batch"
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, side, side]))
    graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, dimension]))
    graph.output.append(helper.make_tensor_value_info("norm", TensorProto.FLOAT, [batch]))
    return int(dimension)


def _opset(model: Any) -> int:
    """The version of ONNX's own operators that a model uses."""
    from onnx import helper

    versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    if not versions:  # all of its own are of other domains
        model.opset_import.append(helper.make_opsetid("", 17))
        return 17
    return int(versions[0])


def _onnx_type(name: str) -> int:
    from onnx import TensorProto

    kinds = {"tensor(float)": TensorProto.FLOAT, "tensor(float16)": TensorProto.FLOAT16, "tensor(uint8)": TensorProto.UINT8}
    return int(kinds[name])


def _fingerprint(source: Path, preprocessing: Preprocessing, output: str, pooling: Pooling) -> str:
    """Of the network's files and of all that is done before and after it."""
    digest = hashlib.blake2b(digest_size=8)
    for file in [source, *_external_files(source)]:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    digest.update(json.dumps([asdict(preprocessing), output, pooling]).encode())
    return digest.hexdigest()


def _write(model: Any, path: Path, metadata: EncoderMetadata) -> None:
    import onnx

    try:
        onnx.save(model, path)
        write_metadata(path, metadata)
    except OSError as error:
        raise HdmlError(f"{path} cannot be written: {error.strerror}; free some space or choose another --workspace") from error


def _check(path: Path, network: _Network, pictures: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Raise HdmlError unless the wrapped network gives the direction that the network gave, and not the same for everything."""
    found, _ = Encoder(path, device="cpu").encode(pictures)
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    if not np.isfinite(expected).all() or not lengths.all():
        raise HdmlError(f"{network.path} must give every picture a direction, but gives {expected[0, :4].tolist()}… to one")
    if np.abs(found - expected / lengths).max() > _TOLERANCE:
        raise HdmlError(
            f"{network.path} gives other vectors once it is wrapped, by {np.abs(found - expected / lengths).max():.1e}, and so "
            "cannot be taken; export it anew, for a newer opset"
        )
    if len(found) > 1 and np.array_equal(found[0], found[1]):
        raise HdmlError(f"{network.path} must tell pictures apart, but gives the same vector to two that differ in everything")
