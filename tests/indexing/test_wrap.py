"""Encoders made of image networks of any kind, held against the network itself and against averages taken of the photo."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from indexing.encoder import Encoder, read_metadata
from indexing.errors import HdmlError
from indexing.indexer import embed_files, update_index
from indexing.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, load_array
from indexing.search import OpenIndex
from indexing.wrap import Asked, wrap_network

KINDS = {"float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
SIDE, SQUARE = 32, 8


def write_network(
    path: Path,
    *,
    outputs: Sequence[str] = ("maps",),
    kind: str = "float",
    shape: Sequence[int | str] = ("batch", 3, SIDE, SIDE),
    opset: int = 17,
    scale: float = 1.0,
    input_name: str = "pixels",
) -> Path:
    """Averages of squares of 8 px: as ``maps`` [N, 3, 4, 4], as ``tokens`` [N, 16, 3], or all of them in a row, ``vectors``.

    ``image_embeds`` are the vectors doubled and backwards, ``embedding`` the vectors, ``sum`` one number for all images.
    """
    last = shape[-1] == 3
    number = TensorProto.FLOAT16 if kind == "float16" else TensorProto.FLOAT
    nodes = [helper.make_node("Cast", [input_name], ["numbers"], to=number)]
    nodes.append(helper.make_node("Transpose", ["numbers"], ["first"], perm=[0, 3, 1, 2] if last else [0, 1, 2, 3]))
    nodes += [
        helper.make_node("Mul", ["first", "scale"], ["scaled"]),
        helper.make_node("AveragePool", ["scaled"], ["maps"], kernel_shape=[SQUARE] * 2, strides=[SQUARE] * 2),
        helper.make_node("Reshape", ["maps", "rows"], ["colours"]),
        helper.make_node("Transpose", ["colours"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("Flatten", ["tokens"], ["vectors"]),
        helper.make_node("Identity", ["vectors"], ["embedding"]),
        helper.make_node("MatMul", ["vectors", "backwards"], ["image_embeds"]),
        helper.make_node("ReduceMax", ["vectors"], ["sum"], keepdims=0),
    ]
    size, real = 3 * (SIDE // SQUARE) ** 2, np.float16 if kind == "float16" else np.float32
    constants = {"rows": np.array([0, 3, -1]), "scale": np.array(scale, real), "backwards": 2 * np.eye(size, dtype=real)[::-1]}
    ranks = {"maps": 4, "tokens": 3, "vectors": 2, "embedding": 2, "image_embeds": 2, "sum": 0}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(input_name, KINDS[kind], shape)],
        [helper.make_tensor_value_info(name, number, [None] * ranks[name]) for name in outputs],
        [numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def wrapped(source: Path, **asked: Any) -> Path:
    wrap_network(source, source.with_name("encoder.onnx"), Asked(**asked), name="network")
    return source.with_name("encoder.onnx")


def squares(file: Path, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Averages [16, 3] of squares of a photo as it is prepared, by rows."""
    image = load_array(file, preprocessing)
    steps = range(0, SIDE, SQUARE)
    return np.array([image[:, y : y + SQUARE, x : x + SQUARE].mean((1, 2)) for y in steps for x in steps])


