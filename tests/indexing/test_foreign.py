"""Image networks that hdml did not export: what is taken for the embedding of a photo, and which files are refused."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from indexing.encoder import Encoder
from indexing.errors import HdmlError
from indexing.foreign import ForeignEncoder, open_encoder
from indexing.indexer import embed_files
from indexing.preprocess import evaluation_preprocessing, load_array
from tests.conftest import write_stranger


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return vector / np.linalg.norm(vector)


def squares(photo: Path, side: int) -> NDArray[np.float32]:
    """[3, side / 8, side / 8] colours of a photo, averaged over squares of 8 px."""
    image = load_array(photo, evaluation_preprocessing(side))
    return image.reshape(3, side // 8, 8, side // 8, 8).mean((2, 4))


@pytest.mark.parametrize(
    ("shape", "side"),
    [
        (("batch", 3, 32, 32), 32),
        ((1, 3, 32, 32), 32),
        (("batch", 3, "height", "width"), 224),
        (("batch", "channels", "height", "width"), 224),
        (("batch", 3, 48, "width"), 48),
    ],
)
@pytest.mark.parametrize("numbers", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_photos_are_embedded_at_the_size_that_the_network_takes(
    photos: Path, tmp_path: Path, shape: Sequence[int | str], side: int, numbers: int
) -> None:
    stranger = write_stranger(tmp_path / "stranger.onnx", shape=shape, numbers=numbers)
    files = sorted(photos.rglob("*.jpg"))
    embedded = list(embed_files(stranger, files, device="cpu", workers=2))
    assert [photo.path for photo in embedded] == files
    for photo in embedded:
        expected = squares(photo.path, side).max((1, 2))
        assert photo.vector is not None
        assert photo.vector.dtype == np.float32
        np.testing.assert_allclose(photo.vector, unit(expected), atol=1e-2 if numbers == TensorProto.FLOAT16 else 1e-5)
        assert photo.norm == pytest.approx(np.linalg.norm(expected), rel=1e-2)


@pytest.mark.parametrize(
    ("outputs", "vectors"),
    [(["tokens", "maps", "vectors"], True), (["ranks", "vectors"], True), (["maps"], False), (["tokens", "maps"], False)],
)
@pytest.mark.parametrize("batch", ["batch", 1])
def test_first_vectors_are_taken_or_else_maps_averaged_over_space(
    photos: Path, tmp_path: Path, outputs: list[str], vectors: bool, batch: int | str
) -> None:
    encoder = ForeignEncoder(write_stranger(tmp_path / "stranger.onnx", shape=(batch, 3, 32, 32), outputs=outputs), device="cpu")
    files = sorted(photos.rglob("*.jpg"))
    found, norms = encoder.encode(np.stack([load_array(file, encoder.preprocessing) for file in files]))
    for file, embedding, norm in zip(files, found, norms, strict=True):
        colours = squares(file, 32)
        expected = colours.max((1, 2)) if vectors else colours.mean((1, 2))
        np.testing.assert_allclose(embedding, unit(expected), atol=1e-5)
        assert norm == pytest.approx(np.linalg.norm(expected), rel=1e-5)


def test_vector_that_is_not_finite_is_a_failure_of_its_photo_alone(photos: Path, tmp_path: Path) -> None:
    stranger = write_stranger(tmp_path / "stranger.onnx", outputs=["roots"])
    dark = photos / "dark.jpg"
    Image.new("RGB", (40, 40)).save(dark)
    files = [dark, *sorted(photos.glob("*/*.jpg"))]
    embedded = list(embed_files(stranger, files, device="cpu", workers=1))
    assert {photo.path: photo.reason for photo in embedded if photo.vector is None} == {
        dark: "the encoder gives no finite embedding of it"
    }


def test_metadata_of_ours_decides_where_there_are_any(tiny_encoder: Path, tmp_path: Path) -> None:
    assert isinstance(open_encoder(tiny_encoder, device="cpu"), Encoder)
    model = onnx.load(tiny_encoder)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "stranger.onnx")
    encoder = open_encoder(tmp_path / "stranger.onnx", device="cpu")
    assert encoder.preprocessing == evaluation_preprocessing(32)


@pytest.mark.parametrize(
    "shape", [("batch", 4, 32, 32), (8, 3, 32, 32), ("batch", 32, 32, 3), ("batch", 3, 32, 64), ("batch", 3, 32), ("batch", 3072)]
)
def test_input_that_is_no_square_image_is_refused_with_what_was_found(tmp_path: Path, shape: Sequence[int | str]) -> None:
    stranger = taking(tmp_path / "stranger.onnx", {"pixels": shape})
    with pytest.raises(HdmlError) as refused:
        open_encoder(stranger, device="cpu")
    assert str(refused.value) == (
        f"{stranger} must take images alone, as float or float16 of [N or 1, 3, side, side], but it takes pixels: tensor(float) "
        f"{list(shape)}; export the network with such an input"
    )


def test_bytes_and_second_inputs_are_refused(tmp_path: Path) -> None:
    image = ("batch", 3, 32, 32)
    with pytest.raises(HdmlError, match=r"but it takes pixels: tensor\(uint8\) \['batch', 3, 32, 32\]; export"):
        open_encoder(taking(tmp_path / "bytes.onnx", {"pixels": image}, numbers=TensorProto.UINT8), device="cpu")
    with pytest.raises(HdmlError, match=r"but it takes pixels: .*, words: tensor\(float\) \['batch', 77\]; export"):
        open_encoder(taking(tmp_path / "two.onnx", {"pixels": image, "words": ("batch", 77)}), device="cpu")


def taking(path: Path, inputs: dict[str, Sequence[int | str]], *, numbers: int = TensorProto.FLOAT) -> Path:
    """A file that gives each of its inputs back."""
    nodes = [helper.make_node("Identity", [name], [f"same {name}"]) for name in inputs]
    values = [
        [helper.make_tensor_value_info(f"{before}{name}", numbers, shape) for name, shape in inputs.items()]
        for before in ("", "same ")
    ]
    graph = helper.make_graph(nodes, "identity", *values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


@pytest.mark.parametrize(("outputs", "said"), [(["tokens"], r"gives tokens \[2, 3, 16\]"), (["ranks"], "gives no floats")])
def test_output_of_another_rank_or_of_integers_is_refused(tmp_path: Path, outputs: list[str], said: str) -> None:
    with pytest.raises(
        HdmlError, match=rf"must give float vectors \[N, D\], or maps .*, but for images \[2, 3, 32, 32\] it {said}; export"
    ):
        open_encoder(write_stranger(tmp_path / "stranger.onnx", outputs=outputs), device="cpu")


def test_network_that_cannot_run_at_its_size_is_refused_in_one_line(tmp_path: Path) -> None:
    of_32_pixels = write_stranger(tmp_path / "stranger.onnx", shape=("batch", 3, "height", "width"), squares=16)
    with pytest.raises(HdmlError, match=r"must run on images \[2, 3, 224, 224\], .* fails \(.*Reshape.*\); export") as refused:
        open_encoder(of_32_pixels, device="cpu")
    assert "\n" not in str(refused.value)


def test_unreadable_photo_stops_nothing(photos: Path, tmp_path: Path) -> None:
    (photos / "note.jpg").write_text("a note")
    shutil.copy(photos / "red-right" / "0.jpg", photos / "red.jpg")
    stranger = write_stranger(tmp_path / "stranger.onnx")
    unreadable, red = embed_files(stranger, [photos / "note.jpg", photos / "red.jpg"], device="cpu", workers=1)
    assert "not in an image format" in str(unreadable.reason)
    assert red.vector is not None
