"""The lens's numbers against the method's equations, item by item, and what is said where there is no lens."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import indexing.hardness
from indexing.encoder import write_metadata
from indexing.errors import HdmlError
from indexing.hardness import Compass, HardnessLens, NoLens
from indexing.indexer import update_index
from indexing.search import OpenIndex
from tests.conftest import TINY, write_tiny_synthesizer

LAMBDA = 0.5  # the tiny synthesizer's own


@pytest.fixture
def opened(photos: Path, tmp_path: Path, tiny_run: Path) -> Iterator[OpenIndex]:
    (photos / "unlabelled.jpg").write_bytes((photos / "red-right" / "0.jpg").read_bytes())
    (photos / "single").mkdir()
    (photos / "red-right" / "4.jpg").rename(photos / "single" / "4.jpg")
    update_index(photos, tmp_path / "index", tiny_run / "encoder.onnx", device="cpu")
    with OpenIndex(tmp_path / "index", device="cpu") as index:
        yield index


def unnormalised(opened: OpenIndex) -> dict[int, np.ndarray]:
    return {item.id: item.vector.astype(float) * item.norm for item in opened.catalogue.items()}


def test_negatives_are_pulled_as_the_equation_says(opened: OpenIndex) -> None:
    anchor = opened.catalogue.items("blue-left")[0]
    look = HardnessLens(opened).look(anchor.id)
    vectors = unnormalised(opened)
    centre = vectors[anchor.id]
    d_ap = min(np.linalg.norm(vectors[item.id] - centre) for item in opened.catalogue.items("blue-left") if item.id != anchor.id)
    assert look.pulling_share == LAMBDA
    assert look.positive.distance == pytest.approx(d_ap, rel=1e-5)
    assert [photo.distance for photo in look.positives] == sorted(photo.distance for photo in look.positives)
    for negative in look.negatives:
        d_an = np.linalg.norm(vectors[negative.photo.id] - centre)
        assert negative.photo.distance == pytest.approx(d_an, rel=1e-5)
        expected = LAMBDA * d_an + (1 - LAMBDA) * d_ap if d_an > d_ap else d_an
        assert negative.pulled_distance == pytest.approx(expected, rel=1e-5)


def test_a_synthesizer_of_unit_embeddings_is_looked_at_among_unit_embeddings(opened: OpenIndex) -> None:
    """A loss that sees directions pulls on the sphere; lengths would give distances that training never saw."""
    write_tiny_synthesizer(opened.path / "synthesizer.onnx", TINY, on_sphere=True)
    anchor = opened.catalogue.items("blue-left")[0]
    look = HardnessLens(opened).look(anchor.id)
    unit = {item.id: item.vector.astype(float) for item in opened.catalogue.items()}
    assert look.negatives
    for negative in look.negatives:
        assert negative.photo.distance == pytest.approx(np.linalg.norm(unit[negative.photo.id] - unit[anchor.id]), rel=1e-5)


def test_each_negative_is_the_nearest_photo_of_another_label(opened: OpenIndex) -> None:
    anchor = opened.catalogue.items("blue-left")[0]
    look = HardnessLens(opened).look(anchor.id)
    vectors = unnormalised(opened)
    labels = {item.id: item.label for item in opened.catalogue.items()}
    nearest = {}
    for item_id in sorted(vectors, key=lambda i: np.linalg.norm(vectors[i] - vectors[anchor.id])):
        if labels[item_id] not in (None, "blue-left"):
            nearest.setdefault(labels[item_id], item_id)
    assert [negative.photo.id for negative in look.negatives] == list(nearest.values())


def test_synthetics_and_their_nearest_photos_are_those_of_the_synthesizer(opened: OpenIndex) -> None:
    anchor = opened.catalogue.items("green-left")[0]
    look = HardnessLens(opened).look(anchor.id)
    vectors = unnormalised(opened)
    labels = {item.id: item.label for item in opened.catalogue.items()}
    centre, d_ap = vectors[anchor.id], look.positive.distance

    def generated(vector: np.ndarray) -> np.ndarray:  # the tiny synthesizer's generator, see tests/conftest.py
        return 0.95 * vector + 0.05 * np.roll(vector, -1)

    assert look.reembedded_positive_distance == pytest.approx(
        np.linalg.norm(generated(vectors[look.positive.id]) - generated(centre)), rel=1e-4
    )
    for negative in look.negatives:
        offset = vectors[negative.photo.id] - centre
        d_an = np.linalg.norm(offset)
        synthetic = generated(centre + offset * (LAMBDA * d_an + (1 - LAMBDA) * d_ap) / d_an)
        assert negative.synthetic_distance == pytest.approx(np.linalg.norm(synthetic - centre), rel=1e-4)
        assert negative.reembedded_distance == pytest.approx(np.linalg.norm(synthetic - generated(centre)), rel=1e-4)
        cosines = {i: v @ synthetic / np.linalg.norm(v) / np.linalg.norm(synthetic) for i, v in vectors.items()}
        best = sorted(cosines, key=lambda i: -cosines[i])[:3]
        assert [result.id for result in negative.nearest] == best
        assert [result.score for result in negative.nearest] == pytest.approx([cosines[i] for i in best], abs=1e-5)
        assert negative.label_kept == (labels[best[0]] == negative.photo.label)


def test_another_positive_can_be_chosen_and_a_stranger_cannot(opened: OpenIndex) -> None:
    anchor = opened.catalogue.items("blue-left")[0]
    lens = HardnessLens(opened)
    farthest = lens.look(anchor.id).positives[-1]
    assert lens.look(anchor.id, farthest.id).positive.id == farthest.id
    stranger = opened.catalogue.items("green-left")[0].id
    for positive in (stranger, anchor.id, 999):
        with pytest.raises(HdmlError, match=rf"blue-left, but item {positive} is not one"):
            lens.look(anchor.id, positive)


def test_far_positive_can_be_chosen_though_only_the_nearest_are_listed(
    opened: OpenIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing.hardness, "NEIGHBORS", 2)
    anchor = opened.catalogue.items("blue-left")[0]
    centre, vectors = unnormalised(opened)[anchor.id], unnormalised(opened)
    others = [item.id for item in opened.catalogue.items("blue-left") if item.id != anchor.id]
    nearest_first = sorted(others, key=lambda i: np.linalg.norm(vectors[i] - centre))
    look = HardnessLens(opened).look(anchor.id, nearest_first[-1])
    assert look.positive.id == nearest_first[-1]
    assert [photo.id for photo in look.positives] == nearest_first[:2]


def test_index_without_a_readable_photo_has_no_lens(opened: OpenIndex, photos: Path, tiny_run: Path) -> None:
    lens = HardnessLens(opened)
    anchor = opened.catalogue.items("blue-left")[0].id
    for photo in photos.rglob("*.jpg"):
        photo.write_text("not a photo")
    update_index(photos, opened.path, tiny_run / "encoder.onnx", device="cpu")
    with pytest.raises(NoLens, match="the index index must hold photos, but it has none"):
        lens.look(anchor)


def test_directions_on_one_line_from_the_centre_have_one_angle() -> None:
    offsets = np.random.default_rng(3).standard_normal((12, 8)).astype(np.float32)
    compass = Compass(offsets)
    assert compass.angles(0.3 * offsets) == pytest.approx(compass.angles(offsets), abs=1e-4)
    assert len(set(np.round(compass.angles(offsets), 3))) > 6
    assert 0 < compass.share < 1
    plane = offsets * np.array([1, 1, 0, 0, 0, 0, 0, 0], np.float32)
    assert Compass(plane).share == pytest.approx(1, abs=1e-5)


def test_anchor_that_can_have_no_lens_is_refused_with_the_reason(opened: OpenIndex) -> None:
    lens = HardnessLens(opened)
    (unlabelled,) = [item.id for item in opened.catalogue.items() if item.label is None]
    (single,) = [item.id for item in opened.catalogue.items("single")]
    for anchor, reason in ((unlabelled, "has no label"), (single, "only photo of single"), (999, "none with id 999")):
        with pytest.raises(NoLens, match=reason):
            lens.look(anchor)


@pytest.mark.parametrize(
    ("method", "reason"), [("plain", "plain method"), ("untrained", "untrained backbone"), ("hdml", "without a")]
)
def test_index_without_a_synthesizer_says_why(opened: OpenIndex, method: str, reason: str) -> None:
    (opened.path / "synthesizer.onnx").unlink()
    (opened.path / "run.json").write_text(json.dumps({"method": method}))
    with pytest.raises(NoLens, match=reason):
        HardnessLens(opened)


def test_synthesizer_of_another_model_is_refused(opened: OpenIndex) -> None:
    (opened.path / "synthesizer.onnx").unlink()
    write_tiny_synthesizer(opened.path / "synthesizer.onnx", replace(TINY, fingerprint="feedfeedfeedfeed"))
    with pytest.raises(HdmlError, match=f"{TINY.fingerprint}, but belongs to feedfeedfeedfeed"):
        HardnessLens(opened)


def test_int8_encoder_has_the_lens_of_the_encoder_that_it_was_made_of(opened: OpenIndex) -> None:
    of_another = replace(TINY, fingerprint="feedfeedfeedfeed")
    (opened.path / "synthesizer.onnx").unlink()
    write_tiny_synthesizer(opened.path / "synthesizer.onnx", of_another)
    write_metadata(opened.path / "encoder.onnx", replace(TINY, quantization={"of": of_another.fingerprint}))
    anchor = opened.catalogue.items("blue-left")[0]
    assert HardnessLens(opened).look(anchor.id).positives


def test_lens_sees_photos_that_came_after_it_was_opened(opened: OpenIndex, photos: Path, tiny_run: Path) -> None:
    lens = HardnessLens(opened)
    anchor = opened.catalogue.items("blue-left")[0]
    before = len(lens.look(anchor.id).positives)
    (photos / "blue-left" / "twin.jpg").write_bytes((photos / anchor.path).read_bytes())
    update_index(photos, opened.path, tiny_run / "encoder.onnx", device="cpu")
    look = lens.look(anchor.id)
    assert len(look.positives) == before + 1
    assert look.positive.path == "blue-left/twin.jpg"
    assert look.positive.distance == 0


@pytest.mark.parametrize("about", ["[]", "{", '{"lambda": "far", "loss": "npair", "fingerprint": ""}', '{"lambda": 1}'])
def test_damaged_metadata_of_a_synthesizer_is_said(opened: OpenIndex, about: str) -> None:
    file = opened.path / "synthesizer.onnx"
    model = onnx.load(file)
    model.metadata_props[0].value = about
    file.unlink()
    onnx.save(model, file)
    with pytest.raises(HdmlError, match=r"synthesizer\.onnx must be a synthesizer, but"):
        HardnessLens(opened)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_a_damaged_record_of_the_run_is_no_record(opened: OpenIndex, content: bytes) -> None:
    (opened.path / "synthesizer.onnx").unlink()
    (opened.path / "run.json").write_bytes(content)
    with pytest.raises(NoLens, match=r"came without a synthesizer\.onnx"):
        HardnessLens(opened)
