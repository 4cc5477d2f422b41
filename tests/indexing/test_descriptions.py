"""Labels and attributes of photos: by the names of their folders, by a manifest, and by both."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from indexing.descriptions import Described, Descriptions, name_by_folders, parse_folder_names, read_descriptions
from indexing.errors import HdmlError
from indexing.gallery import PhotoFile

CSV = "path,label,colour,price\nmugs/a.jpg,mug,red,5\nb.jpg,, blue ,\n"


def test_folders_name_labels_and_attributes_level_by_level() -> None:
    photos = [PhotoFile("monday/mugs/deep/a.jpg", "monday"), PhotoFile("monday/b.jpg", "monday"), PhotoFile("c.jpg", None)]
    named = list(name_by_folders(iter(photos), ("visit", "label")))
    assert [(photo.label, photo.attributes) for photo in named] == [
        ("mugs", {"visit": "monday"}),
        (None, {"visit": "monday"}),
        (None, {}),
    ]
    assert [photo.path for photo in named] == [photo.path for photo in photos]
    assert list(name_by_folders(iter(photos), ("label",))) == photos


@pytest.mark.parametrize("words", ["", "a//b", "label/label", 'a"b'])
def test_names_of_folders_that_mean_nothing_are_refused(words: str) -> None:
    with pytest.raises(HdmlError, match="such as visit/label"):
        parse_folder_names(words)
    assert parse_folder_names(" visit / label ") == ("visit", "label")


def write(folder: Path, kind: str) -> Path:
    rows = [
        {"path": "mugs/a.jpg", "label": "mug", "colour": "red", "price": 5},
        {"path": "b.jpg", "label": None, "colour": "blue", "price": None},
    ]
    file = folder / f"manifest.{kind}"
    match kind:
        case "csv":
            file.write_text(CSV)
        case "jsonl":
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "parquet":
            parquet.write_table(pa.Table.from_pylist(rows), file)
    return file


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_other_column_of_a_manifest_is_an_attribute(tmp_path: Path, kind: str) -> None:
    found = list(read_descriptions(write(tmp_path, kind), tmp_path))
    assert found == [
        Described("mugs/a.jpg", "mug", {"colour": "red", "price": "5"}),
        Described("b.jpg", None, {"colour": "blue"}),
    ]


def test_a_manifest_may_lie_beside_its_gallery(tmp_path: Path) -> None:
    gallery = tmp_path / "photos"
    whole = gallery / "b.jpg"
    file = tmp_path / "lists" / "manifest.csv"
    file.parent.mkdir()
    file.write_text(f"path,label\n../photos/a.jpg,one\n{whole},two\nc.jpg,three\n")
    assert [one.path for one in read_descriptions(file, gallery)] == ["a.jpg", "b.jpg", "../lists/c.jpg"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("path,label\na.jpg,x\na.jpg,y\n", r"line 3 of .* must have each photo once, but has a\.jpg again"),
        ("path,label\n,x\n", "line 2 of .* must have a path, but it is empty"),
        ("file,label\na.jpg,x\n", "must have the columns path, but in its first line there is no path"),
        ('path,"a""b"\na.jpg,x\n', 'must have columns without " in their names'),
    ],
)
def test_a_manifest_that_is_wrong_is_said_with_its_line(tmp_path: Path, content: str, sentence: str) -> None:
    file = tmp_path / "manifest.csv"
    file.write_text(content)
    with pytest.raises(HdmlError, match=sentence):
        list(read_descriptions(file, tmp_path))


def test_attributes_are_no_lists(tmp_path: Path) -> None:
    file = tmp_path / "manifest.jsonl"
    file.write_text('{"path": "a.jpg", "sizes": [1, 2]}\n')
    with pytest.raises(HdmlError, match=r"text, a number or true or false as its sizes, but has \[1, 2\]"):
        list(read_descriptions(file, tmp_path))
    file.write_text('{"path": "a.jpg", "new": true}\n')
    assert list(read_descriptions(file, tmp_path)) == [Described("a.jpg", None, {"new": "true"})]


def test_by_default_the_first_folder_names_the_label() -> None:
    assert Descriptions() == Descriptions(("label",), None)