def expected_of(output: str, pooling: str, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    match output, pooling:
        case "maps", _:
            return tokens.mean(0)
        case "tokens", "mean":
            return tokens.mean(0)
        case "tokens", _:
            return tokens[0]
        case "image_embeds", _:
            return 2 * tokens.ravel()[::-1]
    return tokens.ravel()


@pytest.mark.parametrize("opset", [11, 17, 18])
@pytest.mark.parametrize(
    ("output", "pooling"), [("maps", "cls"), ("tokens", "cls"), ("tokens", "mean"), ("vectors", "cls"), ("embedding", "cls")]
)
def test_encoder_gives_what_the_network_gives_of_the_photo(
    photos: Path, tmp_path: Path, output: str, pooling: str, opset: int
) -> None:
    """Also where the network has names that an encoder of ours has itself."""
    source = write_network(tmp_path / "network.onnx", outputs=[output], opset=opset, input_name="images")
    encoder = Encoder(wrapped(source, pooling=pooling), device="cpu")
    for file in sorted(photos.rglob("*.jpg"))[:3]:
        vector, norm = encoder.encode_photo(file)
        expected = expected_of(output, pooling, squares(file, encoder.preprocessing))
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)
        assert norm == pytest.approx(np.linalg.norm(expected), rel=1e-5)
    assert encoder.metadata.dimension == len(expected)
    assert encoder.preprocessing == Preprocessing(SIDE, SIDE, IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize("kind", ["float", "float16", "uint8"])
@pytest.mark.parametrize("shape", [("batch", 3, SIDE, SIDE), (1, SIDE, SIDE, 3), (1, 3, SIDE, SIDE), ("batch", "h", "w", 3)])
def test_networks_of_every_input_are_given_it(photos: Path, tmp_path: Path, kind: str, shape: tuple[int | str, ...]) -> None:
    source = write_network(tmp_path / "network.onnx", outputs=["vectors"], kind=kind, shape=shape)
    encoder = Encoder(wrapped(source, image_size=SIDE), device="cpu")
    files = sorted(photos.rglob("*.jpg"))
    if kind == "uint8":
        assert (encoder.preprocessing.mean, encoder.preprocessing.std) == ((0, 0, 0), (1 / 255, 1 / 255, 1 / 255))
    for photo in embed_files(encoder.path, files, device="cpu", workers=2):
        tokens = squares(photo.path, encoder.preprocessing)
        assert photo.vector is not None
        np.testing.assert_allclose(
            photo.vector, tokens.ravel() / np.linalg.norm(tokens), atol=1e-5 if kind != "float16" else 2e-3
        )


def test_bytes_reach_the_network_as_they_are(tmp_path: Path) -> None:
    source = write_network(tmp_path / "network.onnx", outputs=["vectors"], kind="uint8")
    for level in range(1, 256):
        Image.new("RGB", (SIDE, SIDE), (level, 0, 0)).save(tmp_path / f"{level}.png")
    encoder = Encoder(wrapped(source), device="cpu")
    for level in range(1, 256):
        assert encoder.encode_photo(tmp_path / f"{level}.png")[1] == pytest.approx(level * (SIDE // SQUARE), rel=1e-6)


def test_clips_vector_is_taken_before_others_unless_another_is_asked_for(photos: Path, tmp_path: Path) -> None:
    source = write_network(tmp_path / "network.onnx", outputs=["tokens", "maps", "vectors", "image_embeds"])
    file = photos / "red-right" / "0.jpg"
    for asked, output in ((None, "image_embeds"), ("tokens", "tokens"), ("vectors", "vectors")):
        encoder = Encoder(wrapped(source, output=asked), device="cpu")
        expected = expected_of(output, "cls", squares(file, encoder.preprocessing))
        np.testing.assert_allclose(encoder.encode_photo(file)[0], expected / np.linalg.norm(expected), atol=1e-5)


CLIP = {
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": {"shortest_edge": 40},
}
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (CLIP, Preprocessing(40, 32, tuple(CLIP["image_mean"]), tuple(CLIP["image_std"]), "bicubic")),
        (
            {**CLIP, "size": 36, "crop_size": 32, "resample": 2, "rescale_factor": 1 / 255},
            Preprocessing(36, 32, tuple(CLIP["image_mean"]), tuple(CLIP["image_std"])),
        ),
        (
            {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
            Preprocessing(32, 32, *HALVES),
        ),
        ({"do_normalize": False, "do_resize": False}, Preprocessing(32, 32, (0, 0, 0), (1, 1, 1))),
    ],
)
@pytest.mark.parametrize("place", [".", ".."])
def test_preprocessing_is_read_beside_the_network(
    tmp_path: Path, place: str, told: dict[str, Any], expected: Preprocessing
) -> None:
    (tmp_path / "onnx").mkdir()
    source = write_network(tmp_path / "onnx" / "network.onnx", shape=("batch", 3, "height", "width"))
    (tmp_path / "onnx" / place / "preprocessor_config.json").write_text(json.dumps(told))
    size = {} if "size" in told else {"image_size": 32}
    found = wrap_network(source, tmp_path / "encoder.onnx", Asked(**size), name="network")
    assert found.metadata.preprocessing == expected
    assert found.preprocessing_from == (source.parent / place).resolve() / "preprocessor_config.json"
    assert read_metadata(tmp_path / "encoder.onnx") == found.metadata


def test_what_is_asked_goes_before_what_is_told(tmp_path: Path) -> None:
    source = write_network(tmp_path / "network.onnx")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIP))
    found = read_metadata(wrapped(source, resize=48, mean=HALVES[0], std=HALVES[1], interpolation="bilinear"))
    assert found.preprocessing == Preprocessing(48, 32, *HALVES)


def test_fingerprint_is_of_the_network_and_of_all_that_is_done_to_photos(tmp_path: Path) -> None:
    source = write_network(tmp_path / "network.onnx", outputs=["tokens", "vectors"])
    other = write_network(tmp_path / "other.onnx", outputs=["tokens", "vectors"], scale=2.0)
    prints = [read_metadata(wrapped(source)).fingerprint for _ in range(2)]
    assert prints[0] == prints[1]
    for asked in ({"resize": 40}, {"mean": HALVES[0]}, {"output": "tokens"}, {"output": "tokens", "pooling": "mean"}):
        prints.append(read_metadata(wrapped(source, **asked)).fingerprint)
    prints.append(read_metadata(wrapped(other)).fingerprint)
    assert len(set(prints)) == 6


