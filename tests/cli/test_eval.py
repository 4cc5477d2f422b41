"""``hdml eval``: its JSON, of which photos its figures are, and what is said when there are none."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.test_train import check_evaluation
from tests.conftest import DISCS_PER_HUE, HUES, UNSEEN_HUES, Trained


def test_json_is_of_the_classes_that_the_runs_own_figures_are_of(hdml: Command, trained: Trained) -> None:
    done = hdml("eval", "--json", workspace=trained.workspace)
    assert (done.code, len(done.stdout.splitlines())) == (0, 1)
    check_evaluation(done.json, queries=len(UNSEEN_HUES) * DISCS_PER_HUE, classes=len(UNSEEN_HUES))


@pytest.mark.parametrize(("rule", "classes"), [("all", len(HUES)), ("last:3", 3), ("half", 6), ("0.25", 3)])
def test_classes_may_be_chosen(hdml: Command, trained: Trained, rule: str, classes: int) -> None:
    done = hdml("eval", "--classes", rule, "--json", workspace=trained.workspace)
    check_evaluation(done.json, queries=classes * DISCS_PER_HUE, classes=classes)


def test_another_folder_is_measured_whole_with_a_run_by_name(hdml: Command, trained: Trained, tmp_path: Path) -> None:
    """A photo that cannot be read is left out, and one without another of its class asks nothing."""
    for name in ("hue-01", "hue-05"):
        shutil.copytree(trained.photos / name, tmp_path / "other" / name)
    (tmp_path / "other" / "hue-01" / "0.jpg").write_text("a note")
    (tmp_path / "other" / "lonely").mkdir()
    shutil.copy(trained.photos / "hue-09" / "0.jpg", tmp_path / "other" / "lonely")
    arguments = ("eval", tmp_path / "other", "--encoder", "mine")
    done = hdml(*arguments, "--json", workspace=trained.workspace)
    check_evaluation(done.json, queries=2 * DISCS_PER_HUE - 1, classes=3)
    told = hdml(*arguments, workspace=trained.workspace).stdout
    assert f"{2 * DISCS_PER_HUE} photos of 3 classes (all classes) in {tmp_path / 'other'}" in told
    assert f"{100 * done.json['map_at_r']:.1f}" in told


def test_run_without_photos_of_its_own_asks_for_a_folder(hdml: Command, tiny_run: Path, photos: Path) -> None:
    assert hdml("eval").sentence.endswith("say which to measure it on: hdml eval FOLDER")
    check_evaluation(hdml("eval", photos, "--json").json, queries=20, classes=4)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("absent", "there is no folder"), ("empty", "no sub-folder with photos"), ("single", "class with at least 2 photos")],
)
@pytest.mark.usefixtures("tiny_run")
def test_folder_that_cannot_be_measured_on_is_a_sentence(
    hdml: Command, photos: Path, tmp_path: Path, kind: str, said: str
) -> None:
    folder = tmp_path / "other"
    if kind != "absent":
        folder.mkdir()
    if kind == "single":
        for name in ("red-right", "blue-left"):
            (folder / name).mkdir()
            shutil.copy(photos / name / "0.jpg", folder / name)
            (folder / name / "unreadable.jpg").write_text("a note")
    sentence = hdml("eval", folder).sentence
    assert said in sentence
    assert str(folder) in sentence


def test_without_a_run_it_says_how_to_get_one(hdml: Command, photos: Path) -> None:
    assert '"hdml train PHOTOS"' in hdml("eval", photos).sentence


@pytest.mark.usefixtures("tiny_run")
def test_cuda_asked_for_and_not_had_is_a_sentence(hdml: Command, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexing.device.cuda_device_count", lambda: 0)
    assert '"cuda" needs an NVIDIA GPU' in hdml("eval", photos, "--device", "cuda").sentence
