"""``hdml train``: its JSON, going on after Ctrl-C, the built-in set, and what is said when something is not as it must be."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import hdml.butterflies as built_in
from cli import display, training
from cli.main import app
from hdml.feedback import HELD_OUT
from hdml.run import read_log, read_record, status_of, write_record
from indexing.catalogue import Catalogue
from indexing.indexer import update_index
from indexing.marks import QueryPhoto
from indexing.workspace import Workspace
from tests.cli.conftest import Command
from tests.conftest import DISCS_PER_HUE, UNSEEN_HUES, Trained
from tests.hdml.public_copies import write_inshop

RECALL_AT = ("1", "2", "4", "8", "10")
SMALL = ("--weights", "none", "--image-size", 32, "--steps", 4, "--classes-per-batch", 4, "--dimension", 16, "--method", "plain")


def check_evaluation(evaluation: dict[str, Any], *, queries: int, classes: int) -> None:
    """That an evaluation has the keys and the ranges that programs rely on."""
    assert evaluation.keys() == {"recall_at_k", "map_at_r", "r_precision", "nmi", "f1", "queries", "classes"}
    assert tuple(evaluation["recall_at_k"]) == RECALL_AT
    recalls = list(evaluation["recall_at_k"].values())
    assert recalls == sorted(recalls)
    assert all(0 <= value <= 1 for value in (*recalls, evaluation["map_at_r"], evaluation["nmi"]))
    assert (evaluation["queries"], evaluation["classes"]) == (queries, classes)


def test_last_line_of_json_is_the_run_its_encoder_and_both_evaluations(trained: Trained) -> None:
    answer = trained.train
    assert answer.keys() == {"run", "encoder", "before", "after"}
    assert answer["run"] == "mine"
    assert answer["encoder"] == str(trained.workspace / "runs" / "mine" / "encoder.onnx")
    assert Path(answer["encoder"]).is_file()
    for key in ("before", "after"):
        check_evaluation(answer[key], queries=len(UNSEEN_HUES) * DISCS_PER_HUE, classes=len(UNSEEN_HUES))
    record = read_record(trained.workspace / "runs" / "mine")
    assert (record["before"], record["after"]) == (answer["before"], answer["after"])


def test_person_is_told_the_split_one_table_and_what_was_written(trained: Trained) -> None:
    run = trained.workspace / "runs" / "mine"
    assert f"Run {run} on " in trained.told
    assert "test 4 classes, 24 photos. Figures will be of: test." in trained.told
    assert trained.told.count("Retrieval on test (4 classes)") == 1
    for name, key in (("before: untrained", "before"), ("after: trained", "after")):
        (row,) = [line for line in trained.told.splitlines() if name in line]
        evaluation = trained.train[key]
        figures = [evaluation["recall_at_k"][k] for k in RECALL_AT[:4]] + [evaluation[name] for name in ("map_at_r", "nmi", "f1")]
        assert [cell.strip() for cell in row.split("│")[2:-1]] == [f"{100 * figure:.1f}" for figure in figures]
    assert f"Wrote {run / 'encoder.onnx'} (step " in trained.told
    assert "Checked against torch on 24 photo files" in trained.told


def test_run_stopped_by_ctrl_c_goes_on_with_the_command_it_names(
    hdml: Command, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object, progress: Any) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(display.Display, "step", interrupt)
        stopped = hdml("train", shapes, *SMALL, "--run", "mine", "--json")
    assert (stopped.code, stopped.stdout) == (130, "")
    assert stopped.stderr.endswith("interrupted\n")
    (hint,) = [line for line in stopped.stderr.splitlines() if line.startswith("Stopped; go on with: hdml ")]
    result = CliRunner().invoke(app, [*hint.removeprefix("Stopped; go on with: hdml ").split(" "), "--json"])
    assert result.exit_code == 0, result.stderr
    assert '"run": "mine"' in result.stdout.splitlines()[-1]
    assert "Retrieval on validation, selected on (2 classes)" in result.stderr
    record = read_record(tmp_path / "workspace" / "runs" / "mine")
    assert (record["status"], record["config"]["steps"], record["measured_on"]) == ("finished", 4, "validation, selected on")
    assert not (tmp_path / "workspace" / "runs" / "mine" / "synthesizer.onnx").exists()
    assert hdml("train", "--resume").sentence.endswith("the unfinished ones there are: none.")


def test_without_a_folder_it_trains_on_the_built_in_set_and_says_so(
    hdml: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On eight species of four photos instead of the whole set."""
    monkeypatch.setattr(built_in, "write_butterflies", partial(built_in.write_butterflies, species=8, images=4, size=40))
    done = hdml("train", "--image-size", 32, "--steps", 1, "--dimension", 16, "--method", "plain", "--json")
    assert done.code == 0, done.stderr
    folder = tmp_path / "workspace" / "butterflies"
    assert len(list(folder.glob("*/*.jpg"))) == 32
    assert "Training on the built-in set: drawn butterflies" in done.stderr
    check_evaluation(done.json["after"], queries=16, classes=4)
    config = read_record(tmp_path / "workspace" / "runs" / done.json["run"])["config"]
    assert (config["test_classes"], config["weights"], config["steps"]) == ("half", "none", 1)


