"""``hdml index``: its JSON, the rules of the workspace, and what is said when something is not as it must be."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from indexing.catalogue import Catalogue
from indexing.encoder import read_metadata
from tests.cli.conftest import Command
from tests.conftest import TINY, write_tiny_encoder

INDEX_AND_DIE = """
import os, signal, sys
from cli.display import Display
from cli.main import main

def advance(self, description, done, total, figures=""):
    if done >= 9:
        os.kill(os.getpid(), signal.SIGKILL)

Display.advance = advance
sys.argv = ["hdml", "index", *sys.argv[1:]]
main()
"""


def add_run(workspace: Path, name: str, *, finished: str, dimension: int = 32) -> Path:
    """Another finished run, whose encoder gives other vectors."""
    run = workspace / "runs" / name
    run.mkdir(parents=True)
    metadata = replace(TINY, fingerprint=name.ljust(16, "0"), dimension=dimension)
    write_tiny_encoder(run / "encoder.onnx", metadata, seed=dimension)
    (run / "run.json").write_text(json.dumps({"finished": finished}))
    return run


def contents(index_dir: Path) -> dict[str, tuple[int, bytes]]:
    with Catalogue(index_dir) as catalogue:
        return {item.path: (item.id, item.vector.tobytes()) for item in catalogue.items()}


def spoil(photos: Path) -> dict[str, str]:
    """Put unreadable files among the photos; returns a word of each one's reason."""
    (photos / "red-right" / "note.jpg").write_text("a note")
    (photos / "red-right" / "nothing.jpg").touch()
    whole = (photos / "red-right" / "1.jpg").read_bytes()
    (photos / "red-right" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    return {"red-right/note.jpg": "format", "red-right/nothing.jpg": "empty", "red-right/half.jpg": "damaged"}


@pytest.mark.usefixtures("workspace")
def test_json_counts_photos_and_lists_what_failed_with_its_reason(hdml: Command, photos: Path) -> None:
    reasons = spoil(photos)
    done = hdml("index", photos, "--json")
    assert (done.code, len(done.stdout.splitlines())) == (0, 1)
    answer = done.json
    failed = answer.pop("failed")
    assert answer == {"index": "photos", "added": 20, "updated": 0, "moved": 0, "removed": 0, "unchanged": 0, "relabelled": 0}
    assert {failure["path"] for failure in failed} == reasons.keys()
    for failure in failed:
        assert failure.keys() == {"path", "reason"}
        assert reasons[failure["path"]] in failure["reason"]


@pytest.mark.usefixtures("workspace")
def test_second_run_tells_what_changed_since(hdml: Command, photos: Path) -> None:
    hdml("index", photos)
    shutil.copy(photos / "red-right" / "0.jpg", photos / "new.jpg")
    shutil.copyfile(photos / "red-right" / "1.jpg", photos / "blue-left" / "0.jpg")
    (photos / "green-left" / "4.jpg").unlink()
    counts = {"added": 1, "updated": 1, "moved": 0, "removed": 1, "unchanged": 18, "relabelled": 0}
    expected = {"index": "photos", **counts, "failed": []}
    assert hdml("index", photos, "--json").json == expected


@pytest.mark.usefixtures("workspace")
def test_folders_and_a_manifest_tell_labels_and_attributes(hdml: Command, photos: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"path,label,colour\n{photos / 'red-right/0.jpg'},apple,red\nabsent.jpg,pear,green\n")
    told = hdml("index", photos, "--folder-names", "side", "--manifest", manifest).stdout
    assert "The manifest tells of 1 photos that are not in" in told
    query = photos / "red-right" / "0.jpg"
    (found,) = hdml("search", query, "--attribute", "colour=red", "--json").json["results"]
    assert (found["label"], found["attributes"]) == ("apple", {"side": "red-right", "colour": "red"})
    answer = hdml("index", photos, "--manifest", "none", "--json").json
    assert (answer["unchanged"], answer["relabelled"]) == (20, 1)
    assert hdml("search", query, "--attribute", "colour=red", "--json").json["results"] == []
    assert len(hdml("search", query, "--attribute", "side=red-right", "--json").json["results"]) == 5
    assert "such as visit/label" in hdml("index", photos, "--folder-names", "a//b").sentence


def test_person_is_told_what_was_used_written_and_left_out(hdml: Command, photos: Path, workspace: Path) -> None:
    for number in range(22):
        (photos / f"{number:02}.jpg").touch()
    done = hdml("index", photos)
    assert done.code == 0
    assert f"Indexing {photos} with {workspace / 'runs' / 'tiny' / 'encoder.onnx'}" in done.stdout
    assert (
        f"Wrote {workspace / 'indexes' / 'photos'}: 20 added, 0 updated, 0 moved, 0 removed, 0 unchanged, 22 failed"
        in done.stdout
    )
    listed = [line for line in done.stdout.splitlines() if line.startswith("Left out: ")]
    assert [line.split(": ")[1] for line in listed] == [f"{number:02}.jpg" for number in range(20)]
    assert "… and 2 more; --json lists them all." in done.stdout


def test_second_photos_gets_another_name_and_each_keeps_its_index(
    hdml: Command, photos: Path, workspace: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere" / "photos"
    shutil.copytree(photos / "red-right", other)
    assert hdml("index", photos, "--json").json["index"] == "photos"
    assert hdml("index", other, "--json").json["index"] == "photos-2"
    again = hdml("index", tmp_path / "elsewhere" / ".." / "photos", "--json").json
    assert (again["index"], again["unchanged"]) == ("photos", 20)
    assert sorted(path.name for path in (workspace / "indexes").iterdir()) == ["photos", "photos-2"]


def test_new_index_takes_the_newest_run_and_keeps_its_encoder(hdml: Command, photos: Path, workspace: Path) -> None:
    add_run(workspace, "older", finished="2025-01-01T00:00:00+00:00")
    hdml("index", photos)
    index_dir = workspace / "indexes" / "photos"
    assert read_metadata(index_dir / "encoder.onnx").fingerprint == TINY.fingerprint
    vectors = contents(index_dir)
    add_run(workspace, "newer", finished="2026-02-01T00:00:00+00:00")
    shutil.copy(photos / "red-right" / "0.jpg", photos / "new.jpg")
    done = hdml("index", photos)
    assert (
        f"The run newer is newer than this index's model; to use it: hdml index {photos} --migrate --encoder newer" in done.stdout
    )
    assert read_metadata(index_dir / "encoder.onnx").fingerprint == TINY.fingerprint
    assert vectors.items() <= contents(index_dir).items()


def test_encoder_that_an_interrupted_first_run_left_decides_nothing(
    hdml: Command, photos: Path, workspace: Path, tmp_path: Path
) -> None:
    left = write_tiny_encoder(tmp_path / "left.onnx", replace(TINY, fingerprint="1eft0000", dimension=48), seed=1)
    (workspace / "indexes" / "photos").mkdir(parents=True)
    shutil.copy(left, workspace / "indexes" / "photos" / "encoder.onnx")
    assert hdml("index", photos).code == 0
    assert read_metadata(workspace / "indexes" / "photos" / "encoder.onnx").fingerprint == TINY.fingerprint


def test_encoder_of_another_dimension_is_refused_and_nothing_is_lost(hdml: Command, photos: Path, workspace: Path) -> None:
    hdml("index", photos)
    before = contents(workspace / "indexes" / "photos")
    add_run(workspace, "wide", finished="2026-02-01T00:00:00+00:00", dimension=48)
    sentence = hdml("index", photos, "--encoder", "wide").sentence
    for part in (
        f"encoder {TINY.fingerprint} (32-d)",
        "wide000000000000 (48-d)",
        f"hdml index {photos} --migrate --encoder {workspace}",
    ):
        assert part in sentence
    assert contents(workspace / "indexes" / "photos") == before
    assert hdml("index", photos, "--json").json["unchanged"] == 20


def test_encoder_may_be_a_run_or_a_file(hdml: Command, photos: Path, workspace: Path, tmp_path: Path) -> None:
    run = add_run(workspace, "wide", finished="2024-01-01T00:00:00+00:00", dimension=48)
    hdml("index", photos, "--encoder", "wide")
    hdml("index", photos / "red-right", "--encoder", run / "encoder.onnx")
    for name in ("photos", "red-right"):
        assert read_metadata(workspace / "indexes" / name / "encoder.onnx").dimension == 48


@pytest.mark.parametrize(
    ("what", "said"),
    [("empty", "must hold photos, in itself or in its folders, but none was found"), ("absent", "but it does not exist")],
)
@pytest.mark.usefixtures("workspace")
def test_folder_without_photos_is_a_sentence_and_makes_no_index(hdml: Command, tmp_path: Path, what: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    sentence = hdml("index", tmp_path / what).sentence
    assert str(tmp_path / what) in sentence
    assert said in sentence
    assert not (tmp_path / "workspace" / "indexes" / what).exists()


def test_folder_that_has_become_empty_keeps_its_index(hdml: Command, photos: Path, workspace: Path) -> None:
    """As when a drive is not mounted."""
    hdml("index", photos)
    before = contents(workspace / "indexes" / "photos")
    shutil.rmtree(photos)
    photos.mkdir()
    assert "none was found" in hdml("index", photos).sentence
    assert contents(workspace / "indexes" / "photos") == before


def test_without_any_run_it_says_how_to_get_one(hdml: Command, photos: Path) -> None:
    sentence = hdml("index", photos).sentence
    assert '"hdml train PHOTOS"' in sentence
    assert '"hdml export --backbone' in sentence


@pytest.mark.usefixtures("workspace")
def test_unknown_encoder_is_a_sentence_that_names_the_runs(hdml: Command, photos: Path) -> None:
    sentence = hdml("index", photos, "--encoder", "absent").sentence
    assert "absent is neither" in sentence
    assert sentence.endswith("tiny")


def test_cuda_asked_for_and_not_had_leaves_no_index(
    hdml: Command, photos: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index without photos would be bound to its encoder, and be the default of the next search."""
    monkeypatch.setattr("indexing.device.cuda_device_count", lambda: 0)
    assert '"cuda" needs an NVIDIA GPU' in hdml("index", photos, "--device", "cuda").sentence
    assert not (workspace / "indexes").exists()
    assert "one of auto, cpu, cuda, not 'tpu'" in hdml("index", photos, "--device", "tpu").sentence
    assert not (workspace / "indexes").exists()


def test_workspace_may_come_from_the_environment(photos: Path, workspace: Path) -> None:
    result = CliRunner().invoke(app, ["index", str(photos)], env={"HDML_WORKSPACE": str(workspace)})
    assert result.exit_code == 0
    assert len(contents(workspace / "indexes" / "photos")) == 20


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_and_run_again_it_holds_what_an_uninterrupted_run_holds(
    hdml: Command, photos: Path, workspace: Path, tmp_path: Path
) -> None:
    spoil(photos)
    arguments = [str(photos), "--workspace", str(workspace), "--workers", "1", "--device", "cpu"]
    command = [sys.executable, "-c", INDEX_AND_DIE, *arguments]
    root = Path(__file__).parents[2]
    killed = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    stored = len(contents(workspace / "indexes" / "photos"))
    assert 0 < stored < 20
    answer = hdml("index", photos, "--workers", 1, "--json").json
    assert (answer["added"], answer["unchanged"], len(answer["failed"])) == (20 - stored, stored, 3)

    whole = tmp_path / "uninterrupted"
    shutil.copytree(workspace / "runs", whole / "runs")
    expected = hdml("index", photos, "--workers", 1, "--json", workspace=whole).json
    assert expected["failed"] == answer["failed"]
    assert contents(workspace / "indexes" / "photos") == contents(whole / "indexes" / "photos")


def test_watching_takes_in_what_changes_and_waits_while_it_cannot(photos: Path, workspace: Path) -> None:
    command = [sys.executable, "-u", "-c", "from cli.main import main; main()"]
    arguments = ["index", str(photos), "--watch", "0.1", "--workspace", str(workspace), "--device", "cpu"]
    process = subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Tests that a script runs in the background inherit an ignored SIGINT, which the command would then ignore too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    overdue = threading.Timer(120, process.kill)  # so that a line that is never said ends the test
    overdue.start()

    def await_line(part: str) -> None:
        assert process.stdout is not None
        assert any(part in line for line in process.stdout), f"{part!r} was never said"

    await_line("Following")
    shutil.copy(photos / "red-right" / "0.jpg", photos / "new.jpg")
    await_line("1 added")
    (photos / "new.jpg").rename(photos / "newer.jpg")
    await_line("1 moved")
    away = photos.with_name("away")
    photos.rename(away)
    await_line("Waiting: ")
    away.rename(photos)
    (photos / "newer.jpg").unlink()
    await_line("1 removed")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    overdue.cancel()
