"""Manifests in each of their three forms, and what is said of one that is written wrongly."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from hdml.data import Photo
from hdml.manifest import read_manifest
from indexing.errors import HdmlError
from indexing.preprocess import Box

ROWS: list[dict[str, Any]] = [
    {"path": "visit-1/a.jpg", "label": "apple", "split": "train", "group": "visit-1", "box": [0, 0, 20, 20], "price": 2},
    {"path": "visit-1/a.jpg", "label": "pear", "split": "train", "group": "visit-1", "box": [20, 4.4, 19.6, 20], "price": 1},
    {"path": "visit-2/b, c.jpg", "label": "apple", "split": "test", "group": "visit-2", "box": None, "price": 3},
    {"path": "visit-2/d.jpg", "label": "007", "split": "test", "group": None, "box": None, "price": 4},
]


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    for name in ("visit-1/a.jpg", "visit-2/b, c.jpg", "visit-2/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), "seagreen").save(tmp_path / name)
    return tmp_path


def write(rows: Sequence[dict[str, Any]], file: Path) -> Path:
    """The rows as a manifest of the form that the file's name says."""
    match file.suffix:
        case ".csv":
            with file.open("w", newline="", encoding="utf-8") as out:
                writer = csv.DictWriter(out, list(rows[0]))
                writer.writeheader()
                for row in rows:
                    writer.writerow({**row, "box": " ".join(map(str, row["box"]))} if row.get("box") else row)
        case ".jsonl":
            file.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
        case ".parquet":
            parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    return file


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_manifest_says_the_same_in_every_form(shelf: Path, form: str) -> None:
    photos = read_manifest(write(ROWS, shelf / f"photos.{form}"))
    assert photos.root == shelf
    assert photos.photos == (
        Photo(Path("visit-1/a.jpg"), Box(0, 0, 20, 20)),
        Photo(Path("visit-1/a.jpg"), Box(20, 4, 20, 20)),
        Photo(Path("visit-2/b, c.jpg")),
        Photo(Path("visit-2/d.jpg")),
    )
    assert [photos.classes[label] for label in photos.labels] == ["apple", "pear", "apple", "007"]
    assert photos.groups == ("visit-1", "visit-1", "visit-2", None)
    assert photos.parts == ("train", "train", "test", "test")
    assert photos.left_out == ()


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_path_and_label_are_enough_and_rows_may_stand_in_any_order(shelf: Path, form: str) -> None:
    rows = [{"label": row["label"], "path": row["path"]} for row in (ROWS[3], ROWS[0], ROWS[2])]
    photos = read_manifest(write(rows, shelf / f"photos.{form}"))
    assert [path.name for path in photos.paths] == ["a.jpg", "b, c.jpg", "d.jpg"]
    assert (photos.boxes, photos.groups, photos.parts) == ((), (), ())


def test_whole_numbers_are_labels_and_groups_too(shelf: Path) -> None:
    rows = [{"path": row["path"], "label": number, "group": 10 + number} for number, row in enumerate(ROWS[1:])]
    photos = read_manifest(write(rows, shelf / "photos.parquet"))
    assert (photos.classes, photos.groups) == (("0", "1", "2"), ("10", "11", "12"))


def test_spreadsheets_mark_of_utf_8_is_no_part_of_the_first_column(shelf: Path) -> None:
    (shelf / "photos.csv").write_text("path,label\nvisit-1/a.jpg,pêche\nvisit-2/d.jpg,poire\n", encoding="utf-8-sig")
    assert read_manifest(shelf / "photos.csv").classes == ("poire", "pêche")


