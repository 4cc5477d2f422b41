"""The built-in set: the same bytes from the same seed, never half a set, and nothing to be had without learning."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.builtin_set import measure
from hdml.butterflies import SEED, write_butterflies
from hdml.butterflies.names import invent_names
from indexing.errors import HdmlError


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_small(folder: Path, *, seed: int = SEED, workers: int = 2) -> dict[str, bytes]:
    write_butterflies(folder, species=5, images=3, size=40, seed=seed, workers=workers)
    return contents(folder)


def test_same_seed_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    assert write_small(tmp_path / "one", workers=1) == write_small(tmp_path / "four", workers=4)


def test_another_seed_draws_other_species_under_other_names(tmp_path: Path) -> None:
    first, second = write_small(tmp_path / "first"), write_small(tmp_path / "second", seed=SEED + 1)
    assert not first.keys() & second.keys()
    assert not set(first.values()) & set(second.values())


def test_every_photo_is_a_different_jpeg_of_the_size_asked_for(tmp_path: Path) -> None:
    files = write_small(tmp_path / "set")
    assert sorted(path.split("/")[1] for path in files) == sorted(["001.jpg", "002.jpg", "003.jpg"] * 5)
    assert len(set(files.values())) == 15
    for path in files:
        with Image.open(tmp_path / "set" / path) as photo:
            photo.load()
            assert (photo.format, photo.mode, photo.size) == ("JPEG", "RGB", (40, 40))


def test_names_are_different_plain_words(tmp_path: Path) -> None:
    names = invent_names(160, SEED)
    assert len(set(names)) == 160
    assert all(part.isascii() and part.isalpha() for name in names for part in name.split("-", 1))


def test_neighbours_in_the_alphabet_are_not_one_genus() -> None:
    names = invent_names(64, SEED)
    genera = [index % 8 for _, index in sorted((name, index) for index, name in enumerate(names))]
    adjacent = sum(first == second for first, second in itertools.pairwise(genera))
    assert adjacent < 20  # 63 pairs, one in eight by chance; sorted by genus it would be 56


def test_a_finished_set_is_left_alone(tmp_path: Path) -> None:
    write_small(tmp_path / "set")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")}
    write_small(tmp_path / "set")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")} == before


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert len(write_small(tmp_path / "set")) == 15


def test_a_folder_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(HdmlError, match=r"must be empty or hold the 15 photos .* but holds 1 files, 1 of them others"):
        write_small(tmp_path)
    assert contents(tmp_path) == {"holiday.jpg": b"mine"}


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_killed_run_leaves_no_half_set_and_the_next_one_completes_it(tmp_path: Path) -> None:
    folder, partial = tmp_path / "set", tmp_path / ".set.partial"
    code = f"from pathlib import Path; from hdml.butterflies import write_butterflies; write_butterflies(Path({str(folder)!r}))"
    writer = subprocess.Popen([sys.executable, "-c", code])
    while len(list(partial.rglob("*.jpg"))) < 10:
        assert writer.poll() is None, "finished before it could be killed"
        time.sleep(0.05)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert not folder.exists()

    assert write_small(folder) == write_small(tmp_path / "clean")
    assert not partial.exists()


def test_drawing_needs_no_torch() -> None:
    code = "import sys, hdml.butterflies; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pixels_and_colours_do_not_tell_the_species_apart(tmp_path: Path) -> None:
    """The product's own set, drawn smaller for speed; at 128 px the figures are those of docs/built-in-set.md."""
    write_butterflies(tmp_path / "set", size=48)
    for name, result in measure(tmp_path / "set").items():
        assert 1 / 32 < result["recall_at_1"] <= 0.30, name
