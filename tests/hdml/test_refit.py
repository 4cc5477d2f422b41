"""The refit: after a model is chosen and measured, another is trained on all photos, and that one is exported."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hdml import fit
from hdml.checkpoint import load_tensors
from hdml.data import read_labelled_folder
from hdml.fit import export_again, plan_run
from hdml.measure import evaluate_encoder
from hdml.run import CHECKPOINT, ENCODER, MODEL, REFIT, SYNTHESIZER, read_log, read_record, status_of
from hdml.train import TrainTime
from indexing.encoder import read_metadata
from tests.conftest import SHAPES_PER_CLASS
from tests.hdml.test_fit import FINISH_AND_DIE, TINY, Finished, Notes, finish, outcome, same_model


@pytest.fixture(scope="module")
def chosen(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The same run without a refit."""
    run, notes = tmp_path_factory.mktemp("runs") / "chosen", Notes()
    plan_run(shapes, run, watcher=notes, **TINY)
    return Finished(run, finish(run, notes), notes)


@pytest.fixture(scope="module")
def refitted(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    run, notes = tmp_path_factory.mktemp("runs") / "refitted", Notes()
    plan_run(shapes, run, watcher=notes, **TINY, refit=True)
    return Finished(run, finish(run, notes), notes)


def test_figures_stay_those_of_the_chosen_model(chosen: Finished, refitted: Finished) -> None:
    for key in ("before", "after", "chosen_step", "classes", "measured_on"):
        assert refitted.record[key] == chosen.record[key]
    assert same_model(refitted.run, chosen.run)
    assert refitted.record["refit"] == {"steps": chosen.record["chosen_step"], "classes": 12, "photos": 12 * SHAPES_PER_CLASS}
    assert "refit" not in chosen.record


def test_exported_encoder_is_the_one_that_learned_from_all_classes(chosen: Finished, refitted: Finished) -> None:
    metadata = read_metadata(refitted.run / ENCODER)
    assert metadata.training_data == "shapes: 12 classes"
    assert metadata.fingerprint != read_metadata(chosen.run / ENCODER).fingerprint
    tensors, state = load_tensors(refitted.run / REFIT / MODEL)
    assert state["steps_done"] == refitted.record["chosen_step"]
    assert refitted.record["lambda"] == state["pulling_share"]
    first, _ = load_tensors(refitted.run / MODEL)
    assert tensors.keys() == first.keys()
    assert not all(torch.equal(tensors[key], first[key]) for key in tensors)
    assert [row["step"] for row in read_log(refitted.run / REFIT)] == list(range(refitted.record["chosen_step"]))
    assert all(row["validation"] is None for row in read_log(refitted.run / REFIT)), "nothing is left to choose by"


def test_refit_learns_from_every_class(shapes: Path, refitted: Finished, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What reaches the second training are all the photos."""
    trained: list[tuple[set[Path], int]] = []
    original = fit.train

    def train(config: Any, *arguments: Any, **settings: Any) -> TrainTime:
        trained.append((set(settings["train_set"].paths), config.steps))
        return original(config, *arguments, **settings)

    monkeypatch.setattr(fit, "train", train)
    monkeypatch.setattr(fit, "_export", lambda *_: {})
    plan_run(shapes, tmp_path / "run", watcher=Notes(), **{**TINY, "steps": 2}, refit=True)
    record = finish(tmp_path / "run")
    (first, steps), (second, again) = trained
    assert second == set(read_labelled_folder(shapes).paths) > first
    assert (steps, again) == (2, record["chosen_step"])


def test_refit_is_told(refitted: Finished) -> None:
    step = refitted.record["chosen_step"]
    assert refitted.notes.sentences[-1] == f"Training anew on all 12 classes, 72 photos, for the {step} steps chosen."
    assert [progress.step for progress in refitted.notes.steps] == [*range(1, 7), *range(1, step + 1)]


def test_measuring_the_refitted_encoder_says_that_it_knows_the_photos(shapes: Path, refitted: Finished) -> None:
    for data in (None, shapes):
        measured = evaluate_encoder(refitted.run / ENCODER, data, None, device="cpu", on_progress=lambda done, total: None)
        assert measured.measured_on.endswith(", learned from since, in the refit")


def test_exporting_again_takes_the_refitted_model(refitted: Finished) -> None:
    before = read_metadata(refitted.run / ENCODER)
    (refitted.run / ENCODER).unlink()
    export_again(refitted.run)
    assert read_metadata(refitted.run / ENCODER) == before


def same_refit(run: Path, other: Path) -> bool:
    (tensors, state), (others, other_state) = (load_tensors(folder / REFIT / MODEL) for folder in (run, other))
    return state == other_state and all(torch.equal(tensors[key], others[key]) for key in others)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_run_killed_in_its_refit_ends_as_the_uninterrupted_one(refitted: Finished, shapes: Path, tmp_path: Path) -> None:
    run, steps = tmp_path / "killed", refitted.record["chosen_step"]
    plan_run(shapes, run, watcher=Notes(), **TINY, refit=True)
    dies_in_refit = FINISH_AND_DIE.replace(
        "if progress.step ==", "self.steps = getattr(self, 'steps', 0) + 1\n        if self.steps == 6 +"
    )
    command = [sys.executable, "-c", dies_in_refit, str(run), str(steps)]
    root = Path(__file__).parents[2]
    killed = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (run / REFIT / CHECKPOINT).exists()
    record = read_record(run)
    assert (status_of(run), record["after"], record["refit"]) == ("training", refitted.record["after"], {})
    notes = Notes()
    finish(run, notes)
    assert all(progress.steps == steps for progress in notes.steps), "the first training is not taken up again"
    assert len(notes.steps) < steps
    assert outcome(run) == outcome(refitted.run)
    assert same_refit(run, refitted.run)
    assert read_metadata(run / ENCODER) == read_metadata(refitted.run / ENCODER)
    assert not (run / CHECKPOINT).exists()
    assert not (run / REFIT / CHECKPOINT).exists()


def test_run_interrupted_around_its_refit_ends_as_the_uninterrupted_one(
    refitted: Finished, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "interrupted"
    plan_run(shapes, run, watcher=Notes(), **TINY, refit=True)
    for stage in ("_refit", "export_synthesizer", "export_encoder"):
        with monkeypatch.context() as patched:
            patched.setattr(fit, stage, interrupt)
            with pytest.raises(KeyboardInterrupt):
                finish(run)
        if stage == "_refit":
            with pytest.raises(KeyboardInterrupt):
                finish(run, Notes(interrupt_at=1))
        assert status_of(run) == "training"
        assert not (run / ENCODER).exists(), "an encoder would be taken for a finished one"
    assert (run / SYNTHESIZER).exists()
    torch.manual_seed(99)
    finish(run)
    assert outcome(run) == outcome(refitted.run)
    assert same_refit(run, refitted.run)
