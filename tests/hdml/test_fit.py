"""A run from its plan to its end: what is decided, what is recorded and of which photos, and what an interruption costs."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import hdml
from hdml import fit
from hdml.checkpoint import load_tensors
from hdml.class_split import split_classes
from hdml.config import TrainConfig
from hdml.data import read_labelled_folder
from hdml.embed import embed_photos
from hdml.export import PARITY_PHOTOS
from hdml.fit import export_again, export_untrained, finish_run, load_trained, plan_run
from hdml.measure import evaluate_encoder
from hdml.model import EncoderNetwork
from hdml.run import CHECKPOINT, ENCODER, LEAKS, MODEL, SYNTHESIZER, read_log, read_record, read_split, status_of
from hdml.settings import FINE_TUNE_LR, SCRATCH_LR
from hdml.train import TrainProgress
from hdml.weights import WeightsUnavailable
from indexing.encoder import read_metadata
from indexing.errors import HdmlError
from indexing.preprocess import evaluation_preprocessing
from tests.conftest import SHAPES_PER_CLASS

CPU = torch.device("cpu")
UNSEEN = ("firebrick-ellipse", "goldenrod-ellipse", "seagreen-rectangle")
TINY: dict[str, Any] = {
    "weights": "none",
    "image_size": 32,
    "steps": 6,
    "classes_per_batch": 4,
    "dimension": 16,
    "evaluations": 3,
    "test_classes": "last:3",
}
FINISH_AND_DIE = """
import os, signal, sys
from pathlib import Path
import torch
from hdml.fit import finish_run

class Watcher:
    def say(self, sentence): pass
    def read(self, done, total): pass
    def step(self, progress):
        if progress.step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

finish_run(Path(sys.argv[1]), device=torch.device("cpu"), watcher=Watcher())
"""


class Notes:
    """A watcher that remembers what it was told, and may interrupt at a step."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.sentences: list[str] = []
        self.reads: list[tuple[int, int]] = []
        self.steps: list[TrainProgress] = []
        self._interrupt_at = interrupt_at

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def read(self, done: int, total: int) -> None:
        self.reads.append((done, total))

    def step(self, progress: TrainProgress) -> None:
        self.steps.append(progress)
        if progress.step == self._interrupt_at:
            raise KeyboardInterrupt


def finish(run: Path, watcher: Notes | None = None) -> dict[str, Any]:
    return finish_run(run, device=CPU, watcher=watcher or Notes())


@pytest.fixture
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting takes most of the time of a run so small; most tests look at something else."""
    monkeypatch.setattr(fit, "_export", lambda *arguments: {})


@pytest.fixture
def folder(shapes: Path, tmp_path: Path) -> Path:
    """The shapes in a folder of the test's own."""
    return Path(shutil.copytree(shapes, tmp_path / "shapes"))


class Finished:
    """An uninterrupted run with everything in it, and what its watcher was told."""

    def __init__(self, run: Path, record: dict[str, Any], notes: Notes) -> None:
        self.run, self.record, self.notes = run, record, notes