def test_weights_in_a_file_of_their_own_come_into_the_one_file(photos: Path, tmp_path: Path) -> None:
    model = onnx.load(write_network(tmp_path / "whole.onnx", outputs=["image_embeds"]))
    (tmp_path / "apart").mkdir()
    source = tmp_path / "apart" / "network.onnx"
    onnx.save(model, source, save_as_external_data=True, location="network.onnx_data")
    encoder = wrapped(source)
    before = read_metadata(encoder).fingerprint
    expected = Encoder(wrapped(tmp_path / "whole.onnx"), device="cpu").encode_photo(photos / "red-right" / "0.jpg")[0]
    weights = (tmp_path / "apart" / "network.onnx_data").read_bytes()
    (tmp_path / "apart" / "network.onnx_data").unlink()
    np.testing.assert_allclose(
        Encoder(encoder, device="cpu").encode_photo(photos / "red-right" / "0.jpg")[0], expected, atol=1e-6
    )
    with pytest.raises(HdmlError, match=r"network\.onnx must be an ONNX file, but onnxruntime cannot load it"):
        wrapped(source)
    changed = np.frombuffer(weights, np.uint8).copy()
    changed[-1] ^= 0x40  # the sign or size of one weight
    (tmp_path / "apart" / "network.onnx_data").write_bytes(changed.tobytes())
    assert read_metadata(wrapped(source)).fingerprint != before


def test_an_index_takes_it_as_any_other(photos: Path, tmp_path: Path) -> None:
    source = write_network(tmp_path / "network.onnx", outputs=["tokens"], shape=(1, 3, SIDE, SIDE))
    update_index(photos, tmp_path / "index", wrapped(source, pooling="mean"), device="cpu")
    with OpenIndex(tmp_path / "index", device="cpu") as opened:
        found = opened.search_photo(photos / "red-right" / "0.jpg", k=3)
        assert found[0].path == "red-right/0.jpg"
        assert found[0].score == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("network", "asked", "said"),
    [
        ({"outputs": ["sum"]}, {}, r"must give float vectors .* for images \[2, 3, 32, 32\] it gives sum \[\]"),
        ({}, {"output": "vectors"}, r"must give by its output vectors float vectors .* it gives maps \[2, 3, 4, 4\]"),
        ({}, {"image_size": 64}, "takes images of 32 px, but is to be given 64 px"),
        ({}, {"resize": 16}, "cannot be given photos so: the crop must be between"),
        ({"kind": "uint8"}, {"mean": HALVES[0]}, "takes pixels as bytes and normalises them itself"),
        ({"scale": 0.0}, {}, "must give every picture a direction, but gives"),
        ({"scale": float("nan")}, {}, "must give every picture a direction, but gives"),
    ],
)
def test_what_is_no_image_encoder_is_refused(tmp_path: Path, network: dict[str, Any], asked: dict[str, Any], said: str) -> None:
    source = write_network(tmp_path / "network.onnx", **network)
    with pytest.raises(HdmlError, match=said) as refused:
        wrapped(source, **asked)
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.onnx"]


@pytest.mark.parametrize("shape", [("batch", 3, 32, 64), ("batch", 5, 32, 32), (8, 3, 32, 32), ("batch", 3072)])
def test_an_input_that_is_no_square_image_is_refused_with_what_was_found(tmp_path: Path, shape: Sequence[int | str]) -> None:
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [None, None])
    graph = helper.make_graph([helper.make_node("Flatten", ["pixels"], ["vectors"])], "network", [pixels], [vectors])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "network.onnx")
    with pytest.raises(HdmlError, match="must take square images alone") as refused:
        wrapped(tmp_path / "network.onnx")
    assert f"but it takes pixels: tensor(float) {list(shape)};" in str(refused.value)


def test_a_network_that_sees_nothing_is_refused(tmp_path: Path) -> None:
    """As one that clips what it is given, after statistics that are not its own."""
    model = onnx.load(write_network(tmp_path / "network.onnx", outputs=["vectors"]))
    next(node for node in model.graph.node if node.op_type == "Mul").CopyFrom(
        helper.make_node("Clip", ["first", "least", "most"], ["scaled"])
    )
    bounds = {"least": 5.0, "most": 6.0}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(value, np.float32), name) for name, value in bounds.items())
    onnx.save(model, tmp_path / "network.onnx")
    with pytest.raises(HdmlError, match="must tell pictures apart, but gives the same vector to two"):
        wrapped(tmp_path / "network.onnx")


@pytest.mark.parametrize(
    "told",
    [
        {"size": {"height": 32, "width": 48}},
        {**CLIP, "resample": 0},
        {**CLIP, "rescale_factor": 1.0},
        {**CLIP, "image_mean": [0.5]},
        {"size": "large"},
        [],
    ],
)
def test_a_file_beside_it_that_tells_what_we_cannot_do_is_refused(tmp_path: Path, told: object) -> None:
    source = write_network(tmp_path / "network.onnx")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    with pytest.raises(HdmlError, match=r"preprocessor_config\.json must tell a square size"):
        wrapped(source)


def test_an_encoder_of_ours_needs_no_wrapping(tiny_encoder: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_encoder, tmp_path / "network.onnx")
    with pytest.raises(HdmlError, match="is an encoder of hdml's already"):
        wrapped(tmp_path / "network.onnx")


def test_more_than_one_file_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_network(tmp_path / "network.onnx")
    monkeypatch.setattr("indexing.wrap._MOST_BYTES", source.stat().st_size - 1)
    with pytest.raises(HdmlError, match="must fit one ONNX file, of 2 GB, but has"):
        wrapped(source)
