"""Bringing an index up to date: what is embedded, kept, dropped and listed, and what survives an interruption."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import indexing.encoder
import indexing.indexer
from indexing.catalogue import Catalogue
from indexing.descriptions import Descriptions
from indexing.encoder import Encoder, open_session, read_metadata, write_metadata
from indexing.errors import HdmlError
from indexing.gallery import Failure
from indexing.index import cache_path, cached_sequences
from indexing.indexer import Progress, embed_files, update_index
from indexing.walk import Comparison
from tests.indexing.conftest import ordinary_user

UPDATE = """
import os, signal, sys
from pathlib import Path
from indexing.indexer import update_index

def kill_after(progress):
    if progress.done >= int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)

update_index(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), device="cpu", workers=2, progress=kill_after)
"""
UPDATE_WITH_LIMITED_FILES = """
import resource, sys
from pathlib import Path
from indexing.errors import HdmlError
from indexing.indexer import update_index

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
try:
    update_index(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), device="cpu", workers=1)
except HdmlError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    return tmp_path / "index"


def contents(index_dir: Path) -> dict[str, tuple[int, bytes, float]]:
    with Catalogue(index_dir) as catalogue:
        return {item.path: (item.id, item.vector.tobytes(), item.norm) for item in catalogue.items()}


def run_python(program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=120, check=False)


def test_a_new_index_holds_every_photo_with_label_size_and_vector(photos: Path, index_dir: Path, tiny_encoder: Path) -> None:
    report = update_index(photos, index_dir, tiny_encoder, device="cpu")
    assert (report.added, report.updated, report.removed, report.unchanged, report.failed) == (20, 0, 0, 0, [])
    assert report.items == 20
    encoder = Encoder(tiny_encoder, device="cpu")
    with Catalogue(index_dir) as catalogue:
        assert catalogue.about().gallery == photos.resolve()
        assert catalogue.about().fingerprint == encoder.metadata.fingerprint
        items = catalogue.items()
    assert [item.path for item in items] == sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))
    for item in items:
        vector, norm = encoder.encode_photo(photos / item.path)
        np.testing.assert_allclose(item.vector, vector, atol=1e-6)
        assert item.norm == pytest.approx(norm, rel=1e-5)
        assert item.label == item.path.split("/")[0]
        with Image.open(photos / item.path) as image:
            assert (item.width, item.height) == image.size


def test_a_second_run_without_changes_opens_no_encoder_and_writes_no_cache(
    photos: Path, index_dir: Path, tiny_encoder: Path
) -> None:
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    before = contents(index_dir)
    (cache,) = index_dir.glob("index.*.faiss")
    written = cache.stat().st_mtime_ns
    own = index_dir / "encoder.onnx"
    own.unlink()
    own.write_bytes(b"whoever opens this fails")
    report = update_index(photos, index_dir, own, device="cpu")
    assert (report.added, report.updated, report.removed, report.unchanged, report.images_per_second) == (0, 0, 0, 20, 0)
    assert contents(index_dir) == before
    assert [path.stat().st_mtime_ns for path in index_dir.glob("index.*.faiss")] == [written]


def test_only_new_and_changed_photos_are_embedded_and_gone_ones_dropped(
    photos: Path, index_dir: Path, tiny_encoder: Path
) -> None:
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    before = contents(index_dir)
    shutil.copy(photos / "red-right" / "0.jpg", photos / "new.jpg")
    shutil.copyfile(photos / "red-right" / "1.jpg", photos / "blue-left" / "0.jpg")
    (photos / "green-left" / "4.jpg").unlink()
    seen: list[Progress] = []
    report = update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu", progress=seen.append)
    assert (report.added, report.updated, report.removed, report.unchanged) == (1, 1, 1, 18)
    assert (seen[-1].done, seen[-1].total, seen[-1].failed) == (2, 2, 0)
    after = contents(index_dir)
    assert after.keys() == before.keys() - {"green-left/4.jpg"} | {"new.jpg"}
    assert after["new.jpg"][0] > max(item_id for item_id, _, _ in before.values())
    assert after["blue-left/0.jpg"][0] == before["blue-left/0.jpg"][0]
    assert after["blue-left/0.jpg"][1] != before["blue-left/0.jpg"][1]
    untouched = before.keys() - {"green-left/4.jpg", "blue-left/0.jpg"}
    assert {path: after[path] for path in untouched} == {path: before[path] for path in untouched}