def make_folder(kind: str, shapes: Path, folder: Path) -> None:
    """A folder that cannot be trained on."""
    match kind:
        case "empty":
            folder.mkdir()
        case "photos beside each other":
            shutil.copytree(shapes / "firebrick-ellipse", folder)
        case "one class":
            shutil.copytree(shapes / "firebrick-ellipse", folder / "only")
        case "single photos":
            for name in ("a", "b", "c"):
                (folder / name).mkdir(parents=True)
                shutil.copy(shapes / "firebrick-ellipse" / "0.jpg", folder / name)
        case "a file":
            folder.write_text("a note")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("absent", "there is no folder"),
        ("a file", "there is no folder"),
        ("empty", "has no sub-folder with photos"),
        ("photos beside each other", "has no sub-folder with photos"),
        ("one class", "has photos of one class only (only)"),
        ("single photos", "at least 2 classes with 2 photos or more"),
    ],
)
def test_folder_that_cannot_be_trained_on_is_a_sentence_and_makes_no_run(
    hdml: Command, shapes: Path, tmp_path: Path, kind: str, said: str
) -> None:
    make_folder(kind, shapes, tmp_path / "photos")
    sentence = hdml("train", tmp_path / "photos", *SMALL).sentence
    assert said in sentence
    assert str(tmp_path / "photos") in sentence
    assert not (tmp_path / "workspace").exists()


