"""The lens's numbers against the method's equations, item by item, and what is said where there is no lens."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from sklearn.decomposition import PCA

import indexing.hardness
import indexing.hardness_photos
from indexing.encoder import write_metadata
from indexing.errors import HdmlError
from indexing.hardness import STEPS, HardnessLens, NoLens
from indexing.indexer import update_index
from indexing.search import OpenIndex
from indexing.tsne import Tsne
from tests.conftest import TINY, tiny_training, write_tiny_synthesizer

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


def test_negatives_are_pulled_as_the_equation_says_at_every_share(opened: OpenIndex) -> None:
    anchor = opened.catalogue.items("blue-left")[0]
    look = HardnessLens(opened).look(anchor.id)
    vectors = unnormalised(opened)
    centre = vectors[anchor.id]
    d_ap = min(np.linalg.norm(vectors[item.id] - centre) for item in opened.catalogue.items("blue-left") if item.id != anchor.id)
    assert look.shares == [step / STEPS for step in range(STEPS + 1)]
    assert look.shares[look.own] == LAMBDA
    assert look.positive.distance == pytest.approx(d_ap, rel=1e-5)
    assert [photo.distance for photo in look.positives] == sorted(photo.distance for photo in look.positives)
    for negative in look.negatives:
        d_an = np.linalg.norm(vectors[negative.photo.id] - centre)
        assert negative.photo.distance == pytest.approx(d_an, rel=1e-5)
        expected = [share * d_an + (1 - share) * d_ap if d_an > d_ap else d_an for share in look.shares]
        assert negative.pulled == pytest.approx(expected, rel=1e-5)


def test_models_own_share_is_among_the_steps_wherever_it_lies(opened: OpenIndex) -> None:
    write_tiny_synthesizer(opened.path / "synthesizer.onnx", TINY, share=0.4567)
    look = HardnessLens(opened).look(opened.catalogue.items("blue-left")[0].id)
    assert look.shares == sorted([*(step / STEPS for step in range(STEPS + 1)), 0.4567])
    assert look.shares[look.own] == 0.4567
    assert {len(negative.pulled) for negative in look.negatives} == {STEPS + 2}


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


def generated(vector: np.ndarray) -> np.ndarray:
    """What the tiny synthesizer's generator makes, see tests/conftest.py."""
    return 0.95 * vector + 0.05 * np.roll(vector, -1)


@pytest.mark.parametrize("place", [0, 37, STEPS])
def test_synthetics_and_what_is_told_of_them_are_those_of_the_synthesizer(opened: OpenIndex, place: int) -> None:
    anchor = opened.catalogue.items("green-left")[0]
    look = HardnessLens(opened).look(anchor.id)
    vectors = unnormalised(opened)
    labels = {item.id: item.label for item in opened.catalogue.items()}
    centre, positive = vectors[anchor.id], vectors[look.positive.id]
    d_ap, share = look.positive.distance, look.shares[place]
    again_ap = np.linalg.norm(generated(positive) - generated(centre))
    assert look.reembedded_positive == pytest.approx(again_ap, rel=1e-4)
    assert "npair has no margin" in look.violation
    for negative in look.negatives:
        real = vectors[negative.photo.id]
        assert negative.loss == pytest.approx(np.log1p(np.exp(centre @ real - centre @ positive)), rel=1e-4)
        assert negative.violates == (negative.photo.distance < d_ap)
        d_an = np.linalg.norm(real - centre)
        synthetic = generated(centre + (real - centre) * (share * d_an + (1 - share) * d_ap) / d_an)
        reembedded = np.linalg.norm(synthetic - generated(centre))
        assert negative.distances[place] == pytest.approx(np.linalg.norm(synthetic - centre), rel=1e-4)
        assert negative.reembedded[place] == pytest.approx(reembedded, rel=1e-4)
        inner = generated(centre) @ synthetic - generated(centre) @ generated(positive)
        assert negative.losses[place] == pytest.approx(np.log1p(np.exp(inner)), rel=1e-4)
        assert negative.violations[place] == (negative.reembedded[place] < look.reembedded_positive)
        cosines = {i: v @ synthetic / np.linalg.norm(v) / np.linalg.norm(synthetic) for i, v in vectors.items()}
        best = sorted(cosines, key=lambda i: -cosines[i])[:3]
        assert [score for _, score in negative.nearest[place]] == pytest.approx([cosines[i] for i in best], abs=1e-5)
        first, _ = negative.nearest[place][0]
        assert cosines[first] == pytest.approx(cosines[best[0]], abs=1e-5)
        assert negative.label_kept[place] == (labels[first] == negative.photo.label)
        assert {look.names[i].label for i, _ in negative.nearest[place]} == {labels[i] for i, _ in negative.nearest[place]}


def test_everything_lies_on_the_map_where_its_plane_puts_it(opened: OpenIndex) -> None:
    anchor = opened.catalogue.items("green-left")[0]
    lens = HardnessLens(opened)
    look, found, vectors = lens.look(anchor.id), lens.map(), unnormalised(opened)
    points = np.stack([vectors[dot.id] for dot in found.dots])
    placed = np.array([dot.at for dot in found.dots])
    assert found.photos == len(found.dots) == opened.item_count
    reference = PCA(2, svd_solver="full").fit(points)
    assert found.share == pytest.approx(reference.explained_variance_ratio_.sum(), rel=1e-4)
    np.testing.assert_allclose(np.abs(placed), np.abs(reference.transform(points)), atol=1e-4)
    places = {dot.id: dot.at for dot in found.dots}
    assert look.anchor.at == pytest.approx(places[look.anchor.id])
    for negative in look.negatives:
        start, end = np.array(look.anchor.at), np.array(negative.photo.at)
        # Straight lines stay straight, and shares of them stay shares.
        along = np.array(negative.pulled)[:, None] / negative.photo.distance
        np.testing.assert_allclose(negative.pulled_at, start + along * (end - start), atol=1e-4)