def test_moved_and_renamed_photos_keep_their_ids_and_are_not_embedded_again(
    photos: Path, index_dir: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    before = contents(index_dir)
    (photos / "kept").mkdir()
    shutil.move(photos / "green-left" / "4.jpg", photos / "kept" / "4.jpg")
    (photos / "blue-left" / "0.jpg").rename(photos / "blue-left" / "first.jpg")
    shutil.copy(photos / "red-right" / "0.jpg", photos / "copy.jpg")
    (photos / "red-right" / "1.jpg").touch()
    monkeypatch.setattr(Encoder, "encode", None)  # whoever embeds fails
    report = update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    assert (report.added, report.updated, report.moved, report.removed, report.unchanged) == (1, 0, 2, 0, 18)
    after = contents(index_dir)
    assert after["kept/4.jpg"][:2] == before["green-left/4.jpg"][:2]
    assert after["blue-left/first.jpg"][:2] == before["blue-left/0.jpg"][:2]
    assert after["copy.jpg"][1] == before["red-right/0.jpg"][1]
    again = update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    assert (again.added, again.moved, again.unchanged) == (0, 0, 21)


def test_labels_and_attributes_may_come_from_elsewhere(photos: Path, index_dir: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    before = contents(index_dir)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"path,label,colour\n{photos / 'red-right/0.jpg'},apple,red\nelsewhere.jpg,pear,green\n")
    by_both = Descriptions(("side",), manifest)
    for descriptions, relabelled in ((by_both, 20), (None, 0)):  # it is remembered
        report = update_index(photos, index_dir, index_dir / "encoder.onnx", descriptions=descriptions, device="cpu")
        assert (report.unchanged, report.relabelled, report.absent) == (20, relabelled, 1)
        with Catalogue(index_dir) as catalogue:
            assert catalogue.labels() == {"apple": 1}
            assert catalogue.item_at("red-right/0.jpg").attributes == {"side": "red-right", "colour": "red"}
            assert catalogue.item_at("red-right/1.jpg").attributes == {"side": "red-right"}
    manifest.unlink()
    with pytest.raises(HdmlError, match=r"there is no file .*manifest\.csv"):
        update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    other = Descriptions(manifest=tmp_path / "other.csv")
    with pytest.raises(HdmlError, match=r"there is no file .*other\.csv"):
        update_index(photos, index_dir, index_dir / "encoder.onnx", descriptions=other, device="cpu")
    report = update_index(photos, index_dir, index_dir / "encoder.onnx", descriptions=Descriptions(), device="cpu")
    assert (report.unchanged, report.relabelled, report.absent) == (20, 20, 0)
    assert contents(index_dir) == before


def test_photos_that_take_one_anothers_names_are_told_apart(photos: Path, index_dir: Path, tiny_encoder: Path) -> None:
    folder = photos / "red-right"
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    before = contents(index_dir)
    (folder / "0.jpg").rename(folder / "other.jpg")  # it goes, and another takes its name
    (folder / "1.jpg").rename(folder / "0.jpg")
    os.utime(folder / "0.jpg")
    report = update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu", workers=1)
    after = contents(index_dir)
    assert report.items == 20
    for now, then in (("other.jpg", "0.jpg"), ("0.jpg", "1.jpg")):
        found, expected = (
            np.frombuffer(each, np.float32) for each in (after[f"red-right/{now}"][1], before[f"red-right/{then}"][1])
        )
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_unreadable_files_are_listed_stop_nothing_and_are_tried_again(photos: Path, index_dir: Path, tiny_encoder: Path) -> None:
    (photos / "empty.jpg").touch()
    (photos / "note.jpg").write_text("a note")
    (photos / "notes.txt").write_text("not even called a photo")
    whole = (photos / "red-right" / "0.jpg").read_bytes()
    (photos / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    report = update_index(photos, index_dir, tiny_encoder, device="cpu")
    assert [failure.path for failure in report.failed] == ["empty.jpg", "note.jpg", "torn.jpg"]
    assert report.failed[1].reason == "the file is empty or not in an image format that can be read"
    assert "truncated" in report.failed[2].reason
    assert (report.added, report.items) == (20, 20)
    status = (photos / "torn.jpg").stat()
    (photos / "torn.jpg").write_bytes(whole)
    os.utime(photos / "torn.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
    again = update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    assert (again.added, again.updated, again.unchanged, again.items) == (1, 0, 20, 21)
    assert [failure.path for failure in again.failed] == ["empty.jpg", "note.jpg"]


def test_a_photo_that_turns_unreadable_is_dropped_from_the_vectors(photos: Path, index_dir: Path, tiny_encoder: Path) -> None:
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    (photos / "blue-left" / "0.jpg").write_text("overwritten")
    report = update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    assert ([failure.path for failure in report.failed], report.items) == (["blue-left/0.jpg"], 19)


def test_when_every_photo_fails_the_report_says_so(tmp_path: Path, index_dir: Path, tiny_encoder: Path) -> None:
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "a.jpg").touch()
    report = update_index(tmp_path / "gallery", index_dir, tiny_encoder, device="cpu")
    assert report.items == 0
    assert report.failed == [Failure("a.jpg", "the file is empty or not in an image format that can be read")]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux file systems allow such names")
def test_a_name_that_is_not_utf8_is_listed_and_stops_nothing(photos: Path, index_dir: Path, tiny_encoder: Path) -> None:
    shutil.copy(photos / "red-right" / "0.jpg", photos / os.fsdecode(b"caf\xe9.jpg"))
    for _ in range(2):
        report = update_index(photos, index_dir, tiny_encoder, device="cpu")
        assert report.failed == [Failure(r"caf\xe9.jpg", "the file's name or folder is not valid UTF-8; rename it")]
        assert report.items == 20


def test_an_empty_or_missing_gallery_is_refused_and_an_index_stays(photos: Path, index_dir: Path, tiny_encoder: Path) -> None:
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    before = contents(index_dir)
    shutil.rmtree(photos)
    with pytest.raises(HdmlError, match="photos must be a folder of photos, but it does not exist"):
        update_index(photos, index_dir, tiny_encoder, device="cpu")
    photos.mkdir()
    (photos / "readme.txt").write_text("the drive is not mounted")
    with pytest.raises(HdmlError, match="photos must hold photos, in itself or in its folders, but none was found"):
        update_index(photos, index_dir, tiny_encoder, device="cpu")
    assert contents(index_dir) == before


def test_photos_that_cannot_be_looked_at_keep_their_items(photos: Path, outside: Path, tiny_encoder: Path) -> None:
    gallery, index_dir = outside / "photos", outside / "index"
    shutil.copytree(photos, gallery)
    shutil.copy(photos / "red-right" / "0.jpg", gallery / "flat.jpg")
    update_index(gallery, index_dir, tiny_encoder, device="cpu")
    before = contents(index_dir)
    (gallery / "blue-left").chmod(0)
    (gallery / "green-left").chmod(0o644)
    (gallery / "red-right" / "1.jpg").unlink()
    with ordinary_user(outside):
        report = update_index(gallery, index_dir, index_dir / "encoder.onnx", device="cpu")
    assert (report.added, report.updated, report.removed, report.unchanged, report.items) == (0, 0, 1, 10, 20)
    unseen = [Failure(f"green-left/{number}.jpg", "the file cannot be read: Permission denied") for number in range(5)]
    assert report.failed == [Failure("blue-left", "the folder cannot be listed: Permission denied"), *unseen]
    del before["red-right/1.jpg"]
    assert contents(index_dir) == before
    for name in ("blue-left", "green-left"):
        (gallery / name).chmod(0o700)
    again = update_index(gallery, index_dir, index_dir / "encoder.onnx", device="cpu")
    assert (again.added, again.unchanged, again.failed) == (0, 20, [])
    assert contents(index_dir) == before


def test_a_gallery_that_may_not_be_listed_is_refused_and_its_index_stays(photos: Path, outside: Path, tiny_encoder: Path) -> None:
    gallery, index_dir = outside / "photos", outside / "index"
    shutil.copytree(photos, gallery)
    update_index(gallery, index_dir, tiny_encoder, device="cpu")
    before = contents(index_dir)
    gallery.chmod(0)
    with ordinary_user(outside), pytest.raises(HdmlError, match="photos must be a folder of photos, but it cannot be listed"):
        update_index(gallery, index_dir, index_dir / "encoder.onnx", device="cpu")
    gallery.chmod(0o700)
    assert contents(index_dir) == before


def test_a_second_indexer_of_the_same_index_is_refused(photos: Path, index_dir: Path, tiny_encoder: Path) -> None:
    refused: list[str] = []

    def index_again(progress: Progress) -> None:
        with pytest.raises(HdmlError, match=r"index is being indexed by another process .*; wait for it or end it") as caught:
            update_index(photos, index_dir, tiny_encoder, device="cpu")
        refused.append(str(caught.value))

    assert update_index(photos, index_dir, tiny_encoder, device="cpu", progress=index_again).added == 20
    assert refused
    assert update_index(photos, index_dir, tiny_encoder, device="cpu").unchanged == 20


def test_of_two_first_runs_at_once_one_is_refused_and_the_index_is_whole(
    photos: Path, index_dir: Path, tiny_encoder: Path
) -> None:
    arguments = [sys.executable, "-c", UPDATE, str(photos), str(index_dir), str(tiny_encoder), "1000"]
    both = [subprocess.Popen(arguments, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    for process, text in zip(both, said, strict=True):
        assert process.returncode == 0 or "is being indexed by another process" in text, text
    assert 0 in [process.returncode for process in both]
    assert update_index(photos, index_dir, tiny_encoder, device="cpu").unchanged == 20


def test_what_a_killed_process_left_of_an_older_base_is_removed(photos: Path, index_dir: Path, tiny_encoder: Path) -> None:
    """Which has removed the manifest, and not the rest; nothing has changed since."""
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    (newest,) = cached_sequences(index_dir)
    shutil.copy(cache_path(index_dir, newest), cache_path(index_dir, newest - 1))
    assert update_index(photos, index_dir, device="cpu").unchanged == 20
    assert cached_sequences(index_dir) == [newest]


def test_caches_that_the_catalogue_is_behind_are_removed(photos: Path, index_dir: Path, tiny_encoder: Path) -> None:
    """As after a power failure: the next photo would get a number that a cache of another photo has."""
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    (cache,) = index_dir.glob("index.*.faiss")
    shutil.copy(cache, index_dir / "index.21.faiss")
    shutil.copy(photos / "red-right" / "0.jpg", photos / "new.jpg")
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    assert [path.name for path in index_dir.glob("index.*.faiss")] == ["index.20.faiss"]  # one photo more needs no other


def test_nothing_is_made_for_an_empty_gallery_or_a_bad_encoder(photos: Path, tmp_path: Path, index_dir: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(HdmlError, match="none was found"):
        update_index(tmp_path / "empty", index_dir, tmp_path / "absent.onnx")
    with pytest.raises(HdmlError, match=r"absent\.onnx must be an ONNX file, but there is none"):
        update_index(photos, index_dir, tmp_path / "absent.onnx")
    assert not index_dir.exists()


def test_an_index_is_bound_to_its_encoder(photos: Path, index_dir: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    same = tmp_path / "same.onnx"
    shutil.copy(tiny_encoder, same)
    assert update_index(photos, index_dir, same, device="cpu").unchanged == 20
    write_metadata(same, replace(read_metadata(same), fingerprint="0123456789abcdef", dimension=64))
    before = contents(index_dir)
    with pytest.raises(HdmlError, match=r"00c0ffee00c0ffee \(32-d\), but the given .*same\.onnx is 0123456789abcdef \(64-d\)"):
        update_index(photos, index_dir, same, device="cpu")
    assert contents(index_dir) == before


def test_an_index_is_bound_to_its_gallery(photos: Path, index_dir: Path, tiny_encoder: Path) -> None:
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    with pytest.raises(HdmlError, match=r"is of .*photos, not of .*red-right"):
        update_index(photos / "red-right", index_dir, tiny_encoder, device="cpu")


def test_an_index_keeps_its_encoder_synthesizer_and_run_record(photos: Path, index_dir: Path, tiny_run: Path) -> None:
    update_index(photos, index_dir, tiny_run / "encoder.onnx", device="cpu")
    kept = {name: (tiny_run / name).read_bytes() for name in ("encoder.onnx", "synthesizer.onnx", "run.json")}
    shutil.rmtree(tiny_run)
    assert {name: (index_dir / name).read_bytes() for name in kept} == kept
    assert json.loads((index_dir / "run.json").read_text())["name"] == "tiny"
    assert update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu").unchanged == 20


def test_embed_files_keeps_the_order_of_its_files_with_any_number_of_workers(
    photos: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    (tmp_path / "note.jpg").write_text("a note")
    files = [*sorted(photos.rglob("*.jpg"), reverse=True), tmp_path / "note.jpg", *sorted(photos.rglob("*.jpg"))]
    one, three = (list(embed_files(tiny_encoder, files, device="cpu", workers=workers)) for workers in (1, 3))
    assert [photo.path for photo in one] == [photo.path for photo in three] == files
    assert [photo.reason is None for photo in one] == [path.name != "note.jpg" for path in files]
    for first, second in zip(one, three, strict=True):
        if first.vector is not None:
            np.testing.assert_array_equal(first.vector, second.vector)


def test_a_new_index_opens_its_encoder_once_for_all_workers(
    photos: Path, index_dir: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def open_and_note(path: Path, **options: Any) -> Any:
        opened.append(path)
        return open_session(path, **options)

    monkeypatch.setattr(indexing.encoder, "open_session", open_and_note)
    assert update_index(photos, index_dir, tiny_encoder, device="cpu", workers=3).added == 20
    assert opened == [tiny_encoder]


def test_embed_files_reads_only_a_few_batches_ahead(photos: Path, tiny_encoder: Path) -> None:
    asked = 0

    def endless() -> Iterator[Path]:
        nonlocal asked
        while True:
            asked += 1
            yield photos / "red-right" / "0.jpg"

    embedded = embed_files(tiny_encoder, endless(), device="cpu", workers=2)
    for _ in range(40):
        next(embedded)
    embedded.close()
    assert asked < 40 + 8 * (2 * 3 + 2)


def test_no_files_open_no_encoder(tmp_path: Path) -> None:
    assert list(embed_files(tmp_path / "absent.onnx", [])) == []


def test_an_embedding_that_is_not_finite_is_a_failure(photos: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    shutil.copy(tiny_encoder, broken)
    metadata = read_metadata(broken)
    overflowing = replace(metadata.preprocessing, std=(1e-38, 1e-38, 1e-38))
    write_metadata(broken, replace(metadata, preprocessing=overflowing))
    with np.errstate(over="ignore", invalid="ignore"):
        (photo,) = embed_files(broken, [photos / "red-right" / "0.jpg"], device="cpu", workers=1)
    assert photo.reason == "the encoder gives no finite embedding of it"


def test_an_interrupted_run_keeps_what_it_stored_and_goes_on_from_there(
    photos: Path, index_dir: Path, tiny_encoder: Path
) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(photos, index_dir, tiny_encoder, device="cpu", progress=interrupt)
    stored = len(contents(index_dir))
    assert 0 < stored < 20
    report = update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    assert (report.added, report.unchanged) == (20 - stored, stored)


@pytest.mark.parametrize("photos_before", [1, 9, 20])
def test_killed_and_run_again_it_ends_as_if_never_killed(
    photos: Path, index_dir: Path, tiny_encoder: Path, tmp_path: Path, photos_before: int
) -> None:
    killed = run_python(UPDATE, photos, index_dir, tiny_encoder, photos_before)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    stored = len(contents(index_dir))
    assert stored >= photos_before
    report = update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu", workers=2)
    assert (report.added, report.unchanged) == (20 - stored, stored)
    update_index(photos, tmp_path / "uninterrupted", tiny_encoder, device="cpu", workers=2)
    found, expected = contents(index_dir), contents(tmp_path / "uninterrupted")
    assert {path: item_id for path, (item_id, _, _) in found.items()} == {
        path: item_id for path, (item_id, _, _) in expected.items()
    }
    for path, (_, vector, _) in found.items():  # batches may be cut elsewhere
        np.testing.assert_allclose(np.frombuffer(vector, np.float32), np.frombuffer(expected[path][1], np.float32), atol=1e-6)
    (cache,) = index_dir.glob("index.*.faiss")
    assert cache.name == next((tmp_path / "uninterrupted").glob("index.*.faiss")).name


def fill(path: Path, *, but: int) -> None:
    """Write to a file until only ``but`` bytes are left on the disk."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            file.truncate(file.tell() - but)


@pytest.mark.parametrize("left", [0, 200_000])
def test_a_full_disk_is_said_and_loses_nothing(photos: Path, small_disk: Path, tiny_encoder: Path, left: int) -> None:
    index_dir = small_disk / "index"
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    before = contents(index_dir)
    for number in range(400):
        shutil.copy(photos / "red-right" / "0.jpg", photos / f"{number}.jpg")
    fill(small_disk / "filler", but=left)
    with pytest.raises(HdmlError, match=r"disk is full|neither full nor failing|free some space"):
        update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    (small_disk / "filler").unlink()
    assert before.items() <= contents(index_dir).items()
    assert update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu").items == 420
    assert before.items() <= contents(index_dir).items()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
@pytest.mark.parametrize("limit", [10_000, 60_000, 100_000])
def test_files_that_may_not_grow_are_said_and_lose_nothing(photos: Path, index_dir: Path, tiny_encoder: Path, limit: int) -> None:
    """Like a full disk, at three points: in copying the encoder or making the catalogue, and in storing vectors."""
    for number in range(400):
        shutil.copy(photos / "red-right" / "0.jpg", photos / f"{number}.jpg")
    stopped = run_python(UPDATE_WITH_LIMITED_FILES, photos, index_dir, tiny_encoder, limit)
    assert stopped.returncode == 1
    assert stopped.stderr.count("\n") == 1
    assert "free some space" in stopped.stderr or "neither full nor failing" in stopped.stderr
    assert update_index(photos, index_dir, tiny_encoder, device="cpu").items == 420


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from indexing.indexer import update_index

def or_die(act):
    def act_or_die(*names, **options):
        if Path(os.fsdecode(names[-1])).match(sys.argv[5]):
            if sys.argv[4] == "after":
                act(*names, **options)
            os.kill(os.getpid(), signal.SIGKILL)
        return act(*names, **options)
    return act_or_die

for name in ("link", "replace"):
    setattr(os, name, or_die(getattr(os, name)))
update_index(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), device="cpu", workers=1)
"""


@pytest.mark.parametrize(
    ("moment", "file"),
    [("after", "encoder.onnx"), ("before", "catalogue.sqlite"), ("after", "catalogue.sqlite"), ("after", "index.*.json")],
)
def test_killed_at_a_step_it_leaves_nothing_unfinished_when_run_again(
    photos: Path, index_dir: Path, tiny_encoder: Path, tmp_path: Path, moment: str, file: str
) -> None:
    killed = run_python(KILLED_AT, photos, index_dir, tiny_encoder, moment, file)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for unfinished in index_dir.glob("*.part"):
        os.utime(unfinished, (0, 0))
    uninterrupted = tmp_path / "uninterrupted"
    for folder in (index_dir, uninterrupted):
        update_index(photos, folder, tiny_encoder, device="cpu")
    assert {path.name for path in index_dir.iterdir()} == {path.name for path in uninterrupted.iterdir()}
    found, expected = contents(index_dir), contents(uninterrupted)
    assert {path: item_id for path, (item_id, *_) in found.items()} == {path: item_id for path, (item_id, *_) in expected.items()}


def test_a_photo_that_vanishes_before_it_is_read_is_listed_and_not_known_the_next_time(
    photos: Path, index_dir: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = indexing.indexer.compare_gallery

    def compared_and_gone(*arguments: Any, **options: Any) -> Comparison:
        compared = plain(*arguments, **options)
        (photos / "red-right" / "4.jpg").unlink()
        return compared

    with monkeypatch.context() as patched:
        patched.setattr(indexing.indexer, "compare_gallery", compared_and_gone)
        report = update_index(photos, index_dir, tiny_encoder, device="cpu")
    assert (report.items, report.failed) == (19, [Failure("red-right/4.jpg", "there is no such file")])
    report = update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    assert (report.items, report.failed, report.unchanged) == (19, [], 19)