def test_folder_of_unreadable_photos_is_a_sentence(hdml: Command, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "photos" / name / f"{number}.jpg").write_text("a note")
    done = hdml("train", tmp_path / "photos", *SMALL)
    assert done.stdout.count("Left out: ") == 6
    assert "at least 2 classes with 2 photos or more" in done.sentence


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--backbone", "resnet999"], "there is no 'resnet999'"),
        (["--weights", "absent.pth"], "there is no file absent.pth"),
        (["--test-classes", "last:99"], "needs N between 1 and 11, got 99"),
        (["--device", "tpu"], "one of auto, cpu, cuda, not 'tpu'"),
        (["--device", "cpu", "--gpus", "2"], "--gpus 2 needs as many GPUs that torch can use, but training has none"),
    ],
)
def test_option_that_cannot_be_is_a_sentence_and_makes_no_run(
    hdml: Command, shapes: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    assert said in hdml("train", shapes, *SMALL, *options).sentence
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize("option", ["--lr", "--alpha", "--beta", "--regulariser", "--steps"])
def test_negative_number_is_wrong_usage(hdml: Command, shapes: Path, option: str) -> None:
    done = hdml("train", shapes, option, -1)
    assert done.code == 2
    assert option in done.stderr


def test_cuda_asked_for_and_not_had_is_a_sentence(
    hdml: Command, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "--device cuda needs a GPU" in hdml("train", shapes, *SMALL, "--device", "cuda").sentence
    assert not (tmp_path / "workspace").exists()


def test_name_of_another_run_is_refused_and_that_run_stays(hdml: Command, shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "workspace" / "runs" / "mine"
    write_record(run, {"status": "finished", "note": "of before"})
    assert "needs a name of its own" in hdml("train", shapes, *SMALL, "--run", "mine").sentence
    assert read_record(run) == {"status": "finished", "note": "of before"}


def test_name_with_a_slash_is_refused(hdml: Command, shapes: Path) -> None:
    done = hdml("train", shapes, *SMALL, "--run", "a/b")
    assert done.code == 1
    assert "holds no slash, but got a/b" in done.stderr


def test_resuming_an_unknown_run_names_the_unfinished_ones(hdml: Command, tmp_path: Path) -> None:
    runs = tmp_path / "workspace" / "runs"
    write_record(runs / "early", {"status": "training", "started": "2026-01-01T00:00:00+00:00"})
    write_record(runs / "late", {"status": "training", "started": "2026-01-02T00:00:00+00:00"})
    write_record(runs / "done", {"status": "finished", "started": "2026-01-03T00:00:00+00:00"})
    sentence = hdml("train", "--resume", "--run", "done").sentence
    assert sentence == f"--resume needs the run done in {runs}, but the unfinished ones there are: late, early."
    assert status_of(runs / "done") == "finished"


def write_manifest(shapes: Path, file: Path) -> Path:
    """The shapes as a manifest: of the last three classes the first photo asks and the others are the gallery."""
    rows = ["path,label,split"]
    for number, place in enumerate(sorted(shapes.iterdir())):
        for photo in sorted(place.iterdir()):
            rows.append(f"{photo},{place.name},{'train' if number < 9 else 'query' if photo.stem == '0' else 'gallery'}")
    file.write_text("\n".join(rows))
    return file


def test_manifest_is_trained_on_and_measured_by_the_split_that_it_states(hdml: Command, shapes: Path, tmp_path: Path) -> None:
    manifest = write_manifest(shapes, tmp_path / "list.v2.csv")
    done = hdml("train", manifest, *SMALL, "--hold-out", 0.34, "--json")
    assert done.code == 0, done.stderr
    assert done.json.keys() == {"run", "encoder", "before", "after", "seen"}
    assert done.json["run"].startswith("list.v2-")
    check_evaluation(done.json["after"], queries=3, classes=3)
    for key in ("before", "after"):
        check_evaluation(done.json["seen"][key], queries=14, classes=7)
    assert "Retrieval on test (3 classes)" in done.stderr
    assert "Retrieval on seen classes (7 classes)" in done.stderr
    own = hdml("eval", "--json")
    given = hdml("eval", manifest, "--json")
    assert own.json == given.json
    check_evaluation(own.json, queries=3, classes=3)
    assert "18 photos of 3 classes (test, as the data state it)" in given.stderr
    seen = hdml("eval", "--classes", "seen", "--json")
    check_evaluation(seen.json, queries=14, classes=7)
    check_evaluation(hdml("eval", "--classes", "all", "--json").json, queries=72, classes=12)
    assert "--classes seen needs a run that held photos out" in hdml("eval", manifest, "--classes", "seen").sentence


def test_public_set_that_is_not_whole_is_a_sentence_and_makes_no_run(hdml: Command, tmp_path: Path) -> None:
    write_inshop(tmp_path)
    sentence = hdml("train", "inshop", "--root", tmp_path, *SMALL).sentence
    assert "14,218 query photos of 3,985 classes, but has 2 of 2" in sentence
    assert not (tmp_path / "workspace").exists()


def test_public_set_is_trained_on_by_its_name_with_its_queries_and_gallery(
    hdml: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hdml.public_sets.PUBLISHED", {"inshop": {"train": (6, 3), "query": (2, 2), "gallery": (4, 2)}})
    write_inshop(tmp_path)
    done = hdml("train", "inshop", "--root", tmp_path, *SMALL, "--json")
    assert done.code == 0, done.stderr
    assert done.json["run"].startswith("inshop-")
    check_evaluation(done.json["after"], queries=2, classes=2)
    record = read_record(tmp_path / "workspace" / "runs" / done.json["run"])
    assert (record["data"]["name"], record["data"]["data_set"]) == ("inshop", "inshop")
    assert (record["data"]["root"], record["config"]["test_classes"]) == (str(tmp_path), "published")
    assert hdml("eval", "inshop", "--root", tmp_path, "--json").json == hdml("eval", "--json").json


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inshop"], "inshop needs --root"),
        (["photos", "--root", "x"], "--root says where cub200, cars196, sop, inshop lies, but got photos"),
        (["--root", "x"], "but got none of them"),
        (["gone.parquet"], "there is no file gone.parquet"),
    ],
)
def test_data_that_are_not_there_are_a_sentence(hdml: Command, tmp_path: Path, arguments: list[str], said: str) -> None:
    for command in ("train", "eval"):
        if command == "eval":
            (tmp_path / "workspace" / "runs" / "none").mkdir(parents=True)
            (tmp_path / "workspace" / "runs" / "none" / "encoder.onnx").write_bytes(b"")
            write_record(tmp_path / "workspace" / "runs" / "none", {"status": "finished", "finished": "2026-01-01"})
        assert said in hdml(command, *arguments).sentence


def test_refit_is_said_beside_the_figures_that_are_of_before(hdml: Command, shapes: Path) -> None:
    told = hdml("train", shapes, *SMALL, "--test-classes", "last:3", "--refit").stdout
    assert "Retrieval on test (3 classes), before the refit" in told
    assert "before the refit; the encoder has since learned from all photos." in told
    assert "encoder.onnx (trained anew on 72 photos of 12 classes, " in told
    assert "(test, learned from since, in the refit)" in hdml("eval").stdout


def test_processes_that_torchrun_started_train_one_run_together(shapes: Path, tmp_path: Path) -> None:
    """The first speaks for all; the others train, in the refit too."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python", "--"]
    command = [*launcher, Path(sys.executable).with_name("hdml"), "train", shapes, *SMALL, "--test-classes", "last:3"]
    workspace = tmp_path / "workspace"
    command += ["--refit", "--device", "cpu", "--run", "mine", "--workspace", workspace, "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["run"] == "mine"
    assert done.stderr.count("Wrote ") == 1
    record = read_record(workspace / "runs" / "mine")
    assert record["status"] == "finished"
    assert record["refit"]["photos"] == 72


def test_gpus_of_one_machine_train_one_run_together(
    hdml: Command, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes on the CPU stand for those on GPUs."""
    monkeypatch.setattr(training, "check_gpus", lambda gpus, device: None)
    done = hdml("train", shapes, *SMALL, "--test-classes", "last:3", "--device", "cpu", "--gpus", 2, "--run", "mine", "--json")
    assert done.json["run"] == "mine"
    assert done.json["after"] == read_record(tmp_path / "workspace" / "runs" / "mine")["after"]
    assert [row["step"] for row in read_log(tmp_path / "workspace" / "runs" / "mine")] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--split", "group"], "--split group needs groups"),
        (["--split", "seen", "--test-classes", "half"], "--test-classes needs --split class, but got half with --split seen"),
        (["--hold-out", 20], "--hold-out must be a share between 0 and 1, got 20"),
        (["--test-classes", "published"], "published needs data that state their parts"),
    ],
)
def test_split_that_the_folder_does_not_allow_is_a_sentence(
    hdml: Command, shapes: Path, tmp_path: Path, options: list[object], said: str
) -> None:
    assert said in hdml("train", shapes, *SMALL, *options).sentence
    assert not (tmp_path / "workspace").exists()


