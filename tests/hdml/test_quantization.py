"""The int8 file itself: near the float encoder, ranges from the calibration photos, a fingerprint of its own, a float head."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from hdml.quantization import METHOD, quantize_encoder
from indexing.encoder import Encoder, read_metadata
from tests.conftest import TINY, write_tiny_encoder


def images(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-2, 2, (count, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def quantized(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "encoder.int8.onnx"
    quantize_encoder(tiny_encoder, path, [images(8), images(8, 1)])
    return path


def test_embeddings_are_about_those_of_the_float_encoder_but_not_the_same(tiny_encoder: Path, quantized: Path) -> None:
    batch = images(6, 2)
    (expected, lengths), (found, norms) = (Encoder(path, device="cpu").encode(batch) for path in (tiny_encoder, quantized))
    assert ((found * expected).sum(1) > 0.999).all()
    np.testing.assert_allclose(norms, lengths, rtol=0.02)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.abs(found - expected).max() > 1e-5


def test_input_is_quantised_by_the_least_and_greatest_value_of_all_batches(tiny_encoder: Path, tmp_path: Path) -> None:
    batches = [images(2), 3 * images(2, 1), images(2, 2)]
    quantize_encoder(tiny_encoder, tmp_path / "int8.onnx", batches)
    constants = constants_of(tmp_path / "int8.onnx")
    span = max(batch.max() for batch in batches) - min(batch.min() for batch in batches)
    assert constants["images_scale"] == pytest.approx(span / 255, rel=1e-5)


def test_weights_are_int8_with_a_scale_for_each_channel(quantized: Path) -> None:
    constants = constants_of(quantized)
    assert constants["colours_quantized"].dtype == np.int8
    np.testing.assert_allclose(constants["colours_scale"], np.full(6, 1 / 127), rtol=1e-5)  # each channel's largest weight is 1


def test_what_comes_after_the_feature_map_stays_float(quantized: Path) -> None:
    model = onnx.load(quantized)
    (head,) = [node for node in model.graph.node if node.op_type == "Gemm"]
    assert list(head.input)[1:] == ["head", "bias"]
    assert constants_of(quantized)["head"].dtype == np.float32


def test_metadata_name_the_encoder_that_it_was_made_of(tiny_encoder: Path, quantized: Path) -> None:
    metadata = read_metadata(quantized)
    assert metadata.fingerprint != TINY.fingerprint
    assert metadata.quantization == {"of": TINY.fingerprint, "method": METHOD}
    assert replace(metadata, fingerprint=TINY.fingerprint, quantization=None) == read_metadata(tiny_encoder)


def test_fingerprint_is_of_weights_and_ranges(quantized: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    again = quantize_encoder(tiny_encoder, tmp_path / "again.onnx", [images(8), images(8, 1)])
    assert again.fingerprint == read_metadata(quantized).fingerprint
    wider = quantize_encoder(tiny_encoder, tmp_path / "wider.onnx", [2 * images(8)])
    other = write_tiny_encoder(tmp_path / "other.onnx", TINY, seed=1)
    others = quantize_encoder(other, tmp_path / "other.int8.onnx", [images(8), images(8, 1)])
    assert len({again.fingerprint, wider.fingerprint, others.fingerprint}) == 3


def constants_of(path: Path) -> dict[str, NDArray[np.generic]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
