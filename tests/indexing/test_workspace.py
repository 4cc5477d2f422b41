"""The workspace: finding runs and indexes by name, folder or age, and saying what there is when one is missing."""

import json
import logging
import os
import shutil
from pathlib import Path

import pytest

from indexing.errors import HdmlError
from indexing.indexer import update_index
from indexing.workspace import Workspace
from tests.indexing.conftest import ordinary_user


@pytest.fixture
def workspace(tiny_run: Path) -> Workspace:
    """A workspace of one finished run, tiny, of 2 January 2026."""
    return Workspace(tiny_run.parents[1])


def copy_run(workspace: Workspace, name: str, finished: str | None) -> Path:
    run = workspace.runs_dir / name
    shutil.copytree(workspace.runs_dir / "tiny", run)
    if finished is None:
        (run / "run.json").unlink()
    else:
        (run / "run.json").write_text(json.dumps({"finished": finished}))
    return run


def make_index(workspace: Workspace, gallery: Path) -> Path:
    index_dir = workspace.index_for_gallery(gallery)
    own = index_dir / "encoder.onnx"
    return update_index(gallery, index_dir, own if own.exists() else workspace.newest_encoder(), device="cpu").index


def test_the_newest_run_is_the_one_that_finished_last(workspace: Workspace) -> None:
    copy_run(workspace, "earlier", "2025-12-31T23:00:00+00:00")
    copy_run(workspace, "later", "2026-01-02T03:00:00-05:00")  # 08:00 in UTC
    undated = copy_run(workspace, "undated", None)
    os.utime(undated / "encoder.onnx", (0, 0))
    unfinished = workspace.runs_dir / "unfinished"
    unfinished.mkdir()
    (unfinished / "run.json").write_text("{}")
    assert [run.name for run in workspace.finished_runs()] == ["later", "tiny", "earlier", "undated"]
    assert workspace.newest_encoder() == workspace.runs_dir / "later" / "encoder.onnx"


def test_an_encoder_is_found_by_name_folder_and_file(workspace: Workspace, tmp_path: Path) -> None:
    expected = workspace.runs_dir / "tiny" / "encoder.onnx"
    assert workspace.find_encoder("tiny") == expected
    assert workspace.find_encoder(expected.parent) == expected
    assert workspace.find_encoder(str(expected)) == expected
    assert workspace.find_encoder("tiny/encoder.onnx") == expected
    with pytest.raises(HdmlError, match=r"but absent is neither; finished runs in .*workspace: tiny"):
        workspace.find_encoder("absent")
    with pytest.raises(HdmlError, match=r"finished runs in .*: none"):
        Workspace(tmp_path / "elsewhere").find_encoder("tiny")


def test_an_empty_workspace_says_what_to_do(tmp_path: Path) -> None:
    empty = Workspace(tmp_path / "workspace")
    assert (empty.finished_runs(), empty.indexes()) == ([], [])
    with pytest.raises(HdmlError, match=r'must hold a finished run, but has none; train one with "hdml train PHOTOS"'):
        empty.newest_encoder()
    with pytest.raises(HdmlError, match=r'must hold an index, but has no index; make one with "hdml index FOLDER"'):
        empty.find_index(None)
    with pytest.raises(HdmlError, match=r"has no index photos nor any other"):
        empty.find_index("photos")
    assert not empty.root.exists()


