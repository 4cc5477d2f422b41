"""What a person may name to train on: which of the readers it goes to, and what is said when it is none."""

from pathlib import Path

import pytest

from hdml.public_sets import PUBLISHED
from hdml.sources import find_source, read_photos
from indexing.errors import HdmlError
from tests.hdml.public_copies import write_sop


def test_name_with_a_root_is_the_public_set_even_beside_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cub200").mkdir()
    assert find_source("cub200", Path("elsewhere")) == (Path("elsewhere"), "cub200")
    assert find_source("cub200", None) == (Path("cub200"), None)


def test_name_of_a_public_set_by_itself_asks_for_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HdmlError, match="sop needs --root"):
        find_source("sop", None)


def test_root_of_what_is_no_public_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HdmlError, match="--root says where cub200, cars196, sop, inshop lies, but got photos"):
        find_source("photos", tmp_path)
    with pytest.raises(HdmlError, match=r"--root says where .* lies, but got none of them"):
        find_source(None, tmp_path)
    assert list(PUBLISHED) == ["cub200", "cars196", "sop", "inshop"]


def test_folder_manifest_and_public_set_each_go_to_their_reader(shapes: Path, tmp_path: Path) -> None:
    assert len(read_photos(shapes).classes) == 12
    paths = sorted(shapes.glob("*/0.jpg"))
    manifest = tmp_path / "Photos.CSV"
    manifest.write_text("path,label\n" + "".join(f"{path},{path.parent.name.split('-')[0]}\n" for path in paths))
    assert read_photos(manifest).classes == ("firebrick", "goldenrod", "royalblue", "seagreen")
    write_sop(tmp_path)
    with pytest.raises(HdmlError, match="59,551 train photos of 11,318 classes, but has 4 of 2"):
        read_photos(tmp_path, "sop")


def test_folder_whose_name_ends_like_a_manifest_is_a_folder(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "photos.csv").symlink_to(shapes)
    assert len(read_photos(tmp_path / "photos.csv").paths) == 72