def test_map_of_a_large_gallery_shows_evenly_spaced_photos(opened: OpenIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing.hardness_photos, "MAPPED", 7)
    found = HardnessLens(opened).map()
    ids = [item.id for item in opened.catalogue.items()]
    assert [dot.id for dot in found.dots] == [ids[i * len(ids) // 7] for i in range(7)]
    assert found.photos == len(ids)
    assert found.trustworthiness is None  # of so few


def test_tsne_map_holds_the_same_photos_and_new_points_lie_where_it_places_them(
    opened: OpenIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing.hardness_photos, "MAPPED", 12)  # so that some photos are new to the map
    lens, anchor = HardnessLens(opened), opened.catalogue.items("blue-left")[0]
    flat, found = lens.map(), lens.map("tsne")
    assert [dot.id for dot in found.dots] == [dot.id for dot in flat.dots]
    assert (flat.kind, found.kind, found.share, found.photos) == ("pca", "tsne", None, flat.photos)
    look, plain = lens.look(anchor.id, kind="tsne"), lens.look(anchor.id)
    assert (look.map, plain.map) == ("tsne", "pca")
    vectors = unnormalised(opened)
    items = {item.id: item for item in opened.catalogue.items()}
    reference = Tsne(np.stack([items[dot.id].vector for dot in found.dots]))
    places = {dot.id: dot.at for dot in found.dots}
    for dot, at in zip(found.dots, reference.placed, strict=True):
        assert dot.at == pytest.approx(at, abs=1e-4)
    for photo in [look.anchor, look.positive, *look.positives, *look.neighbors, *(negative.photo for negative in look.negatives)]:
        expected = places.get(photo.id) or reference.place(items[photo.id].vector[None])[0]
        assert photo.at == pytest.approx(expected, abs=0.05)
    assert set(places) < {photo.id for photo in [look.anchor, *look.neighbors]}
    for negative in look.negatives:
        step = vectors[negative.photo.id] - vectors[anchor.id]
        pulled = [vectors[anchor.id] + step * distance / negative.photo.distance for distance in negative.pulled]
        expected = reference.place(np.stack(pulled).astype(np.float32))
        np.testing.assert_allclose(negative.pulled_at, expected, atol=0.05)
    assert [n.reembedded for n in look.negatives] == [n.reembedded for n in plain.negatives]


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


def test_anchor_that_can_have_no_lens_is_refused_with_the_reason(opened: OpenIndex) -> None:
    lens = HardnessLens(opened)
    (unlabelled,) = [item.id for item in opened.catalogue.items() if item.label is None]
    (single,) = [item.id for item in opened.catalogue.items("single")]
    for anchor, reason in ((unlabelled, "has no label"), (single, "only photo of single"), (999, "has none with id 999")):
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


def test_replay_names_the_probes_photos_by_their_bytes(opened: OpenIndex, photos: Path, tiny_run: Path) -> None:
    assert HardnessLens(opened).replay() is None
    members = ("blue-left/0.jpg", "blue-left/1.jpg", "green-left/2.jpg"), ("single/4.jpg", "blue-left/1.jpg", "blue-right/0.jpg")
    training = tiny_training(photos, *members)
    (photos / "green-left" / "2.jpg").rename(photos / "green-left" / "elsewhere.jpg")
    (photos / "blue-right" / "0.jpg").unlink()
    update_index(photos, opened.path, tiny_run / "encoder.onnx", device="cpu")
    write_tiny_synthesizer(opened.path / "synthesizer.onnx", TINY, training=training)
    lens = HardnessLens(opened)
    replay = lens.replay()
    assert replay is not None
    ids = {item.path: item.id for item in opened.catalogue.items()}
    found = [[(photo.id, photo.path, photo.label) for photo in of] for of in replay.tuples]
    anchor, positive = (
        (ids["blue-left/0.jpg"], "blue-left/0.jpg", "blue-left"),
        (ids["blue-left/1.jpg"], "blue-left/1.jpg", "blue-left"),
    )
    moved = ids["green-left/elsewhere.jpg"], "green-left/elsewhere.jpg", "green-left"
    assert found[0] == [anchor, positive, moved]
    assert found[1][1:] == [positive, (None, None, "blue-right")]  # a photo that is gone is named by its class alone
    assert [(look.step, look.share, look.d_an) for look in replay.looks][2] == (32, 0.37, [4.7, 4.7])
    course = lens.look(ids["blue-left/0.jpg"]).training
    assert course is not None
    assert [(stage.step, stage.share) for stage in course.stages] == [(0, 1.0), (16, 0.7), (32, 0.37), (40, 0.3)]


FEW = '{"lambda": 1}'
OPTION = '{"lambda": 1, "loss": "npair", "fingerprint": "", "loss_options": {"margin": 1}}'
STRANGER = '{"lambda": 1, "loss": "arcface", "fingerprint": ""}'


@pytest.mark.parametrize(
    "about", ["[]", "{", '{"lambda": "far", "loss": "npair", "fingerprint": ""}', '{"lambda": 1}', OPTION, STRANGER]
)
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
