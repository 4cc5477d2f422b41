"""The encoder file: its metadata, its outputs, and what is said about files that are no encoder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from indexing import encoder as encoder_module
from indexing.device import cuda_device_count
from indexing.encoder import Encoder, EncoderMetadata, open_session, read_metadata, write_metadata
from indexing.errors import HdmlError, UnreadableImage
from indexing.preprocess import load_array


def test_encode_photo_gives_a_unit_embedding_and_its_norm(photos: Path, tiny_encoder: Path) -> None:
    encoder = Encoder(tiny_encoder, device="cpu")
    photo = photos / "blue-left" / "0.jpg"
    embedding, norm = encoder.encode_photo(photo)
    session = onnxruntime.InferenceSession(str(tiny_encoder))
    expected, expected_norm, _ = session.run(None, {"images": load_array(photo, encoder.metadata.preprocessing)[None]})
    np.testing.assert_array_equal(embedding, expected[0])
    assert norm == expected_norm[0]
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)
    assert embedding.dtype == np.float32


def test_encode_a_batch_equals_one_by_one(photos: Path, tiny_encoder: Path) -> None:
    encoder = Encoder(tiny_encoder, device="cpu", threads=1)
    images = np.stack([load_array(path, encoder.metadata.preprocessing) for path in sorted(photos.rglob("*.jpg"))])
    embeddings, norms = encoder.encode(images)
    for image, embedding, norm in zip(images, embeddings, norms, strict=True):
        single, single_norm = encoder.encode(image[None])
        np.testing.assert_allclose(single[0], embedding, atol=1e-6)
        assert single_norm[0] == pytest.approx(norm, rel=1e-5)


def test_feature_maps_have_their_spatial_shape(photos: Path, tiny_encoder: Path) -> None:
    encoder = Encoder(tiny_encoder, device="cpu")
    image = load_array(photos / "blue-left" / "0.jpg", encoder.metadata.preprocessing)
    assert encoder.look(np.stack([image, image]))[1].shape == (2, 6, 4, 4)


def test_metadata_survives_writing_into_the_file(tiny_encoder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "encoder.onnx"
    copy.write_bytes(tiny_encoder.read_bytes())
    before = Encoder(copy, device="cpu").metadata
    after = replace(before, fingerprint="0123456789abcdef", training_data="grocery: 34 classes")
    write_metadata(copy, after)
    assert Encoder(copy, device="cpu").metadata == after
    assert [entry.name for entry in tmp_path.iterdir()] == ["encoder.onnx"]


def test_what_an_int8_encoder_tells_of_itself_survives_too(tiny_encoder: Path) -> None:
    metadata = Encoder(tiny_encoder, device="cpu").metadata
    assert "quantization" not in json.loads(metadata.to_json())
    quantized = replace(metadata, quantization={"of": metadata.fingerprint, "photos": 64})
    assert EncoderMetadata.from_json(quantized.to_json()) == quantized


@pytest.mark.parametrize("vnni", [True, False])
def test_without_vnni_int8_takes_the_slower_path_that_cuts_nothing_off(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, vnni: bool
) -> None:
    monkeypatch.setattr(encoder_module, "has_vnni", lambda: vnni)
    options = open_session(tiny_encoder, device="cpu").get_session_options()
    if vnni:
        with pytest.raises(RuntimeError, match="does not have configuration with key"):
            options.get_session_config_entry("session.x64quantprecision")
    else:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"


def test_metadata_of_a_later_format_is_refused(tiny_encoder: Path) -> None:
    text = json.loads(Encoder(tiny_encoder, device="cpu").metadata.to_json()) | {"format": 2}
    with pytest.raises(HdmlError, match="must be of format 1, but is of format 2"):
        EncoderMetadata.from_json(json.dumps(text))


@pytest.mark.parametrize("text", ["", "[]", "7", "{}", '{"format": 1}', '{"format": 1, "preprocessing": {"resize": 1}}'])
def test_metadata_that_is_something_else_is_refused(text: str) -> None:
    with pytest.raises(HdmlError, match="cannot be understood"):
        EncoderMetadata.from_json(text)


def test_a_missing_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(HdmlError, match=r"absent\.onnx must be an ONNX file, but there is none"):
        Encoder(tmp_path / "absent.onnx")


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x0a" * 40])
def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(content)
    with pytest.raises(HdmlError, match=r"encoder\.onnx must be an ONNX file, but onnxruntime cannot load it"):
        Encoder(path, device="cpu")


def test_an_onnx_file_without_metadata_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_encoder)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "stranger.onnx")
    with pytest.raises(HdmlError, match=r"stranger\.onnx is an ONNX file without hdml's metadata"):
        Encoder(tmp_path / "stranger.onnx", device="cpu")


def test_an_unreadable_photo_is_said_with_its_reason(tmp_path: Path, tiny_encoder: Path) -> None:
    (tmp_path / "note.jpg").write_text("not a photo")
    with pytest.raises(UnreadableImage, match="empty or not in an image format"):
        Encoder(tiny_encoder, device="cpu").encode_photo(tmp_path / "note.jpg")


def test_an_unknown_device_is_refused(tiny_encoder: Path) -> None:
    with pytest.raises(HdmlError, match="one of auto, cpu, cuda, not 'tpu'"):
        Encoder(tiny_encoder, device="tpu")


@pytest.mark.skipif(cuda_device_count() > 0, reason="this machine has a GPU")
def test_cuda_asked_for_and_not_had_is_an_error(tiny_encoder: Path) -> None:
    with pytest.raises(HdmlError, match="none was found"):
        Encoder(tiny_encoder, device="cuda")
    assert Encoder(tiny_encoder, device="auto").device == "cpu"


@pytest.mark.skipif(cuda_device_count() == 0, reason="needs an NVIDIA GPU")
def test_cuda_gives_the_embeddings_of_the_cpu(photos: Path, tiny_encoder: Path) -> None:
    photo = photos / "blue-left" / "0.jpg"
    encoder = Encoder(tiny_encoder, device="cuda")
    assert encoder.device == "cuda"
    np.testing.assert_allclose(
        encoder.encode_photo(photo)[0], Encoder(tiny_encoder, device="cpu").encode_photo(photo)[0], atol=1e-3
    )


@pytest.fixture
def stamped(tiny_encoder: Path, tmp_path: Path) -> Path:
    """An encoder as the export writes it, with a checksum."""
    file = tmp_path / "encoder.onnx"
    file.write_bytes(tiny_encoder.read_bytes())
    write_metadata(file, Encoder(tiny_encoder, device="cpu").metadata)
    return file


def test_a_damaged_encoder_is_said_wherever_it_is_damaged(stamped: Path, tiny_encoder: Path, photos: Path) -> None:
    photo = photos / "blue-left" / "0.jpg"
    np.testing.assert_array_equal(
        Encoder(stamped, device="cpu").encode_photo(photo)[0], Encoder(tiny_encoder, device="cpu").encode_photo(photo)[0]
    )
    content = stamped.read_bytes()
    digits = content.rindex(b'"checksum"')  # of which there are two sums
    for place in range(0, digits, len(content) // 40):
        stamped.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(HdmlError) as error:
            Encoder(stamped, device="cpu")
        assert len(str(error.value).splitlines()) == 1
    flipped = content.index(b"head") + 20  # a weight: without the sum, nothing but the results would tell
    stamped.write_bytes(content[:flipped] + bytes([content[flipped] ^ 4]) + content[flipped + 1 :])
    for check_all in (True, False):
        with pytest.raises(HdmlError, match="is damaged: its checksum is another"):
            read_metadata(stamped, check_all=check_all)


def test_an_encoder_without_a_checksum_opens(tiny_encoder: Path) -> None:
    assert b"checksum" not in tiny_encoder.read_bytes()
    assert read_metadata(tiny_encoder, check_all=True) == Encoder(tiny_encoder, device="cpu").metadata