def test_an_index_belongs_to_its_gallery_and_a_second_photos_gets_another_name(
    workspace: Workspace, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = tmp_path / "other" / "photos"
    shutil.copytree(photos, second)
    assert make_index(workspace, photos) == workspace.indexes_dir / "photos"
    assert make_index(workspace, second) == workspace.indexes_dir / "photos-2"
    monkeypatch.chdir(second)
    assert workspace.index_for_gallery(Path("../photos")) == workspace.indexes_dir / "photos-2"
    (tmp_path / "link").symlink_to(photos)
    assert workspace.index_for_gallery(tmp_path / "link") == workspace.indexes_dir / "photos"
    with pytest.raises(HdmlError, match="absent must be a folder of photos, but it does not exist"):
        workspace.index_for_gallery(tmp_path / "absent")


def test_what_an_interrupted_first_run_left_is_used(workspace: Workspace, photos: Path) -> None:
    (workspace.indexes_dir / "photos").mkdir(parents=True)
    assert workspace.index_for_gallery(photos) == workspace.indexes_dir / "photos"


def test_the_index_updated_last_is_the_default(workspace: Workspace, photos: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    shutil.copytree(photos / "red-right", second)
    make_index(workspace, photos)
    make_index(workspace, second)
    assert workspace.find_index(None) == workspace.indexes_dir / "second"
    make_index(workspace, photos)  # nothing changed, yet it is what the user works with now
    assert workspace.find_index() == workspace.indexes_dir / "photos"
    assert workspace.find_index("second") == workspace.indexes_dir / "second"
    assert workspace.find_index(workspace.indexes_dir / "second") == workspace.indexes_dir / "second"
    infos = workspace.indexes()
    assert [(info.name, info.items, info.model) for info in infos] == [
        ("photos", 20, "00c0ffee00c0ffee"),
        ("second", 5, "00c0ffee00c0ffee"),
    ]
    assert infos[1].gallery == second.resolve()
    with pytest.raises(HdmlError, match=r"has no index absent; it has photos, second"):
        workspace.find_index("absent")


def test_a_broken_index_is_passed_over_and_logged(workspace: Workspace, photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_index(workspace, photos)
    broken = workspace.indexes_dir / "broken"
    broken.mkdir()
    (broken / "catalogue.sqlite").write_bytes(b"no database at all" * 10)
    with caplog.at_level(logging.WARNING):
        assert [info.name for info in workspace.indexes()] == ["photos"]
    assert "broken" in caplog.text
    assert "is damaged" in caplog.text


def test_a_broken_index_keeps_its_name_from_being_given_anew(workspace: Workspace, photos: Path, tmp_path: Path) -> None:
    make_index(workspace, photos)
    catalogue = workspace.indexes_dir / "photos" / "catalogue.sqlite"
    whole = catalogue.read_bytes()
    catalogue.write_bytes(b"no database at all" * 10)
    for gallery in (photos, tmp_path / "other" / "photos"):
        gallery.mkdir(parents=True, exist_ok=True)
        with pytest.raises(HdmlError, match=r"photos/catalogue\.sqlite is damaged"):
            workspace.index_for_gallery(gallery)
    with pytest.raises(HdmlError, match=r"photos/catalogue\.sqlite is damaged"):
        workspace.find_index()
    with pytest.raises(HdmlError, match=r"has no index absent; it has photos"):
        workspace.find_index("absent")
    catalogue.write_bytes(whole)
    assert workspace.index_for_gallery(photos) == workspace.find_index() == workspace.indexes_dir / "photos"


def test_an_index_in_a_closed_folder_is_not_overlooked(workspace: Workspace, outside: Path, photos: Path) -> None:
    gallery, place = outside / "photos", Workspace(outside / "workspace")
    shutil.copytree(photos, gallery)
    update_index(gallery, place.indexes_dir / "photos", workspace.newest_encoder(), device="cpu")
    (place.indexes_dir / "photos").chmod(0)
    with ordinary_user(outside):
        for find in (place.find_index, lambda: place.find_index("photos"), lambda: place.index_for_gallery(gallery)):
            with pytest.raises(HdmlError, match=r"photos/catalogue\.sqlite cannot be reached: Permission denied"):
                find()
    (place.indexes_dir / "photos").chmod(0o700)


def test_a_newer_run_than_the_indexs_is_mentioned(workspace: Workspace, photos: Path) -> None:
    index_dir = make_index(workspace, photos)
    assert workspace.newer_run(index_dir) is None
    copy_run(workspace, "earlier", "2025-12-31T00:00:00+00:00")
    assert workspace.newer_run(index_dir) is None
    copy_run(workspace, "later", "2026-01-03T00:00:00+00:00")
    newer = workspace.newer_run(index_dir)
    assert newer is not None
    assert newer.name == "later"
