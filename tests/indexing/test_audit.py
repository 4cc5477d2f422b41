"""What an audit finds in a small gallery with planted faults, and what it makes of galleries that have changed or are odd."""

import json
import re
import shutil
from pathlib import Path

import faiss
import numpy as np
import pytest
from PIL import Image

from indexing import audit_report
from indexing.audit import Audit, audit_index
from indexing.audit_report import to_html, write_audit
from indexing.catalogue import Catalogue
from indexing.errors import HdmlError
from indexing.index import cache_path, cached_sequences, load_cache, save_cache
from indexing.indexer import update_index


def scene(seed: int, side: int = 160) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse, fine = (Image.fromarray(random.integers(0, 256, (*grid, 3)).astype(np.uint8)) for grid in ((4, 4), (16, 16)))
    return Image.blend(*(part.resize((side, side), Image.Resampling.BICUBIC) for part in (coarse, fine)), 0.4)


def save(photo: Image.Image, path: Path, quality: int = 92) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    photo.save(path, quality=quality)
    return path


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    folder = tmp_path / "gallery"
    for number in range(24):
        save(scene(number), folder / f"class-{number % 2}" / f"{number:02}.jpg")
    return folder


def audited(gallery: Path, encoder: Path) -> Audit:
    index = gallery.with_name("index")
    update_index(gallery, index, encoder, device="cpu")
    return audit_index(index, lambda *_: None)


def copies_of(audit: Audit) -> dict[tuple[str, str], str]:
    return {(group.keep.path, copy.photo.path): copy.kind for group in audit.duplicates for copy in group.copies}


def test_gallery_without_faults_has_none(gallery: Path, tiny_encoder: Path) -> None:
    audit = audited(gallery, tiny_encoder)
    found = (audit.duplicates, audit.outliers, audit.lost, audit.small_classes, audit.unreadable, audit.changed)
    assert found == ((), (), (), {}, (), ())
    assert (audit.photos, audit.classes) == (24, 2)


def test_copies_of_every_kind_are_found_and_the_best_is_kept(gallery: Path, tiny_encoder: Path) -> None:
    folder = gallery / "class-0"
    shutil.copy(folder / "00.jpg", folder / "exact.jpg")
    save(scene(2).resize((100, 100)), folder / "smaller.jpg", quality=60)
    save(scene(4).resize((320, 320)), folder / "larger.png")
    save(scene(6).transpose(Image.Transpose.FLIP_LEFT_RIGHT), folder / "mirrored.jpg", quality=50)
    save(scene(8).crop((20, 10, 140, 130)), folder / "cropped.jpg")
    save(scene(10).crop((10, 20, 140, 150)).resize((400, 400)), folder / "cropped-larger.jpg")
    assert copies_of(audited(gallery, tiny_encoder)) == {
        ("class-0/00.jpg", "class-0/exact.jpg"): "exact",
        ("class-0/02.jpg", "class-0/smaller.jpg"): "re-encoded",
        ("class-0/larger.png", "class-0/04.jpg"): "re-encoded",
        ("class-0/06.jpg", "class-0/mirrored.jpg"): "mirrored",
        ("class-0/08.jpg", "class-0/cropped.jpg"): "cropped",
        ("class-0/10.jpg", "class-0/cropped-larger.jpg"): "cropped",
    }


def test_group_holds_all_copies_of_one_photo_and_names_its_classes(gallery: Path, tiny_encoder: Path) -> None:
    shutil.copy(gallery / "class-0" / "00.jpg", gallery / "class-1" / "exact.jpg")
    for number, quality in enumerate((30, 50, 70)):
        save(scene(0).resize((120, 120)), gallery / "class-1" / f"anew-{number}.jpg", quality=quality)
    (group,) = audited(gallery, tiny_encoder).duplicates
    assert group.keep.path == "class-0/00.jpg"
    assert sorted(copy.kind for copy in group.copies) == ["exact", "re-encoded", "re-encoded", "re-encoded"]
    assert group.labels == {"class-0", "class-1"}


def test_photos_that_vanished_or_changed_are_told_and_stop_nothing(gallery: Path, tiny_encoder: Path) -> None:
    shutil.copy(gallery / "class-0" / "00.jpg", gallery / "class-0" / "exact.jpg")
    index = gallery.with_name("index")
    update_index(gallery, index, tiny_encoder, device="cpu")
    (gallery / "class-0" / "00.jpg").unlink()
    save(scene(99), gallery / "class-0" / "02.jpg")
    audit = audit_index(index, lambda *_: None)
    assert audit.duplicates == ()
    assert [failure.path for failure in audit.changed] == ["class-0/00.jpg", "class-0/02.jpg"]
    assert "cannot be read any more" in audit.changed[0].reason
    assert "has changed" in audit.changed[1].reason
    shutil.rmtree(gallery)
    assert len(audit_index(index, lambda *_: None).changed) == 25


