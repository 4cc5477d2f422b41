"""Thumbnails on disk: they survive a restart, keep to their bound, and are drawn anew when file or photo have changed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import app.thumbnails
from app.thumbnails import Thumbnails
from indexing.pictures import draw
from indexing.search import OpenIndex


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The photos that were drawn."""
    photos: list[Path] = []

    def note(source: Path, size: int) -> bytes:
        photos.append(source)
        return draw(source, size)

    monkeypatch.setattr(app.thumbnails, "draw", note)
    return photos


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_thumbnail_is_drawn_once_for_all_starts(opened: OpenIndex, drawn: list[Path], tmp_path: Path) -> None:
    first = Thumbnails(tmp_path / "kept")
    item = opened.catalogue.items("blue-left")[0]
    expected = draw(opened.gallery / item.path, 96)
    for thumbnails in (first, first, Thumbnails(tmp_path / "kept")):
        assert thumbnails.thumbnail(opened, item.id, 96).content == expected
    assert len(drawn) == 1
    assert (first.hits, first.misses) == (1, 1)
    first.thumbnail(opened, item.id, 320)
    assert len(drawn) == 2
    assert not list(tmp_path.rglob("*.part"))


def edited(path: Path) -> None:
    about = path.stat()
    Image.new("RGB", (40, 40), "black").save(path)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))  # another size tells


def replaced(path: Path) -> None:
    about = path.stat()
    content = path.read_bytes()
    other = path.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))  # another file of the same size and time
    other.replace(path)


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [edited, replaced, touched])
def test_changed_photo_is_drawn_anew(
    opened: OpenIndex, drawn: list[Path], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    thumbnails = Thumbnails(tmp_path / "kept")
    item = opened.catalogue.items("blue-left")[0]
    thumbnails.thumbnail(opened, item.id, 96)
    change(opened.gallery / item.path)
    assert thumbnails.thumbnail(opened, item.id, 96).content == draw(opened.gallery / item.path, 96)
    assert len(drawn) == 2


def flipped(old: bytes) -> bytes:
    return old[:40] + bytes([old[40] ^ 1]) + old[41:]


@pytest.mark.parametrize("damage", [lambda _: b"", lambda old: old[:-5], flipped, lambda _: b"x"])
def test_damaged_file_is_drawn_anew(
    opened: OpenIndex, drawn: list[Path], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    thumbnails = Thumbnails(tmp_path / "kept")
    item = opened.catalogue.items("blue-left")[0]
    expected = thumbnails.thumbnail(opened, item.id, 96).content
    (kept,) = files(tmp_path / "kept")
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    assert thumbnails.thumbnail(opened, item.id, 96).content == expected
    assert kept.read_bytes() == whole
    assert len(drawn) == 2


def test_those_used_last_are_kept_within_the_bound(opened: OpenIndex, drawn: list[Path], tmp_path: Path) -> None:
    items = opened.catalogue.items()
    folder = tmp_path / "kept"
    measured = Thumbnails(folder)
    for item in items:
        measured.thumbnail(opened, item.id, 96)
    limit = sum(path.stat().st_size for path in files(folder)) // 2
    for age, path in enumerate(files(folder)):
        os.utime(path, (1000 + age, 1000 + age))
    (folder / "aa").mkdir(exist_ok=True)
    left_behind = folder / "aa" / "killed.1-0.part"
    left_behind.write_bytes(b"x" * 100)
    os.utime(left_behind, (1, 1))
    bounded = Thumbnails(folder, limit=limit)
    bounded.thumbnail(opened, items[0].id, 96)  # a hit, which makes it the newest
    (used,) = [path for path in files(folder) if path.stat().st_mtime > 10_000]
    oldest = min(files(folder), key=lambda path: path.stat().st_mtime)
    bounded.thumbnail(opened, items[0].id, 320)
    assert sum(path.stat().st_size for path in files(folder)) <= limit
    assert used.exists()
    assert not oldest.exists()
    assert not left_behind.exists()
    for item in items:
        bounded.thumbnail(opened, item.id, 320)
        assert sum(path.stat().st_size for path in files(folder)) <= limit


def test_nothing_is_kept_where_nothing_may_be(opened: OpenIndex, drawn: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    item = opened.catalogue.items("blue-left")[0]
    for thumbnails in (Thumbnails(tmp_path / "kept", limit=0), Thumbnails(tmp_path / "file")):
        for _ in range(2):
            assert thumbnails.thumbnail(opened, item.id, 96).content == draw(opened.gallery / item.path, 96)
    assert not (tmp_path / "kept").exists()
    assert len(drawn) == 4