@pytest.fixture(scope="module")
def finished(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    run, notes = tmp_path_factory.mktemp("runs") / "whole", Notes()
    plan_run(shapes, run, watcher=notes, **TINY)
    return Finished(run, finish(run, notes), notes)


ENDS = ["outcomes.json", "probes.jsonl", "regions.onnx", "run.json", "split.json", "synthesizer.onnx"]


def test_run_leaves_its_files_and_no_others(finished: Finished) -> None:
    names = sorted(path.name for path in finished.run.iterdir())
    assert names == ["encoder.onnx", "leaks.json", "log.jsonl", "model.safetensors", *ENDS]


def test_record_says_everything_that_was_decided_and_found(finished: Finished, shapes: Path) -> None:
    record = json.loads((finished.run / "run.json").read_text())
    assert record == json.loads(json.dumps(finished.record))
    split = split_classes(read_labelled_folder(shapes), "last:3")
    assert record["classes"] == {name: list(classes) for name, classes in asdict(split).items()}
    assert (record["status"], record["version"], record["measured_on"]) == ("finished", hdml.__version__, "test")
    assert (record["method"], record["loss"]) == ("hdml", "npair")
    assert (record["data"]["name"], record["data"]["root"]) == ("shapes", str(shapes))
    assert TrainConfig(**record["config"]) == TrainConfig(
        backbone="resnet18", method="hdml", loss="npair", backbone_lr=1e-3, **TINY
    )
    assert record["started"] <= record["finished"]
    for evaluation in (record["before"], record["after"]):
        assert (evaluation["queries"], evaluation["classes"]) == (3 * SHAPES_PER_CLASS, 3)
        assert all(0 <= value <= 1 for value in [evaluation["map_at_r"], evaluation["nmi"], *evaluation["recall_at_k"].values()])
    assert record["parity"]["photos"] == 3 * SHAPES_PER_CLASS
    assert record["parity"]["max_difference"] <= 1e-4
    assert record["synthesizer_difference"] <= 1e-4
    assert 0 < record["lambda"] < 1


def test_chosen_step_is_the_best_of_validation_alone(finished: Finished) -> None:
    validated = {row["step"] + 1: row["validation"]["map_at_r"] for row in read_log(finished.run) if row["validation"]}
    assert list(validated) == [2, 4, 6]
    assert finished.record["chosen_step"] == max(validated, key=lambda step: validated[step])


def test_training_is_shown_no_photo_of_a_test_class(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to learn from nor to choose by (METHOD, trap 6); what chooses are the validation classes."""
    shown: dict[str, Any] = {}

    def stop(*_arguments: Any, **given: Any) -> float:
        shown.update(given)
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "train", stop)
    plan_run(shapes, tmp_path / "run", watcher=Notes(), **TINY)
    with pytest.raises(KeyboardInterrupt):
        finish_run(tmp_path / "run", device=CPU, watcher=Notes())
    classes = read_record(tmp_path / "run")["classes"]
    learned, chosen_by = ({path.parent.name for path in shown[part].paths} for part in ("train_set", "validation_set"))
    assert learned == set(classes["train"])
    assert set(shown["validation_set"].classes) == set(classes["validation"])
    assert len(classes["test"]) == 3
    assert not (learned | chosen_by) & set(classes["test"])


def test_exported_files_know_their_run(finished: Finished) -> None:
    metadata = read_metadata(finished.run / ENCODER)
    assert metadata.training_data == f"shapes: {len(finished.record['classes']['train'])} classes"
    assert (metadata.backbone, metadata.dimension, metadata.preprocessing.crop) == ("resnet18", 16, 32)
    _, _, state = load_trained(finished.run, TrainConfig(**finished.record["config"]))
    assert state["pulling_share"] == finished.record["lambda"]


def test_before_is_of_the_backbones_own_features_and_no_random_head(finished: Finished, shapes: Path, tmp_path: Path) -> None:
    """The same backbone exported untrained, measured by the other path: through ONNX."""
    torch.manual_seed(0)
    untrained = tmp_path / "untrained"
    export_untrained(untrained, backbone="resnet18", weights="none", image_size=32, photos=sorted(shapes.glob("*/0.jpg")))
    assert read_metadata(untrained / ENCODER).dimension == 512
    measured = evaluate_encoder(untrained / ENCODER, shapes, "last:3", device="cpu", on_progress=lambda done, total: None)
    assert measured.evaluation.to_json()["map_at_r"] == pytest.approx(finished.record["before"]["map_at_r"], abs=1e-3)
    assert status_of(untrained) == "finished"


def test_watcher_is_told_of_every_photo_step_and_part(finished: Finished) -> None:
    notes, photos = finished.notes, 12 * SHAPES_PER_CLASS
    assert notes.reads == [(done, photos) for done in range(1, photos + 1)]
    assert [progress.step for progress in notes.steps] == list(range(1, 7))
    assert notes.sentences == [
        "Photos split: train 7 classes, 42 photos; validation 2 classes, 12 photos; test 3 classes, 18 photos. "
        "Figures will be of: test.",
        "Leak check: none of 30 photos measured on is a copy of one learned from.",
        "With 7 classes to learn from, little is learned that holds for classes never seen; the more classes, the better, even "
        "with few photos each.",
    ]


def same_model(one: Path, other: Path) -> bool:
    """Chosen model, generator and what lies beside them, bit for bit."""
    (tensors, state), (others, other_state) = load_tensors(one / MODEL), load_tensors(other / MODEL)
    return (
        state == other_state
        and tensors.keys() == others.keys()
        and all(torch.equal(tensors[key], others[key]) for key in tensors)
    )


def outcome(run: Path) -> dict[str, Any]:
    """The record without what may differ between two equal runs: its times, and rounding between two runtimes."""
    record = read_record(run)
    differing = ("started", "finished", "seconds", "waited", "peak_memory", "parity", "synthesizer_difference")
    return {key: value for key, value in record.items() if key not in differing}


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_run_ends_as_the_uninterrupted_one(finished: Finished, shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    plan_run(shapes, run, watcher=Notes(), **TINY)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", FINISH_AND_DIE, str(run), "5"]
    killed = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert status_of(run) == "training"
    assert load_tensors(run / CHECKPOINT)[1]["steps_done"] == 4
    notes = Notes()
    finish(run, notes)
    assert [progress.step for progress in notes.steps] == [5, 6]
    assert outcome(run) == outcome(finished.run)
    assert same_model(run, finished.run)
    assert (run / "log.jsonl").read_text() == (finished.run / "log.jsonl").read_text()
    assert read_metadata(run / ENCODER) == read_metadata(finished.run / ENCODER)
    assert not (run / CHECKPOINT).exists()


def interrupted(run: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """Finish a run whose ``fit.<function>`` is interrupted."""

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fit, function, interrupt)
        with pytest.raises(KeyboardInterrupt):
            finish(run)


def test_run_interrupted_at_every_stage_ends_as_the_uninterrupted_one(
    finished: Finished, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "interrupted"
    plan_run(shapes, run, watcher=Notes(), **TINY)
    interrupted(run, monkeypatch, "evaluate_network_on")
    assert "before" not in read_record(run)
    for step in (1, 3, 6):  # before the first checkpoint, between two, and right after the last step
        with pytest.raises(KeyboardInterrupt):
            finish(run, Notes(interrupt_at=step))
    interrupted(run, monkeypatch, "export_synthesizer")
    interrupted(run, monkeypatch, "export_encoder")
    assert (run / SYNTHESIZER).exists(), "a run with an encoder can be indexed with, so the synthesizer must be there before"
    assert not (run / ENCODER).exists()
    torch.manual_seed(99)
    finish(run)
    assert outcome(run) == outcome(finished.run)
    assert same_model(run, finished.run)


@pytest.mark.usefixtures("without_export")
def test_unreadable_photos_are_listed_with_their_reasons_and_stop_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "firebrick-ellipse" / "0.jpg").write_text("a note")
    (folder / "firebrick-ellipse" / "1.jpg").write_bytes(b"")
    whole = (folder / "royalblue-ellipse" / "2.jpg").read_bytes()
    (folder / "royalblue-ellipse" / "2.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "seagreen-ellipse" / "3.jpg").write_bytes(png_of(30_000, 30_000))
    (folder / "seagreen-ellipse" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    notes = Notes()
    plan_run(folder, tmp_path / "run", watcher=notes, **{**TINY, "steps": 2})
    record = finish(tmp_path / "run", notes)
    left_out = dict(sentence.removeprefix("Left out: ").split(": ", 1) for sentence in notes.sentences if "Left out" in sentence)
    assert left_out.keys() == {
        "firebrick-ellipse/0.jpg",
        "firebrick-ellipse/1.jpg",
        "royalblue-ellipse/2.jpg",
        "seagreen-ellipse/3.jpg",
        "seagreen-ellipse/gone.jpg",
    }
    assert "not in an image format" in left_out["firebrick-ellipse/0.jpg"]
    assert "empty" in left_out["firebrick-ellipse/1.jpg"]
    assert "damaged" in left_out["royalblue-ellipse/2.jpg"]
    assert "more than the 200 megapixels allowed" in left_out["seagreen-ellipse/3.jpg"]
    assert "No such file" in left_out["seagreen-ellipse/gone.jpg"]
    assert (record["status"], record["after"]["queries"]) == ("finished", 3 * SHAPES_PER_CLASS - 1)


def png_of(width: int, height: int) -> bytes:
    """The beginning of a PNG of that size, small as a file: who reads it must refuse it by its header."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.usefixtures("without_export")
def test_class_with_a_single_photo_is_told_and_teaches_nothing(folder: Path, tmp_path: Path) -> None:
    for number in range(1, SHAPES_PER_CLASS):
        (folder / "firebrick-rectangle" / f"{number}.jpg").unlink()
    notes = Notes()
    plan_run(folder, tmp_path / "run", watcher=notes, **{**TINY, "steps": 2, "classes_per_batch": 32})
    record = finish(tmp_path / "run", notes)
    assert "Classes with a single photo form no pair and teach nothing; there are 1: firebrick-rectangle." in notes.sentences
    assert "firebrick-rectangle" not in record["classes"]["validation"]
    assert record["status"] == "finished"


@pytest.mark.usefixtures("without_export")
@pytest.mark.parametrize(
    ("test_classes", "kept", "measured_on", "part"),
    [
        ("half", 12, "test", "test"),
        ("none", 12, "validation, selected on", "validation"),
        ("none", 3, "training photos, learned from", "train"),
    ],
)
def test_figures_are_named_after_the_photos_that_they_are_of(
    folder: Path, tmp_path: Path, test_classes: str, kept: int, measured_on: str, part: str
) -> None:
    for place in sorted(folder.iterdir())[kept:]:
        shutil.rmtree(place)
    notes = Notes()
    plan_run(folder, tmp_path / "run", watcher=notes, **{**TINY, "steps": 2, "test_classes": test_classes})
    record = finish(tmp_path / "run", notes)
    assert record["measured_on"] == measured_on
    assert any(sentence.endswith(f"Figures will be of: {measured_on}.") for sentence in notes.sentences)
    assert record["after"]["classes"] == len(record["classes"][part]) > 0
    too_few = "Too few classes to hold any out for validation: the last step's model is taken."
    assert (too_few in notes.sentences) == (not record["classes"]["validation"])
    if kept == 3:
        assert record["chosen_step"] == 2


@pytest.mark.usefixtures("without_export")
@pytest.mark.parametrize("change", ["added", "removed", "other size"])
def test_run_does_not_go_on_with_other_photos(folder: Path, tmp_path: Path, change: str) -> None:
    run, photo = tmp_path / "run", folder / "seagreen-ellipse" / "0.jpg"
    plan_run(folder, run, watcher=Notes(), **TINY)
    with pytest.raises(KeyboardInterrupt):
        finish(run, Notes(interrupt_at=4))
    kept = {path.name: path.read_bytes() for path in run.iterdir()}
    saved = photo.read_bytes()
    match change:
        case "added":
            shutil.copy(photo, photo.with_name("new.jpg"))
        case "removed":
            photo.unlink()
        case "other size":
            photo.write_bytes(saved + b"\0")
    with pytest.raises(
        HdmlError, match=rf"those in .*shapes have changed since {read_record(run)['started'][:10]}.*start a new run"
    ):
        finish(run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == kept
    photo.with_name("new.jpg").unlink(missing_ok=True)
    photo.write_bytes(saved)
    assert finish(run)["status"] == "finished"


@pytest.mark.usefixtures("without_export")
def test_run_resumed_elsewhere_finds_its_files_and_keeps_its_classes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are given relative to where training began; the list of test classes may have changed since."""
    home, away = tmp_path / "home", tmp_path / "away"
    away.mkdir()
    home.mkdir()
    torch.manual_seed(3)
    torch.save(fit.build_backbone("resnet18", image_size=32).network.state_dict(), home / "start.pth")
    (home / "unseen.txt").write_text("\n".join(UNSEEN))
    monkeypatch.chdir(home)
    settings = {**TINY, "weights": "start.pth", "test_classes": "unseen.txt"}
    plan_run(Path("../shapes"), Path("run"), watcher=Notes(), **settings)
    monkeypatch.chdir(away)
    with pytest.raises(KeyboardInterrupt):
        finish(home / "run", Notes(interrupt_at=2))
    (home / "unseen.txt").write_text("goldenrod-rectangle\nseagreen-rectangle")
    record = finish(home / "run")
    assert record["classes"]["test"] == list(UNSEEN)
    assert record["after"]["classes"] == len(UNSEEN)
    assert record["config"]["backbone_lr"] == FINE_TUNE_LR


def test_measuring_takes_the_classes_of_the_run_although_unreadable_photos_cost_it_one(folder: Path, tmp_path: Path) -> None:
    """Half of twelve classes are six; without the photos of one it is another half, which must not come into the figures."""
    for photo in (folder / "seagreen-rectangle").iterdir():
        photo.write_text("a note")
    run = tmp_path / "run"
    plan_run(folder, run, watcher=Notes(), **{**TINY, "steps": 2, "test_classes": "half", "method": "plain"})
    record = finish(run)
    assert not (run / SYNTHESIZER).exists(), "a plain run has no generator"
    assert "synthesizer_difference" not in record
    assert len(record["classes"]["test"]) == 6
    assert "goldenrod-regular_polygon" in record["classes"]["test"]
    measured = evaluate_encoder(run / ENCODER, None, None, device="cpu", on_progress=lambda done, total: None)
    assert measured.measured_on == "test"
    assert measured.photos == 6 * SHAPES_PER_CLASS
    assert measured.evaluation.map_at_r == pytest.approx(record["after"]["map_at_r"], abs=0.03)
    before = outcome(run)
    again = export_again(run)
    assert again["parity"]["photos"] == PARITY_PHOTOS < 11 * SHAPES_PER_CLASS
    assert outcome(run) == before


def test_only_finished_trained_runs_are_exported_again(shapes: Path, tmp_path: Path) -> None:
    plan_run(shapes, tmp_path / "begun", watcher=Notes(), **TINY)
    with pytest.raises(HdmlError, match="begun has not finished training; go on with: hdml train --resume --run begun"):
        export_again(tmp_path / "begun")
    fit.write_record(tmp_path / "untrained", {"status": "finished", "method": "untrained"})
    with pytest.raises(HdmlError, match=r"untrained is an untrained backbone, exported already.*untrained/encoder\.onnx"):
        export_again(tmp_path / "untrained")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"test_classes": "last:11"}, "at least 2 classes with 2 photos or more besides the test classes"),
        ({"backbone": "resnet999"}, "there is no 'resnet999'"),
        ({"weights": "absent.pth"}, r"there is no file absent\.pth"),
    ],
)
def test_plan_that_cannot_be_carried_out_writes_nothing(
    shapes: Path, tmp_path: Path, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(HdmlError, match=sentence):
        plan_run(shapes, tmp_path / "run", watcher=Notes(), **{**TINY, **settings})
    assert list(tmp_path.iterdir()) == []


def planned(folder: Path, run: Path, **settings: Any) -> dict[str, Any]:
    open_settings = {key: value for key, value in TINY.items() if key not in ("image_size", "steps")}
    plan_run(folder, run, watcher=Notes(), **{**open_settings, **settings})
    return dict(read_record(run)["config"])


@pytest.mark.parametrize(("side", "expected"), [(48, 64), (100, 96), (128, 128), (300, 224)])
def test_image_size_follows_the_photos_shorter_side(tmp_path: Path, side: int, expected: int) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (side + 50, side)).save(tmp_path / "photos" / name / f"{number}.jpg")
    assert planned(tmp_path / "photos", tmp_path / "run", test_classes="none")["image_size"] == expected


@pytest.mark.parametrize(("classes_per_batch", "expected"), [(1, 30 * 21), (2, 30 * 10), (32, 200)])
def test_steps_are_thirty_passes_over_the_training_photos_within_bounds(
    shapes: Path, tmp_path: Path, classes_per_batch: int, expected: int
) -> None:
    """42 photos of seven training classes: a batch of 2 classes is 4 photos, so 10 batches are a pass."""
    assert planned(shapes, tmp_path / "run", classes_per_batch=classes_per_batch)["steps"] == expected


@pytest.mark.parametrize(("lr", "expected"), [(None, SCRATCH_LR), (0.0, 0.0), (0.02, 0.02)])
def test_learning_rate_is_the_one_given_or_fits_the_weights(
    shapes: Path, tmp_path: Path, lr: float | None, expected: float
) -> None:
    assert planned(shapes, tmp_path / "run", lr=lr)["backbone_lr"] == expected


@pytest.mark.parametrize("offline", [True, False])
def test_imagenet_weights_are_taken_where_they_can_be_had_and_else_it_is_said(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    def load(name: str, weights: str, *, image_size: int) -> None:
        if offline and weights == "imagenet":
            raise WeightsUnavailable("Fetch that file.")

    monkeypatch.setattr(fit, "load_backbone", load)
    notes = Notes()
    plan_run(shapes, tmp_path / "run", watcher=notes, **{**TINY, "weights": "auto"})
    assert read_record(tmp_path / "run")["config"]["weights"] == ("none" if offline else "imagenet")
    told = ["Training starts from random weights, which needs more photos and steps. Fetch that file."]
    assert notes.sentences == (told if offline else [])


def published(folder: Path, manifest: Path, **columns: Any) -> Path:
    """A manifest of the shapes: of the last three classes the first two photos ask and the others are the gallery."""
    rows = []
    for number, place in enumerate(sorted(folder.iterdir())):
        for photo in sorted(place.iterdir()):
            part = "train" if number < 9 else "query" if photo.stem in "01" else "gallery"
            rows.append({"path": str(photo), "label": place.name, "split": part, **columns})
    manifest.write_text("\n".join(json.dumps(row) for row in rows))
    return manifest


@pytest.mark.usefixtures("without_export")
def test_published_queries_search_their_gallery_before_and_after(shapes: Path, tmp_path: Path) -> None:
    manifest, run, notes = published(shapes, tmp_path / "shapes.jsonl"), tmp_path / "run", Notes()
    plan_run(manifest, run, watcher=notes, **{**TINY, "steps": 2, "test_classes": None})
    record = finish(run, notes)
    assert (record["measured_on"], record["config"]["test_classes"]) == ("test", "published")
    assert any("test 3 classes, 6 photos; gallery 3 classes, 12 photos. Figures will be of: test." in s for s in notes.sentences)
    split = read_split(run)
    assert split is not None
    assert {name: len(part) for name, part in split.items()} == {
        "train": 42, "validation": 12, "test": 6, "gallery": 12, "seen": 0,
    }  # fmt: skip
    model, _, _ = load_trained(run, TrainConfig(**record["config"]))
    queries, gallery = ([Path(path) for path in split[part]] for part in ("test", "gallery"))
    expected = by_hand(EncoderNetwork(model.backbone, model.head), queries, gallery)
    assert record["after"]["queries"] == 6
    assert record["after"]["recall_at_k"]["1"] == pytest.approx(expected)


def by_hand(network: EncoderNetwork, queries: list[Path], gallery: list[Path]) -> float:
    """Share of the queries whose nearest photo of the gallery is of their class, one query at a time."""
    photos = [*queries, *gallery]
    vectors = embed_photos(network, photos, evaluation_preprocessing(32), CPU).embeddings
    asked, searched = vectors[: len(queries)], vectors[len(queries) :]
    nearest = [gallery[int((searched @ vector).argmax())] for vector in asked]
    return sum(query.parent == found.parent for query, found in zip(queries, nearest, strict=True)) / len(queries)


@pytest.mark.usefixtures("without_export")
def test_seen_classes_are_reported_beside_the_unseen_ones(shapes: Path, tmp_path: Path) -> None:
    run, notes = tmp_path / "run", Notes()
    plan_run(shapes, run, watcher=notes, **{**TINY, "steps": 2}, hold_out=0.34)
    record = finish(run, notes)
    assert record["measured_on"] == "test"
    assert record["after"]["classes"] == 3
    for key in ("before", "after"):
        assert (record["seen"][key]["queries"], record["seen"][key]["classes"]) == (7 * 2, 7)
    assert any("train 7 classes, 28 photos; " in s and "seen 7 classes, 14 photos. " in s for s in notes.sentences)
    split = read_split(run)
    assert split is not None
    model, _, _ = load_trained(run, TrainConfig(**record["config"]))
    queries, gallery = ([shapes / path for path in split[part]] for part in ("seen", "train"))
    expected = by_hand(EncoderNetwork(model.backbone, model.head), queries, gallery)
    assert record["seen"]["after"]["recall_at_k"]["1"] == pytest.approx(expected)


@pytest.mark.usefixtures("without_export")
def test_split_of_seen_classes_has_them_for_its_figures(shapes: Path, tmp_path: Path) -> None:
    plan_run(shapes, tmp_path / "run", watcher=Notes(), **{**TINY, "steps": 2, "test_classes": None}, split="seen")
    record = finish(tmp_path / "run")
    assert (record["measured_on"], record["split"]) == ("seen classes", {"by": "seen", "hold_out": 0.2})
    assert record["after"]["classes"] == len(record["classes"]["train"]) == 10
    assert "seen" not in record


@pytest.mark.usefixtures("without_export")
def test_split_by_group_trains_and_tests_on_different_groups_of_the_same_classes(shapes: Path, tmp_path: Path) -> None:
    rows = [(photo, photo.parent.name, f"visit-{photo.stem}") for photo in sorted(shapes.glob("*/*.jpg"))]
    manifest = tmp_path / "shapes.csv"
    manifest.write_text("path,label,group\n" + "".join(f"{photo},{label},{group}\n" for photo, label, group in rows))
    run = tmp_path / "run"
    plan_run(manifest, run, watcher=Notes(), **{**TINY, "steps": 2, "test_classes": None}, split="group", hold_out=0.34)
    record, split = finish(run), read_split(run)
    assert split is not None
    sides = [{Path(path).stem for path in split[part]} for part in ("train", "test")]
    assert [len(side) for side in sides] == [4, 2]
    assert not sides[0] & sides[1]
    assert record["classes"]["train"] == record["classes"]["test"] != []
    assert (record["measured_on"], record["after"]["queries"]) == ("test", 24)


@pytest.mark.usefixtures("without_export")
def test_groups_on_both_sides_and_classes_of_single_photos_are_told(shapes: Path, tmp_path: Path) -> None:
    manifest, notes = published(shapes, tmp_path / "shapes.jsonl", group="one visit"), Notes()
    single = [
        {
            "path": str(place / "0.jpg"),
            "label": f"{place.name}-{n}",
            "split": "train",
            "group": "one visit",
            "box": [0, 0, 9, 9 + n],
        }
        for place in shapes.iterdir()
        for n in range(2)
    ]
    with manifest.open("a") as file:
        file.writelines("\n" + json.dumps(row) for row in single)
    plan_run(manifest, tmp_path / "run", watcher=notes, **{**TINY, "steps": 1, "test_classes": None})
    finish(tmp_path / "run", notes)
    told = " ".join(notes.sentences)
    assert "Groups with photos both learned from and measured on: 1: one visit; --split group keeps them apart." in told
    assert "Most classes, 24 of 36, have a single photo: look whether the labels name what is to be found" in told


@pytest.mark.usefixtures("without_export")
@pytest.mark.parametrize("column", ["label", "box", "split", "group"])
def test_run_does_not_go_on_when_the_manifest_says_something_else(shapes: Path, tmp_path: Path, column: str) -> None:
    manifest, run = published(shapes, tmp_path / "shapes.jsonl", group="one", box=[0, 0, 40, 40]), tmp_path / "run"
    plan_run(manifest, run, watcher=Notes(), **{**TINY, "test_classes": None})
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    other = {"label": rows[-1]["label"], "box": [0, 0, 40, 41], "split": "gallery", "group": "two"}
    assert rows[0][column] != other[column]
    rows[0][column] = other[column]
    manifest.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(HdmlError, match="have changed since"):
        finish(run)


def test_two_boxes_of_a_photo_are_learned_from_and_measured_as_two(shapes: Path, tmp_path: Path) -> None:
    """Each half of a photo made of two is what the two photos are by themselves, in training, in torch and in the encoder."""
    pairs, single = tmp_path / "pairs.jsonl", tmp_path / "single.jsonl"
    rows: dict[Path, list[dict[str, Any]]] = {pairs: [], single: []}
    places = sorted(shapes.iterdir())
    for first, second in zip(places[::2], places[1::2], strict=True):
        for number in range(SHAPES_PER_CLASS):
            sheet = Image.new("RGB", (80, 40))
            for left, place in ((0, first), (40, second)):
                half = Image.open(place / f"{number}.jpg").convert("RGB").crop((0, 0, 40, 40))
                half.save(tmp_path / f"{first.name}-{number}-{left:02}.png")
                sheet.paste(half, (left, 0))
                rows[single].append({"path": f"{first.name}-{number}-{left:02}.png", "label": place.name})
                rows[pairs].append({"path": f"{first.name}-{number}.png", "label": place.name, "box": [left, 0, 40, 40]})
            (tmp_path / "sheets").mkdir(exist_ok=True)
            sheet.save(tmp_path / "sheets" / f"{first.name}-{number}.png")
    for manifest, its in rows.items():
        manifest.write_text("\n".join(json.dumps(row) for row in its))
    pairs.write_text(pairs.read_text().replace('"path": "', '"path": "sheets/'))
    records = []
    for manifest in (pairs, single):
        run = tmp_path / f"run-{manifest.stem}"
        plan_run(manifest, run, watcher=Notes(), **{**TINY, "steps": 2})
        records.append(finish(run))
    assert records[0]["before"] == records[1]["before"]
    assert records[0]["after"] == records[1]["after"]
    measured = evaluate_encoder(tmp_path / "run-pairs" / ENCODER, None, None, device="cpu", on_progress=lambda *_: None)
    assert (measured.photos, measured.measured_on) == (18, "test")
    assert measured.evaluation.map_at_r == pytest.approx(records[0]["after"]["map_at_r"], abs=0.03)


@pytest.mark.usefixtures("without_export")
def test_copies_are_told_counted_and_listed_and_stop_nothing(folder: Path, tmp_path: Path) -> None:
    places = sorted(folder.iterdir())
    shutil.copy(places[0] / "0.jpg", places[-1] / "exact.jpg")
    Image.open(places[0] / "1.jpg").save(places[-1] / "near.jpg", quality=60)
    run, notes = tmp_path / "run", Notes()
    plan_run(folder, run, watcher=notes, **{**TINY, "steps": 2})
    with pytest.raises(KeyboardInterrupt):
        finish(run, Notes(interrupt_at=1))
    record = finish(run, notes)
    (first, last) = (place.name for place in (places[0], places[-1]))
    listed = json.loads((run / LEAKS).read_text())
    assert listed == {
        "exact": [[f"{first}/0.jpg", f"{last}/exact.jpg"]],
        "near": [[f"{first}/1.jpg", f"{last}/near.jpg"]],
        "two_classes": [[f"{first}/0.jpg", f"{last}/exact.jpg"]],
    }
    assert record["leaks"] == {"exact": 1, "near": 1, "two_classes": 1}
    assert len(record["data"]["sha256"]) == 64
    assert not any("Leak check" in sentence for sentence in notes.sentences), "it is not done twice"
    again = Notes()
    plan_run(folder, tmp_path / "again", watcher=again, **{**TINY, "steps": 1})
    assert finish(tmp_path / "again", again)["data"]["sha256"] == record["data"]["sha256"]
    assert sum("of 32 photos measured on, 1 are exact copies and 1 near copies" in sentence for sentence in again.sentences) == 1