def test_small_and_empty_classes_and_unreadable_files_are_told(gallery: Path, tiny_encoder: Path) -> None:
    save(scene(50), gallery / "alone" / "only.jpg")
    (gallery / "empty").mkdir()
    (gallery / "class-0" / "broken.jpg").write_bytes(b"")
    audit = audited(gallery, tiny_encoder)
    assert audit.small_classes == {"empty": 0, "alone": 1}
    ((failure),) = audit.unreadable
    assert failure.path == "class-0/broken.jpg"
    assert "empty" in failure.reason


def test_gallery_without_labels_is_audited(tmp_path: Path, tiny_encoder: Path) -> None:
    gallery = tmp_path / "gallery"
    for number in range(12):
        save(scene(number), gallery / f"{number}.jpg")
    shutil.copy(gallery / "3.jpg", gallery / "again.jpg")
    audit = audited(gallery, tiny_encoder)
    assert (audit.classes, audit.label_errors, len(audit.duplicates)) == (0, (), 1)
    assert "no label" in to_html(audit)


def test_index_without_photos_is_refused_in_a_sentence(tmp_path: Path, tiny_encoder: Path) -> None:
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    (gallery / "broken.jpg").write_bytes(b"")
    with pytest.raises(HdmlError, match="must hold photos, but has none"):
        audited(gallery, tiny_encoder)


def test_photo_that_its_own_vector_does_not_find_is_told(gallery: Path, tiny_encoder: Path) -> None:
    """In a base whose vectors were mixed up, as a fault of the cache would."""
    index = gallery.with_name("index")
    update_index(gallery, index, tiny_encoder, device="cpu")
    (sequence,) = cached_sequences(index)
    _, manifest = load_cache(index, sequence) or (None, None)
    assert manifest is not None
    base = faiss.read_index(str(cache_path(index, sequence)))
    flat = faiss.downcast_index(base.index)
    vectors = flat.reconstruct_n(0, flat.ntotal)
    vectors[[0, 1]] = vectors[[1, 0]]
    flat.reset()
    flat.add(vectors)
    save_cache(base, manifest, index, sequence)
    ids = [photo.id for photo in audit_index(index, lambda *_: None).lost]
    with Catalogue(index) as catalogue:
        assert ids == [record.id for record in catalogue.photo_records()][:2]


def test_hostile_names_are_shown_as_text(tmp_path: Path, tiny_encoder: Path) -> None:
    gallery = tmp_path / "gallery"
    name = "<script>alert(1)<|script>\" onerror='x'"
    for number in range(6):
        save(scene(number), gallery / name / f"{number} <img src=x>.jpg")
    shutil.copy(gallery / name / "1 <img src=x>.jpg", gallery / name / "<b>.jpg")
    page = to_html(audited(gallery, tiny_encoder))
    assert "<script" not in page
    assert "<b>.jpg" not in page
    assert re.search(r"<img src=x", page) is None
    assert "&lt;script&gt;" in page


def test_report_holds_everything_and_small_pictures_only(gallery: Path, tmp_path: Path, tiny_encoder: Path) -> None:
    shutil.copy(gallery / "class-0" / "00.jpg", gallery / "class-0" / "exact.jpg")
    audit = audited(gallery, tiny_encoder)
    page = write_audit(audit, tmp_path / "out")
    told = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert told["summary"] == audit.summary()
    assert told["duplicates"][0]["copies"][0]["photo"]["path"] == "class-0/exact.jpg"
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") >= 2
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]


def test_page_shows_a_bounded_number_of_findings(gallery: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(0, 12, 2):
        shutil.copy(gallery / "class-0" / f"{number:02}.jpg", gallery / "class-0" / f"copy-{number}.jpg")
    audit = audited(gallery, tiny_encoder)
    monkeypatch.setattr(audit_report, "SHOWN", 2)
    page = to_html(audit)
    assert "The first 2 of 6" in page
    assert page.count(">keep<") == 2


def test_interrupted_report_leaves_the_former_one_whole(
    gallery: Path, tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = audited(gallery, tiny_encoder)
    page = write_audit(audit, tmp_path / "out")
    before = page.read_bytes()
    whole = Path.write_bytes

    def half(path: Path, content: bytes) -> int:
        whole(path, content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        write_audit(audit, tmp_path / "out")
    assert page.read_bytes() == before
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]
