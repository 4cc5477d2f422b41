"""Fixtures that every package's tests share: small folders of photos, a small encoder and synthesizer, and a trained workspace.

All are real files. The small encoder needs no torch: it sees average colours on a grid, so that it tells the photos' classes
apart. Only what a command trained holds a real network.
"""

import colorsys
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

from indexing.encoder import METADATA_KEY, EncoderMetadata
from indexing.preprocess import Preprocessing

# Images so small are computed as fast by one thread, and on a busy machine several wait for each other more than they compute.
# Read when torch is first imported, here and by the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

PHOTOS_PER_CLASS = 5
CLASSES = {
    "blue-left": ("royalblue", 0.25),
    "blue-right": ("royalblue", 0.75),
    "green-left": ("seagreen", 0.25),
    "red-right": ("firebrick", 0.75),
}
TINY = EncoderMetadata(
    dimension=32,
    preprocessing=Preprocessing(resize=36, crop=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    normalisation="l2",
    fingerprint="00c0ffee00c0ffee",
    backbone="tiny",
    training_data="none",
    version="0.1.0",
)
COLOURS = ("firebrick", "seagreen", "royalblue", "goldenrod")
SHAPES = ("ellipse", "rectangle", "regular_polygon")
SHAPES_PER_CLASS = 6
HUES = tuple(f"hue-{number:02}" for number in range(12))
UNSEEN_HUES = HUES[::3]
DISCS_PER_HUE = 6


def draw_photo(colour: str, centre: float, rng: np.random.Generator) -> Image.Image:
    """A disc of that colour at that share of the width, a little different each time, on a pale background."""
    width, height = int(rng.integers(72, 97)), 72
    background = tuple(int(value) for value in rng.integers(215, 240, size=3))
    image = Image.new("RGB", (width, height), background)
    x, y = width * (centre + rng.uniform(-0.04, 0.04)), height * (0.5 + rng.uniform(-0.06, 0.06))
    radius = height * rng.uniform(0.2, 0.26)
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_photos(tmp_path / "photos")


def draw_photos(folder: Path) -> Path:
    """Four classes of five JPEG photos each: <class>/<number>.jpg."""
    rng = np.random.default_rng(11)
    for name, (colour, centre) in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(PHOTOS_PER_CLASS):
            draw_photo(colour, centre, rng).save(folder / name / f"{number}.jpg", quality=92)
    return folder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve classes, a shape in a colour, of six JPEG photos of about 48 px each; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    rng = np.random.default_rng(5)
    for colour in COLOURS:
        for shape in SHAPES:
            place = folder / f"{colour}-{shape}"
            place.mkdir(parents=True)
            for number in range(SHAPES_PER_CLASS):
                draw_shape(colour, shape, rng).save(place / f"{number}.jpg", quality=92)
    return folder


def draw_shape(colour: str, shape: str, rng: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", (int(rng.integers(44, 60)), 48), tuple(int(value) for value in rng.integers(150, 240, 3)))
    x, y, radius = (int(value) for value in (rng.integers(18, 28), rng.integers(18, 28), rng.integers(9, 15)))
    draw = ImageDraw.Draw(image)
    if shape == "regular_polygon":
        draw.regular_polygon((x, y, radius), 3, fill=colour)
    else:
        getattr(draw, shape)((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve classes, the hues of a small disc on a background of any colours, of six JPEG photos of about 48 px each.

    Networks with random weights see the background, so that there is something to learn, and what is learned holds for hues
    that were not seen. Tests leave them as they are.
    """
    folder = tmp_path_factory.mktemp("data") / "discs"
    rng = np.random.default_rng(5)
    for number, name in enumerate(HUES):
        (folder / name).mkdir(parents=True)
        for photo in range(DISCS_PER_HUE):
            draw_disc(number / len(HUES), rng).save(folder / name / f"{photo}.jpg", quality=92)
    return folder


@pytest.fixture(scope="session")
def many_discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same classes with ten photos each, which is enough to tell what a score means."""
    folder = tmp_path_factory.mktemp("data") / "many-discs"
    rng = np.random.default_rng(6)
    for number, name in enumerate(HUES):
        (folder / name).mkdir(parents=True)
        for photo in range(10):
            draw_disc(number / len(HUES), rng).save(folder / name / f"{photo}.jpg", quality=92)
    return folder


def draw_disc(hue: float, rng: np.random.Generator) -> Image.Image:
    patches = Image.fromarray(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8))
    image = patches.resize((int(rng.integers(44, 60)), 48), Image.Resampling.BILINEAR)
    radius, x, y = rng.uniform(8, 11), image.width / 2 + rng.uniform(-3, 3), 24 + rng.uniform(-3, 3)
    colour = colorsys.hsv_to_rgb((hue + rng.uniform(-0.01, 0.01)) % 1, rng.uniform(0.8, 1), rng.uniform(0.6, 1))
    box = (x - radius, y - radius, x + radius, y + radius)
    ImageDraw.Draw(image).ellipse(box, fill=tuple(round(255 * value) for value in colour))
    return image


@dataclass(frozen=True)
class Trained:
    """A workspace in which the real commands trained on the discs, without UNSEEN_HUES, and indexed them all.

    Attributes:
        workspace: its folder, which tests leave as it is.
        photos: the discs.
        train, index: the answers of ``hdml train --json`` and ``hdml index --json``.
        told: what training told the person meanwhile.
    """

    workspace: Path
    photos: Path
    train: dict[str, Any]
    index: dict[str, Any]
    told: str


def run_hdml(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run the installed command as a user does, in a process of its own."""
    command = [str(Path(sys.executable).with_name("hdml")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


@pytest.fixture(scope="session")
def trained(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    workspace, unseen = folder / "workspace", folder / "unseen.txt"
    unseen.write_text("\n".join(UNSEEN_HUES))
    size = ("--weights", "none", "--image-size", 32, "--steps", 50, "--classes-per-batch", 8, "--dimension", 16)
    train = run_hdml("train", discs, "--test-classes", unseen, *size, "--run", "mine", "--workspace", workspace, "--json")
    assert train.returncode == 0, train.stderr
    index = run_hdml("index", discs, "--workspace", workspace, "--json")
    assert index.returncode == 0, index.stderr
    last_lines = [json.loads(done.stdout.splitlines()[-1]) for done in (train, index)]
    return Trained(workspace, discs, last_lines[0], last_lines[1], train.stderr)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of 32 dimensions whose features are average colours in a 4 × 4 grid; its fingerprint is TINY's."""
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder") / "encoder.onnx", TINY, seed=0)


@pytest.fixture(scope="session")
def tiny_synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthesizer that belongs to tiny_encoder: it pulls by the rule, and its generator mixes the dimensions a little."""
    return write_tiny_synthesizer(tmp_path_factory.mktemp("synthesizer") / "synthesizer.onnx", TINY)


@pytest.fixture
def tiny_run(tmp_path: Path, tiny_encoder: Path, tiny_synthesizer: Path) -> Path:
    """A finished run in a workspace: tmp_path/workspace/runs/tiny with encoder.onnx, synthesizer.onnx and run.json."""
    run = tmp_path / "workspace" / "runs" / "tiny"
    run.mkdir(parents=True)
    (run / "encoder.onnx").write_bytes(tiny_encoder.read_bytes())
    (run / "synthesizer.onnx").write_bytes(tiny_synthesizer.read_bytes())
    summary = {"name": "tiny", "method": "hdml", "loss": "npair", "finished": "2026-01-02T03:04:05+00:00"}
    (run / "run.json").write_text(json.dumps(summary))
    return run


def write_tiny_encoder(path: Path, metadata: EncoderMetadata, *, seed: int) -> Path:
    """images → ±colours, averaged over a 4 × 4 grid (feature_map) → a seeded linear head → norm and embedding."""
    rng = np.random.default_rng(seed)
    crop, dimension = metadata.preprocessing.crop, metadata.dimension
    colours = np.concatenate([np.eye(3), -np.eye(3)]).reshape(6, 3, 1, 1)
    weights = {
        "colours": colours,
        "head": rng.standard_normal((6 * 4 * 4, dimension)) / 10,
        "bias": rng.standard_normal(dimension) / 10,  # keeps the norm of a plain grey photo above zero
    }
    nodes = [
        helper.make_node("Conv", ["images", "colours"], ["signed"]),
        helper.make_node("Relu", ["signed"], ["positive"]),
        helper.make_node("AveragePool", ["positive"], ["feature_map"], kernel_shape=[crop // 4] * 2, strides=[crop // 4] * 2),
        helper.make_node("Flatten", ["feature_map"], ["features"]),
        helper.make_node("Gemm", ["features", "head", "bias"], ["raw"]),
        helper.make_node("ReduceL2", ["raw"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Div", ["raw", "length"], ["embedding"]),
        helper.make_node("ReduceL2", ["raw"], ["norm"], axes=[1], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, crop, crop])]
    outputs = [
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", dimension]),
        helper.make_tensor_value_info("norm", TensorProto.FLOAT, ["batch"]),
        helper.make_tensor_value_info("feature_map", TensorProto.FLOAT, ["batch", 6, 4, 4]),
    ]
    return save_graph(path, nodes, inputs, outputs, weights, metadata.to_json())


def write_pooling_encoder(folder: Path, metadata: EncoderMetadata) -> Path:
    """As write_tiny_encoder, but the grid is averaged before the head; with regions.onnx beside it, the head of each place."""
    rng = np.random.default_rng(0)
    crop, dimension = metadata.preprocessing.crop, metadata.dimension
    colours = np.concatenate([np.eye(3), -np.eye(3)]).reshape(6, 3, 1, 1)
    head, bias = rng.standard_normal((6, dimension)), rng.standard_normal(dimension) / 10
    nodes = [
        helper.make_node("Conv", ["images", "colours"], ["signed"]),
        helper.make_node("Relu", ["signed"], ["positive"]),
        helper.make_node("AveragePool", ["positive"], ["feature_map"], kernel_shape=[crop // 4] * 2, strides=[crop // 4] * 2),
        helper.make_node("ReduceMean", ["feature_map"], ["features"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["features", "head", "bias"], ["raw"]),
        helper.make_node("ReduceL2", ["raw"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Div", ["raw", "length"], ["embedding"]),
        helper.make_node("ReduceL2", ["raw"], ["norm"], axes=[1], keepdims=0),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, crop, crop])
    feature_map = helper.make_tensor_value_info("feature_map", TensorProto.FLOAT, ["batch", 6, 4, 4])
    local = helper.make_tensor_value_info("local_embeddings", TensorProto.FLOAT, ["batch", dimension, 4, 4])
    outputs = [
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", dimension]),
        helper.make_tensor_value_info("norm", TensorProto.FLOAT, ["batch"]),
        feature_map,
    ]
    weights = {"colours": colours, "head": head, "bias": bias}
    encoder = save_graph(folder / "encoder.onnx", nodes, [images], outputs, weights, metadata.to_json())
    place = [helper.make_node("Conv", ["feature_map", "head", "bias"], ["local_embeddings"])]
    about = json.dumps({"format": 1, "fingerprint": metadata.fingerprint, "dimension": dimension})
    kernel = {"head": head.T.reshape(dimension, 6, 1, 1), "bias": bias}
    save_graph(folder / "regions.onnx", place, [feature_map], [local], kernel, about)
    return encoder


def write_stranger(
    path: Path,
    *,
    shape: Sequence[int | str] = ("batch", 3, 32, 32),
    outputs: Sequence[str] = ("vectors",),
    numbers: int = TensorProto.FLOAT,
    squares: int = -1,
) -> Path:
    """An image network without hdml's metadata, its input named pixels.

    It can give ``maps``, colours averaged over squares of 8 px; ``tokens``, the squares of a map in a row; ``vectors``, the
    largest of each row; ``roots`` of these, which those of a dark photo do not have; and ``ranks``, integers.

    Args:
        squares: of a map; −1 for those of any map.
    """
    shapes = {"maps": 4, "tokens": 3, "vectors": 2, "roots": 2, "ranks": 2}
    kinds = {"ranks": TensorProto.INT64}
    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["maps"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["maps", "row"], ["tokens"]),
        helper.make_node("ReduceMax", ["tokens"], ["vectors"], axes=[2], keepdims=0),
        helper.make_node("Sqrt", ["vectors"], ["roots"]),
        helper.make_node("Cast", ["vectors"], ["ranks"], to=TensorProto.INT64),
    ]
    graph = helper.make_graph(
        nodes,
        "stranger",
        [helper.make_tensor_value_info("pixels", numbers, shape)],
        [helper.make_tensor_value_info(name, kinds.get(name, numbers), [None] * shapes[name]) for name in outputs],
        [numpy_helper.from_array(np.array([0, 3, squares]), "row")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def write_tiny_synthesizer(
    path: Path,
    metadata: EncoderMetadata,
    *,
    on_sphere: bool = False,
    share: float = 0.5,
    training: dict[str, Any] | None = None,
) -> Path:
    """anchors, positives, negatives, lambda → pulled (by the rule) and synthetic (pulled, a little mixed)."""
    dimension = metadata.dimension
    mixing = 0.95 * np.eye(dimension) + 0.05 * np.roll(np.eye(dimension), 1, axis=0)
    weights = {"mixing": mixing, "one": np.array(1.0), "least": np.array(1e-12)}
    nodes = [
        helper.make_node("Sub", ["positives", "anchors"], ["to_positive"]),
        helper.make_node("Sub", ["negatives", "anchors"], ["to_negative"]),
        helper.make_node("ReduceL2", ["to_positive"], ["d_ap"], axes=[1], keepdims=1),
        helper.make_node("ReduceL2", ["to_negative"], ["d_an"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["lambda", "d_an"], ["kept"]),
        helper.make_node("Sub", ["one", "lambda"], ["rest"]),
        helper.make_node("Mul", ["rest", "d_ap"], ["moved"]),
        helper.make_node("Add", ["kept", "moved"], ["distance"]),
        helper.make_node("Max", ["d_an", "least"], ["divisor"]),
        helper.make_node("Div", ["distance", "divisor"], ["ratio"]),
        helper.make_node("Greater", ["d_an", "d_ap"], ["far"]),
        helper.make_node("Where", ["far", "ratio", "one"], ["scale"]),
        helper.make_node("Mul", ["to_negative", "scale"], ["step"]),
        helper.make_node("Add", ["anchors", "step"], ["pulled"]),
        helper.make_node("MatMul", ["pulled", "mixing"], ["synthetic"]),
    ]
    rows = ["batch", dimension]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, rows) for name in ("anchors", "positives", "negatives")]
    inputs.append(helper.make_tensor_value_info("lambda", TensorProto.FLOAT, []))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, rows) for name in ("pulled", "synthetic")]
    about = {
        "format": 1,
        "dimension": dimension,
        "fingerprint": metadata.fingerprint,
        "lambda": share,
        **({} if training is None else {"training": training}),
        "on_sphere": on_sphere,
        "method": "hdml",
        "loss": "npair",
    }
    return save_graph(path, nodes, inputs, outputs, weights, json.dumps(about))


def tiny_training(photos: Path, *members: tuple[str, str, str]) -> dict[str, Any]:
    """What a synthesizer may know of its run: 40 steps, λ from 1 to 0.3, and probe tuples of photos of a folder.

    Args:
        members: paths of anchor, positive and negative; of the distances that are told, each is ten times the step's λ plus a
            number of its own.
    """
    stages = [[0, 1.0], [16, 0.7], [32, 0.37], [40, 0.3]]
    names = ("d_ap", "d_an", "pulled", "again_ap", "reembedded")
    looks = [
        {
            "step": step,
            "share": share,
            **{name: [round(10 * share + number, 5) for _ in members] for number, name in enumerate(names)},
            "label_kept": [share < 0.5 for _ in members],
        }
        for step, share in stages
    ]
    tuples = [
        [
            {
                "label": Path(path).parent.name,
                "hash": hashlib.blake2b((photos / path).read_bytes(), digest_size=20).hexdigest(),
            }
            for path in paths
        ]
        for paths in members
    ]
    return {"steps": 40, "chosen": 32, "stages": stages, "probes": {"tuples": tuples, "looks": looks}}


def save_graph(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, NDArray[np.float64]],
    metadata: str,
) -> Path:
    """Write a checked ONNX file of float32 weights that carries hdml's metadata."""
    constants = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    model.metadata_props.add(key=METADATA_KEY, value=metadata)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