def test_marks_of_an_index_are_learned_from(hdml: Command, shapes: Path, tmp_path: Path, tiny_run: Path) -> None:
    """Those of its photos, which are the training photos here, and of one that was sent; a test class is left out."""
    place = Workspace(tmp_path / "workspace")
    index = place.index_for_gallery(shapes)
    update_index(shapes, index, tiny_run / "encoder.onnx", device="cpu")
    assert (
        "--feedback needs marks on results, but the index shapes has none"
        in hdml("train", shapes, "--feedback", "shapes").sentence
    )
    labels = sorted(path.name for path in shapes.iterdir())
    with Catalogue(index) as catalogue:
        first, second, unseen = (catalogue.items(label)[0].id for label in (labels[0], labels[1], labels[-1]))
        content = (shapes / catalogue.item(first).path).read_bytes()
        sent = QueryPhoto(b"\x07" * 20, "mine.jpg", 1, content)
        catalogue.mark(sent, first, right=True)
        catalogue.mark(first, second, right=False)
        catalogue.mark(first, unseen, right=False)
    done = hdml("train", shapes, *SMALL, "--test-classes", "last:3", "--feedback", "shapes", "--run", "mine", "--json")
    assert done.code == 0, done.stderr
    run = tmp_path / "workspace" / "runs" / "mine"
    assert read_record(run)["feedback"] == {"marks": 3, "joined": 1, "apart": 1, "left_out": 1}
    assert "Marks: 1 right, 2 wrong. Photos that join a label by them: 1;" in " ".join(done.stderr.split())
    used = json.loads((run / "feedback-used.json").read_text())
    assert used["joined"] == [{"photo": str((run / "feedback" / f"{sent.hash.hex()}.jpg").resolve()), "label": labels[0]}]
    assert used["left_out"][0]["reason"] == HELD_OUT
