"""Which photos an int8 encoder is calibrated and checked on, the arithmetic of the check, and what a refusal leaves behind."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hdml import int8
from hdml.data import LabelledPhotos, read_labelled_folder
from hdml.int8 import Change, Int8Card, Material, compare_encoders, export_int8, material_of_gallery, material_of_run
from hdml.run import write_record
from hdml.significance import class_bootstrap
from hdml.splits import EvaluationSet
from indexing.encoder import Encoder, EncoderMetadata, read_metadata
from indexing.errors import HdmlError
from tests.conftest import TINY, write_tiny_encoder

TRAIN, VALIDATION, TEST = ("firebrick", "goldenrod"), ("royalblue",), ("seagreen",)


def told_nothing(_what: str, _done: int, _total: int) -> None:
    pass


def of_colours(photos: LabelledPhotos, colours: Iterable[str]) -> list[str]:
    """Names of the classes of some colours."""
    return [name for name in photos.classes if name.split("-")[0] in colours]


def names(photos: LabelledPhotos) -> set[str]:
    return {path.as_posix() for path in photos.paths}


@pytest.fixture
def run(shapes: Path, tiny_encoder: Path, tmp_path: Path) -> Path:
    """A run that learned from the shapes of two colours, with validation and test classes of another colour each."""
    return write_run(tmp_path / "run", shapes, tiny_encoder, validation=VALIDATION)


def write_run(folder: Path, shapes: Path, encoder: Path, *, validation: tuple[str, ...], **more: Any) -> Path:
    photos = read_labelled_folder(shapes)
    parts = {"train": TRAIN, "validation": validation, "test": TEST}
    classes = {part: of_colours(photos, colours) for part, colours in parts.items()}
    write_record(folder, {"data": {"root": str(shapes), "data_set": None}, "classes": classes, "method": "hdml", **more})
    shutil.copy(encoder, folder / "encoder.onnx")
    return folder


def test_calibration_reads_training_photos_alone(run: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load_array = int8.load_array

    def load(file: Path, *arguments: Any, **options: Any) -> NDArray[np.float32]:
        read.append(file.relative_to(shapes).as_posix())
        return load_array(file, *arguments, **options)

    monkeypatch.setattr(int8, "load_array", load)
    monkeypatch.setattr(int8, "CALIBRATION_PHOTOS", 10)
    card = export_int8(run, material_of_run(run), on_progress=told_nothing)
    assert card.calibration_photos == len(read) == len(set(read)) == 10
    assert {name.split("-")[0] for name in read} == set(TRAIN)


def test_check_is_on_validation_photos_among_distractors_and_never_on_the_test(run: Path) -> None:
    material = material_of_run(run)
    asked = material.checked.queries
    assert material.checked_on == "validation"
    assert material.checked.gallery is None
    assert {path.parts[0].split("-")[0] for path in asked.select(np.flatnonzero(asked.labels >= 0).tolist()).paths} == set(
        VALIDATION
    )
    assert {path.parts[0].split("-")[0] for path in asked.paths} <= {*VALIDATION, *TRAIN}


def test_run_without_validation_is_checked_on_its_test_and_says_so(shapes: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    material = material_of_run(write_run(tmp_path / "run", shapes, tiny_encoder, validation=()))
    assert material.checked_on == "test"
    assert {path.parts[0].split("-")[0] for path in material.checked.queries.paths} == set(TEST)


def test_refit_is_told(shapes: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    refitted = write_run(tmp_path / "run", shapes, tiny_encoder, validation=VALIDATION, refit={})
    assert material_of_run(refitted).checked_on == "validation, learned from since, in the refit"


def test_run_that_learned_from_nothing_is_refused_without_a_gallery(run: Path) -> None:
    write_record(run, {"method": "untrained"})
    with pytest.raises(HdmlError, match=r"run learned from no photos that could calibrate int8; say which .* --gallery FOLDER"):
        material_of_run(run)


def test_gallery_is_calibrated_on_some_photos_and_checked_on_others(shapes: Path) -> None:
    material = material_of_gallery(shapes)
    calibration, checked = names(material.calibration), names(material.checked.queries)
    assert len(calibration) == len(checked) == 36
    assert calibration | checked == names(read_labelled_folder(shapes))
    labels = material.checked.queries.labels.tolist()
    assert [material.checked.queries.classes[label] for label in labels] == [p.parts[0] for p in material.checked.queries.paths]


def test_photos_of_a_gallery_that_lie_in_no_folder_ask_nothing(shapes: Path, tmp_path: Path, tiny_encoder: Path) -> None:
    for number, photo in enumerate(sorted(shapes.rglob("*.jpg"))):
        shutil.copy(photo, tmp_path / f"{number}.jpg")
    material = material_of_gallery(tmp_path)
    assert (material.checked.queries.labels == -1).all()
    card = compare_encoders(tiny_encoder, tiny_encoder, material, calibration_photos=1, on_progress=told_nothing)
    assert (card.photos, card.top_10_agreement, card.recall_at_1, card.map_at_r) == (36, 1, None, None)


def test_small_gallery_is_refused_with_its_number(photos: Path) -> None:
    with pytest.raises(HdmlError, match=f"which takes 60, but {photos} has 20; add photos"):
        material_of_gallery(photos)


def test_bound_keeps_whole_classes_but_for_the_last(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "_CHECKED_PHOTOS", 15)
    photos = read_labelled_folder(shapes)
    alone = int8._bounded(EvaluationSet(photos)).queries
    assert sorted(np.bincount(alone.labels)[np.unique(alone.labels)]) == [3, 6, 6]
    monkeypatch.setattr(int8, "_CHECKED_PHOTOS", 18)
    asking, searched = photos.select(range(0, 72, 2)), photos.select(range(1, 72, 2))
    both = int8._bounded(EvaluationSet(asking, searched))
    assert both.gallery is not None
    assert both.size == 18
    assert set(both.queries.labels.tolist()) == set(both.gallery.labels.tolist())


@pytest.fixture
def material(shapes: Path) -> Material:
    photos = read_labelled_folder(shapes)
    return Material(photos, EvaluationSet(photos), "all")


def test_card_equals_explicit_loops_over_both_encoders(material: Material, tiny_encoder: Path, tmp_path: Path) -> None:
    """The other encoder knows less, so that every figure says something."""
    other = write_tiny_encoder(tmp_path / "other.onnx", replace(TINY, dimension=4, fingerprint="0123456789abcdef"), seed=3)
    photos, classes = material.checked.queries.files, material.checked.queries.labels.tolist()
    card = compare_encoders(tiny_encoder, other, material, calibration_photos=7, on_progress=told_nothing)
    rankings = [ranking(path, photos) for path in (tiny_encoder, other)]
    hits = np.array([[float(classes[row[0]] == own) for row, own in zip(rows, classes, strict=True)] for rows in rankings])
    precisions = np.array(
        [[precision_at_r(row, own, classes) for row, own in zip(rows, classes, strict=True)] for rows in rankings]
    )
    shared = [len(set(a[:10]) & set(b[:10])) / 10 for a, b in zip(*rankings, strict=True)]
    assert (card.calibration_photos, card.checked_on, card.photos) == (7, "all", 72)
    assert card.top_10_agreement == pytest.approx(sum(shared) / 72)
    for found, expected in ((card.recall_at_1, hits), (card.map_at_r, precisions)):
        assert found is not None
        assert (found.float32, found.int8) == pytest.approx((expected[0].mean(), expected[1].mean()))
        assert (found.low, found.high) == pytest.approx(class_bootstrap(expected[1] - expected[0], classes))
        assert found.float32 > found.int8
    assert [fault.split(" falls")[0] for fault in card.faults()] == ["MAP@R", "the ten nearest agree to 0.407, less than 0.95"]


def ranking(encoder: Path, photos: list[Path]) -> list[list[int]]:
    opened = Encoder(encoder, device="cpu")
    vectors = [opened.encode_photo(photo)[0] for photo in photos]
    everyone = range(len(vectors))
    return [
        sorted((other for other in everyone if other != query), key=lambda other: -float(vectors[query] @ vectors[other]))
        for query in everyone
    ]


def precision_at_r(row: list[int], own: int, classes: list[int]) -> float:
    relevant = classes.count(own) - 1
    found, total = 0, 0.0
    for rank, other in enumerate(row[:relevant], start=1):
        if classes[other] == own:
            found += 1
            total += found / rank
    return total / relevant


STEADY = Change(0.8, 0.79, -0.02, 0.001)
FALLEN = Change(0.8, 0.7, -0.12, -0.08)


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        ({}, []),
        ({"recall_at_1": None, "map_at_r": None}, []),
        ({"recall_at_1": FALLEN}, ["R@1 falls by more than chance: 0.8000 → 0.7000 (difference -0.1000, -0.1200 to -0.0800)"]),
        ({"map_at_r": FALLEN}, ["MAP@R falls by more than chance: 0.8000 → 0.7000 (difference -0.1000, -0.1200 to -0.0800)"]),
        ({"map_at_r": replace(FALLEN, low=None, high=None)}, []),
        ({"top_10_agreement": 0.9494}, ["the ten nearest agree to 0.949, less than 0.95"]),
    ],
)
def test_faults_are_falls_beyond_chance_and_too_little_agreement(change: dict[str, Any], faults: list[str]) -> None:
    card = Int8Card(64, "validation", 100, 0.95, STEADY, STEADY)
    assert replace(card, **change).faults() == faults


def test_one_class_has_no_interval_that_could_tell_a_fall(shapes: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    other = write_tiny_encoder(tmp_path / "other.onnx", replace(TINY, dimension=4), seed=3)
    photos = read_labelled_folder(shapes)
    one_class = replace(photos, labels=np.where(photos.labels == 0, 0, -1))
    card = compare_encoders(
        tiny_encoder, other, Material(photos, EvaluationSet(one_class), "all"), calibration_photos=1, on_progress=told_nothing
    )
    assert card.map_at_r is not None
    assert (card.map_at_r.low, card.map_at_r.high) == (None, None)
    assert json.loads(json.dumps(asdict(card), allow_nan=False))["map_at_r"]["low"] is None


def test_int8_encoder_carries_its_card(run: Path) -> None:
    card = export_int8(run, material_of_run(run), on_progress=told_nothing)
    about = read_metadata(run / "encoder.int8.onnx").quantization
    assert about is not None
    assert about["of"] == TINY.fingerprint
    assert about | asdict(card) == about
    assert card.top_10_agreement >= 0.95
    assert sorted(path.name for path in run.iterdir()) == ["encoder.int8.onnx", "encoder.onnx", "run.json"]


def test_broken_calibration_is_refused_with_figures_and_nothing_is_written(
    run: Path, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges that are far too wide leave hardly a level to the values that photos have."""
    load_array = int8.load_array
    monkeypatch.setattr(int8, "load_array", lambda *arguments, **options: 300 * load_array(*arguments, **options))
    (run / "encoder.int8.onnx").write_bytes(b"the one of before")
    with pytest.raises(HdmlError) as raised:
        export_int8(run, material, on_progress=told_nothing)
    sentence = str(raised.value)
    assert sentence.startswith("An int8 encoder must answer as the float one does, but on 72 photos (all) ")
    assert "MAP@R falls by more than chance: 0." in sentence
    assert f"less than 0.95. Nothing was written; go on with {run / 'encoder.onnx'}." in sentence
    assert (run / "encoder.int8.onnx").read_bytes() == b"the one of before"
    assert sorted(path.name for path in run.iterdir()) == ["encoder.int8.onnx", "encoder.onnx", "run.json"]