def test_whole_paths_are_taken_as_they_are(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("lists") / "photos.jsonl"
    photos = read_manifest(write([{**row, "path": str(shelf / row["path"])} for row in ROWS], elsewhere))
    assert photos.left_out == ()
    assert all(file.is_file() for file in photos.files)


def test_photos_that_are_not_there_are_left_out_with_their_lines(shelf: Path) -> None:
    lost = [{**ROWS[0], "path": path, "box": None} for path in ("gone.jpg", "visit-1", "x" * 300)]
    photos = read_manifest(write([*ROWS, *lost], shelf / "photos.csv"))
    assert len(photos.paths) == 4
    assert photos.left_out == tuple(
        (row["path"], f"there is no such file (line {line} of photos.csv)") for line, row in enumerate(lost, start=6)
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "in its first line there is no path, only: none"),
        ("file,label\na.jpg,x\n", "in its first line there is no path, only: file, label"),
        ("path;label\na.jpg;x\n", "in its first line there is no path, only: path;label"),
        ("path,class\na.jpg,x\n", "in its first line there is no label, only: path, class"),
        ("path,label\nvisit-1/a.jpg,apple\n,pear\n", "line 3 of FILE must have a path and a label, but has an empty path"),
        ("path,label\nvisit-1/a.jpg, \n", "line 2 of FILE must have a path and a label, but has an empty label"),
        ("path,label\nvisit-2/b, c.jpg,apple\n", "line 2 of FILE must have 2 columns like the first line, but has 3; quote"),
        ("path,label\nvisit-1/a.jpg\n", "line 2 of FILE must have 2 columns like the first line, but has 1; quote"),
        ('path,label\nvisit-1/a.jpg,"apple\n', "line 2 of FILE must have CSV, but cannot be read"),
        ("path,label,split\nvisit-1/a.jpg,apple,val\n", "line 2 of FILE must have a split out of train, .*, but has 'val'"),
        ("path,label,split\nvisit-1/a.jpg,apple,\n", "line 2 of FILE must have a split out of train, .*, but has ''"),
        ("path,label,box\nvisit-1/a.jpg,apple,1 2 3\n", "line 2 of FILE must have a box as x y width height .* but has '1 2 3'"),
        ("path,label,box\nvisit-1/a.jpg,apple,1 2 3 x\n", "but has '1 2 3 x'"),
        ("path,label,box\nvisit-1/a.jpg,apple,-1 2 3 4\n", "but has '-1 2 3 4'"),
        ("path,label,box\nvisit-1/a.jpg,apple,1 2 0 4\n", "but has '1 2 0 4'"),
        ("path,label,box\nvisit-1/a.jpg,apple,1 2 nan 4\n", "but has '1 2 nan 4'"),
        (
            "path,label\nvisit-1/a.jpg,apple\nvisit-2/d.jpg,pear\nvisit-1/a.jpg,pear\n",
            "line 4 of FILE must have each photo once, but gives visit-1/a.jpg again after line 2",
        ),
        ("path,label\nvisit-1/a.jpg,apple\nvisit-2/d.jpg,apple\n", r"FILE has photos of one class only \(apple\)"),
        ("path,label\ngone.jpg,apple\nlost.jpg,pear\n", "FILE lists 2 photos, none of them there; paths are relative"),
        ("path,label\n", "FILE lists 0 photos"),
    ],
)
def test_csv_that_is_written_wrongly_is_refused_with_its_line(shelf: Path, text: str, sentence: str) -> None:
    file = shelf / "photos.csv"
    file.write_text(text)
    with pytest.raises(HdmlError, match=sentence.replace("FILE", str(file))):
        read_manifest(file)


GOOD = '{"path": "visit-1/a.jpg", "label": "apple"}\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD + "{path}\n", "line 2 of FILE must have a JSON object in UTF-8, but cannot be read"),
        (GOOD + "[1, 2]\n", r"line 2 of FILE must have a JSON object, but has \[1, 2\]"),
        (GOOD + '{"label": "apple"}', "in line 2 there is no path, only: label"),
        (
            GOOD + '{"path": "visit-2/d.jpg", "label": 1.5}',
            "line 2 of FILE must have text or a whole number as its label, but has 1.5",
        ),
        (GOOD + '{"path": "visit-2/d.jpg", "label": true}', "line 2 of FILE must have text .* as its label, but has True"),
        (GOOD + '{"path": "visit-2/d.jpg", "label": null}', "line 2 of FILE .* has an empty label"),
        (GOOD + '{"path": "visit-2/d.jpg", "label": "x", "box": 5}', "line 2 of FILE must have a box .* but has 5"),
        (
            GOOD + '{"path": "visit-2/d.jpg", "label": "x", "split": "test"}',
            "line 2 of FILE must have a split like all others or none like all others, but has test",
        ),
    ],
)
def test_jsonl_that_is_written_wrongly_is_refused_with_its_line(shelf: Path, text: str, sentence: str) -> None:
    file = shelf / "photos.jsonl"
    file.write_text(text)
    with pytest.raises(HdmlError, match=sentence.replace("FILE", str(file))):
        read_manifest(file)


def test_parquet_that_is_written_wrongly_is_refused_with_its_row(shelf: Path) -> None:
    file = write([*ROWS[:2], {**ROWS[2], "split": "other"}], shelf / "photos.parquet")
    with pytest.raises(HdmlError, match=r"row 3 of .*photos\.parquet must have a split out of .*, but has 'other'"):
        read_manifest(file)
    with pytest.raises(HdmlError, match=r"there is no path, only: file, label"):
        read_manifest(write([{"file": "a.jpg", "label": "x"}], file))
    file.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(HdmlError, match=r"photos\.parquet must be a Parquet file, but cannot be read"):
        read_manifest(file)


@pytest.mark.parametrize("name", ["photos.csv", "photos.jsonl"])
def test_text_in_another_encoding_is_refused(shelf: Path, name: str) -> None:
    text = "path,label\nvisit-1/a.jpg,pêche\n" if name.endswith("csv") else '{"path": "visit-1/a.jpg", "label": "pêche"}\n'
    (shelf / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(HdmlError, match="UTF-8"):
        read_manifest(shelf / name)


def test_manifest_that_is_not_there_or_has_another_name_is_told(shelf: Path) -> None:
    with pytest.raises(HdmlError, match=r"there is no file .*nowhere\.csv"):
        read_manifest(shelf / "nowhere.csv")
    (shelf / "photos.txt").write_text("path,label\n")
    with pytest.raises(HdmlError, match=r"must end in \.csv, \.jsonl, \.parquet, but got .*photos\.txt"):
        read_manifest(shelf / "photos.txt")