def test_int8_encoder_without_finite_embeddings_is_refused(
    run: Path, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Path, target: Path, batches: Iterable[NDArray[np.float32]]) -> EncoderMetadata:
        list(batches)
        blind = replace(TINY, preprocessing=replace(TINY.preprocessing, mean=(float("nan"),) * 3))
        write_tiny_encoder(target, blind, seed=0)
        return blind

    monkeypatch.setattr(int8, "quantize_encoder", broken)
    with pytest.raises(HdmlError, match=r"The int8 encoder fails on 72 of 72 photos, .* no finite embedding"):
        export_int8(run, material, on_progress=told_nothing)
    assert not (run / "encoder.int8.onnx").exists()


def test_killed_while_the_file_is_written_leaves_the_one_of_before(
    run: Path, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(int8.shutil, "copyfile", half)
    with pytest.raises(KeyboardInterrupt):
        export_int8(run, material, on_progress=told_nothing)
    assert not (run / "encoder.int8.onnx").exists()
    monkeypatch.undo()
    export_int8(run, material, on_progress=told_nothing)
    assert Encoder(run / "encoder.int8.onnx", device="cpu").metadata.quantization is not None
    assert not (run / "encoder.int8.onnx.part").exists()


def test_photos_that_cannot_be_read_are_passed_over(run: Path, shapes: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    shutil.copytree(shapes, gallery)
    for photo in sorted(gallery.rglob("[01].jpg")):
        photo.write_bytes(b"")
    material = material_of_gallery(gallery)
    damaged = [path for path in material.calibration.paths if path.stem in "01"]
    card = export_int8(run, replace(material, checked=EvaluationSet(read_labelled_folder(gallery))), on_progress=told_nothing)
    assert damaged
    assert (card.calibration_photos, card.photos) == (36 - len(damaged), 48)


def test_too_few_readable_photos_to_compare_on_are_refused(run: Path, material: Material) -> None:
    few = replace(material, checked=EvaluationSet(material.checked.queries.select(range(29))))
    with pytest.raises(HdmlError, match="on at least 30 photos, but of all only 29 can be read"):
        export_int8(run, few, on_progress=told_nothing)


def test_no_readable_calibration_photo_is_a_sentence(run: Path, material: Material, tmp_path: Path) -> None:
    gone = replace(material, calibration=replace(material.calibration, root=tmp_path / "gone"))
    with pytest.raises(HdmlError, match=r"Calibration needs photos, but of those in .*gone none can be read"):
        export_int8(run, gone, on_progress=told_nothing)
