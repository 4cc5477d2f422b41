"""Vectors from and to other tools: what is taken in and what is not, that models never mix, and that what goes out comes back."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from indexing.catalogue import CATALOGUE, Catalogue
from indexing.errors import HdmlError
from indexing.exchange import ImportReport, import_table
from indexing.exporting import export_npy, export_parquet
from indexing.indexer import update_index
from indexing.kinds import Plan
from indexing.search import OpenIndex
from indexing.upkeep import Forgotten, collect_garbage, verify_index
from indexing.vector_tables import open_npy, open_parquet
from tests.conftest import TINY, write_tiny_encoder

DIMENSION = TINY.dimension


def vectors(count: int, *, seed: int = 0, dimension: int = DIMENSION) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def write_parquet(file: Path, embeddings: Any, **columns: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(embeddings, pa.Array):
        embeddings = pa.array(list(embeddings))
    parquet.write_table(pa.table({"embedding": embeddings, **columns}), file)
    return file


def take(file: Path, index_dir: Path, *, gallery: Path | None = None, **options: Any) -> ImportReport:
    return import_table(open_parquet(file), gallery or file.parent, index_dir, **options)


def contents(index_dir: Path) -> dict[str, tuple[Any, ...]]:
    with Catalogue(index_dir) as catalogue:
        return {item.path: (item.id, item.label, item.attributes, item.norm, item.vector.tobytes()) for item in catalogue.items()}


def test_vectors_are_found_by_their_items_with_labels_attributes_and_norms(tmp_path: Path) -> None:
    given = vectors(30)
    file = write_parquet(
        tmp_path / "cats.parquet",
        given.astype(np.float64),
        image_path=[f"photos/{number}.jpg" for number in range(30)],
        label=["tabby", None] * 15,
        price=[1.5, None, 2] * 10,
        stock=list(range(30)),
        sold=[True, False] * 15,
        tags=[["a"]] * 30,
    )
    report = take(file, tmp_path / "index")
    assert (report.added, report.failed, report.items, report.model) == (30, [], 30, "imported-cats")
    units = given / np.linalg.norm(given, axis=1, keepdims=True)
    with OpenIndex(tmp_path / "index", device="cpu") as opened:
        assert opened.gallery == tmp_path.resolve()
        item = opened.item(2)
        assert (item.path, item.label, item.width) == ("photos/1.jpg", None, None)
        assert item.attributes == {"stock": "1", "sold": "false"}
        assert item.norm == pytest.approx(np.linalg.norm(given[1]))
        expected = np.argsort(-(units @ units[1]))[1:6] + 1
        assert [result.id for result in opened.search_item(2, k=5)] == expected.tolist()
        assert [result.id for result in opened.search_vector(100 * given[1], k=1)] == [2]
        assert opened.search_item(2, k=1)[0].attributes.keys() <= {"stock", "sold", "price"}


@pytest.mark.parametrize(
    "embeddings",
    [
        pa.FixedSizeListArray.from_arrays(pa.array(vectors(5).ravel()), DIMENSION),
        pa.array(vectors(5).tolist(), pa.large_list(pa.float64())),
        pa.array(list(vectors(5).astype(np.float16)), pa.list_(pa.float16())),
    ],
    ids=["fixed", "large", "half"],
)
def test_lists_of_every_kind_are_taken(tmp_path: Path, embeddings: pa.Array) -> None:
    take(write_parquet(tmp_path / "any.parquet", embeddings), tmp_path / "index")
    stored = contents(tmp_path / "index")
    assert list(stored) == [f"any.parquet:row {number}" for number in range(1, 6)]
    expected = vectors(5) / np.linalg.norm(vectors(5), axis=1, keepdims=True)
    found = np.stack([np.frombuffer(row[-1], np.float32) for row in stored.values()])
    np.testing.assert_allclose(found, expected, atol=2e-3 if embeddings.type.value_type == pa.float16() else 1e-7)


def test_clip_retrievals_layout_is_taken_row_by_row(tmp_path: Path) -> None:
    """Two files, of more rows than are read at once, and a tenth that must not come before the second."""
    counts, everything = {0: 5000, 2: 7, 10: 3}, vectors(5010)
    start = 0
    for number, count in counts.items():
        for name in ("img_emb", "metadata"):
            (tmp_path / name).mkdir(exist_ok=True)
        np.save(tmp_path / "img_emb" / f"img_emb_{number}.npy", everything[start : start + count].astype(np.float16))
        paths = [str(tmp_path / f"{row:05}.jpg") for row in range(start, start + count)]
        table = pa.table({"image_path": paths, "caption": [f"row {row}" for row in range(start, start + count)]})
        parquet.write_table(table, tmp_path / "metadata" / f"metadata_{number}.parquet", row_group_size=999)
        start += count
    report = import_table(open_npy(tmp_path), tmp_path, tmp_path / "index", model="ViT-B/32")
    assert (report.added, report.failed, report.model) == (5010, [], "imported-ViT-B/32")
    stored = contents(tmp_path / "index")
    assert list(stored) == [f"{row:05}.jpg" for row in range(5010)]
    expected = everything.astype(np.float16).astype(np.float32)
    for row in (0, 4999, 5000, 5009):
        _, _, attributes, norm, vector = stored[f"{row:05}.jpg"]
        assert attributes == {"caption": f"row {row}"}
        assert norm == pytest.approx(np.linalg.norm(expected[row]))
        np.testing.assert_allclose(np.frombuffer(vector, np.float32) * norm, expected[row], rtol=1e-5)


def test_rows_that_cannot_be_taken_are_listed_and_stop_nothing(tmp_path: Path) -> None:
    rows: list[Any] = [*vectors(10)]
    rows[1] = np.zeros(DIMENSION, np.float32)
    rows[2] = np.full(DIMENSION, np.nan, np.float32)
    rows[3] = np.array([np.inf, *rows[3][1:]], np.float32)
    rows[4] = rows[4][:7]
    rows[5] = None
    paths = [f"{number}.jpg" for number in range(7)] + ["0.jpg", "../outside.jpg", "0.jpg"]
    report = take(write_parquet(tmp_path / "table.parquet", pa.array(rows), path=paths), tmp_path / "index")
    assert report.added == report.items == 2
    assert set(contents(tmp_path / "index")) == {"0.jpg", "6.jpg"}
    assert len(report.failed) == len(rows) - report.added
    assert {failure.path: failure.reason for failure in report.failed} == {
        "1.jpg": "its vector is zero",
        "2.jpg": "its vector has numbers that are not finite",
        "3.jpg": "its vector has numbers that are not finite",
        "4.jpg": f"its vector has 7 numbers, not {DIMENSION}",
        "5.jpg": "it has no vector",
        "0.jpg": "the table has it before; the first row counts",
        "../outside.jpg": f"it is not below {tmp_path.resolve()}; give the folder that the paths are relative to",
    }
    np.testing.assert_allclose(
        np.frombuffer(contents(tmp_path / "index")["0.jpg"][-1], np.float32), rows[0] / np.linalg.norm(rows[0]), rtol=1e-6
    )


def test_a_table_without_a_usable_row_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "zero.parquet", np.zeros((3, DIMENSION), np.float32))
    with pytest.raises(HdmlError, match=r"none of its 3 can, the first because its vector is zero"):
        take(file, tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_a_second_time_changes_nothing_and_another_table_what_it_says(tmp_path: Path) -> None:
    count, index_dir = 5000, tmp_path / "index"  # more than a batch
    paths = [f"{number}.jpg" for number in range(count)]
    file = write_parquet(tmp_path / "table.parquet", vectors(count), path=paths, label=["a"] * count)
    take(file, index_dir)
    before, sequence = contents(index_dir), Catalogue(index_dir).sequence()
    report = take(file, index_dir)
    assert (report.added, report.updated, report.unchanged, report.relabelled) == (0, 0, count, 0)
    assert (contents(index_dir), Catalogue(index_dir).sequence()) == (before, sequence)
    changed = vectors(count)
    changed[7] *= -1
    file = write_parquet(
        file, np.concatenate([changed, vectors(1, seed=1)]), path=[*paths, "new.jpg"], label=["b", *["a"] * count]
    )
    report = take(file, index_dir)
    assert (report.added, report.updated, report.unchanged, report.relabelled) == (1, 1, count - 1, 1)
    after = contents(index_dir)
    assert {path for path in before if after[path] != before[path]} == {"0.jpg", "7.jpg"}
    assert (after["7.jpg"][0], after["0.jpg"][1]) == (before["7.jpg"][0], "b")
    assert Catalogue(index_dir).sequence() == sequence + 2  # of the first batch, and of the last
    with OpenIndex(index_dir, device="cpu") as opened:
        assert opened.search_vector(changed[7], k=1)[0].path == "7.jpg"


def test_what_a_kill_leaves_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, index_dir = 9000, tmp_path / "index"
    file = write_parquet(tmp_path / "table.parquet", vectors(count), path=[f"{number}.jpg" for number in range(count)])
    take_in, stored = Catalogue.take_in, 0

    def killed(self: Catalogue, rows: Any) -> Any:
        nonlocal stored
        if stored:
            raise KeyboardInterrupt
        stored = (taken := take_in(self, rows)).added
        return taken

    monkeypatch.setattr(Catalogue, "take_in", killed)
    with pytest.raises(KeyboardInterrupt):
        take(file, index_dir)
    monkeypatch.undo()
    assert 0 < len(contents(index_dir)) == stored < count
    report = take(file, index_dir)
    assert (report.added, report.unchanged, report.items) == (count - stored, stored, count)


def test_models_never_mix(tmp_path: Path) -> None:
    write_tiny_encoder(tmp_path / "encoder.onnx", TINY, seed=0)
    named, other = (write_parquet(tmp_path / f"{name}.parquet", vectors(3)) for name in ("named", "other"))
    take(named, tmp_path / "index")
    with pytest.raises(HdmlError, match=r"has vectors of the model imported-named, but .* is of imported-other; .*--model named"):
        take(other, tmp_path / "index")
    assert take(other, tmp_path / "index", model="named").added == 3
    with pytest.raises(HdmlError, match=rf"imported-named, but .* is of {TINY.fingerprint}"):
        take(other, tmp_path / "index", encoder=tmp_path / "encoder.onnx")
    narrow = write_parquet(tmp_path / "narrow.parquet", vectors(3, dimension=8))
    with pytest.raises(HdmlError, match=rf"must have vectors of {DIMENSION} numbers, as the index .* has, but has of 8"):
        take(narrow, tmp_path / "index", model="named")
    with pytest.raises(HdmlError, match=rf"must have vectors of {DIMENSION} numbers, as the encoder {TINY.fingerprint} has"):
        take(narrow, tmp_path / "new", encoder=tmp_path / "encoder.onnx")
    report = take(named, tmp_path / "bound", encoder=tmp_path / "encoder.onnx")
    assert report.model == TINY.fingerprint
    with pytest.raises(HdmlError, match=rf"has vectors of the model {TINY.fingerprint}, .*say so with --encoder"):
        take(other, tmp_path / "bound")


def test_an_index_without_encoder_says_so_and_does_all_else(tmp_path: Path, photos: Path) -> None:
    index_dir, photo = tmp_path / "index", photos / "red-right" / "0.jpg"
    table = open_parquet(write_parquet(photos / "table.parquet", vectors(200), path=[f"{row}.jpg" for row in range(200)]))
    import_table(table, photos, index_dir, plan=Plan("ivf", 0.9))
    with OpenIndex(index_dir, device="cpu") as opened, pytest.raises(HdmlError, match="imported vectors and no encoder"):
        opened.search_photo(photo)
    with pytest.raises(HdmlError, match="model table and no encoder, so that photos cannot be embedded"):
        update_index(photos, index_dir, index_dir / "encoder.onnx")
    found = verify_index(index_dir)
    assert (found.items, found.faults, found.mended, found.behind) == (200, [], [], [])
    assert collect_garbage(index_dir) == Forgotten(0, [])
    assert len(contents(index_dir)) == 200


def test_photos_that_the_index_has_embedded_keep_their_vectors(tmp_path: Path, photos: Path) -> None:
    write_tiny_encoder(tmp_path / "encoder.onnx", TINY, seed=0)
    index_dir = tmp_path / "index"
    update_index(photos, index_dir, tmp_path / "encoder.onnx", device="cpu")
    before = contents(index_dir)
    paths = ["red-right/0.jpg", "absent.jpg"]
    table = write_parquet(tmp_path / "table.parquet", vectors(2), path=paths)
    report = take(table, index_dir, gallery=photos, encoder=tmp_path / "encoder.onnx")
    assert (report.added, report.kept, report.items) == (1, 1, 21)
    assert {path: row for path, row in contents(index_dir).items() if path != "absent.jpg"} == before
    update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    assert contents(index_dir).keys() == before.keys() | {"absent.jpg"}
    (photos / "red-right" / "0.jpg").rename(photos / "absent.jpg")
    update_index(photos, index_dir, index_dir / "encoder.onnx", device="cpu")
    assert contents(index_dir)["absent.jpg"][-1] == before["red-right/0.jpg"][-1]


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """An index whose attributes have names that its tables have for themselves."""
    columns = {
        "id": ["x", "y", None],
        "vector": ["1", "2", "3"],
        "attribute.norm": ["7", None, "8"],
        "colour": ["red", "", "blue"],
    }
    file = write_parquet(
        tmp_path / "from" / "t.parquet", vectors(3), path=["a.jpg", "b/c.jpg", "d.jpg"], label=["x", None, "y"], **columns
    )
    take(file, tmp_path / "index")
    assert contents(tmp_path / "index")["a.jpg"][2] == {"attribute.norm": "7", "colour": "red", "id": "x", "vector": "1"}
    return tmp_path / "index"


def test_what_goes_out_as_parquet_comes_back_the_same(described: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "t.parquet"
    assert export_parquet(described, out) == 3
    table = parquet.read_table(out)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), DIMENSION)
    assert table.column("image_path").to_pylist() == ["a.jpg", "b/c.jpg", "d.jpg"]
    assert table.column("attribute.id").to_pylist() == ["x", "y", None]
    assert table.schema.metadata[b"hdml.model"] == b"imported-t"
    assert list(out.parent.iterdir()) == [out]
    report = take(out, tmp_path / "again")
    assert (report.added, report.model) == (3, "imported-t")
    assert contents(tmp_path / "again") == contents(described)
    assert take(out, described, gallery=tmp_path / "from").unchanged == 3


def test_what_goes_out_in_clip_retrievals_layout_comes_back_the_same(
    described: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexing.exporting._ROWS_A_FILE", 2)
    assert export_npy(described, tmp_path / "out") == 3
    assert sorted(path.name for path in (tmp_path / "out").rglob("*_?.*")) == [
        *("img_emb_0.npy", "img_emb_1.npy", "metadata_0.parquet", "metadata_1.parquet")
    ]
    import_table(open_npy(tmp_path / "out"), tmp_path / "out", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(described)
    with pytest.raises(HdmlError, match="must be new, but it exists"):
        export_npy(described, tmp_path / "out")


def test_an_export_that_is_interrupted_leaves_the_old_file(described: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    out.write_bytes(b"old")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_parquet(described, out, progress=stop)
    assert out.read_bytes() == b"old"
    assert not out.with_name("out.parquet.part").exists()


def broken_tables(folder: Path) -> dict[str, Any]:
    """Tables that cannot be opened, by a word of the sentence about each."""
    (folder / "text.parquet").write_text("no table")
    (folder / "text.npy").write_text("no array")
    np.save(folder / "flat.npy", np.zeros(4, np.float32))
    np.save(folder / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    np.save(folder / "whole.npy", np.zeros((4, 4), np.int64))
    np.save(folder / "two.npy", np.ones((2, 4), np.float32))
    parquet.write_table(pa.table({"image_path": ["a", "b", "c"]}), folder / "three.parquet")
    parquet.write_table(pa.table({"embedding": ["a"]}), folder / "words.parquet")
    parquet.write_table(pa.table({"embedding": pa.array([None], pa.list_(pa.float32()))}), folder / "none.parquet")
    return {
        "must be a Parquet file, but cannot be read": lambda: open_parquet(folder / "text.parquet"),
        "must be a .npy file of float16 or float32, but cannot be read": lambda: open_npy(folder / "text.npy"),
        r"must hold an array \[n, D\] .* but holds float32 \[4\]": lambda: open_npy(folder / "flat.npy"),
        "cannot be read .*Python objects": lambda: open_npy(folder / "objects.npy"),
        "but holds int64": lambda: open_npy(folder / "whole.npy"),
        "must have as many rows, but have 2 and 3": lambda: open_npy(folder / "two.npy", folder / "three.parquet"),
        r"lists of float, but has: embedding \(string\)": lambda: open_parquet(folder / "words.parquet"),
        "none of its rows has one": lambda: open_parquet(folder / "none.parquet"),
        "there must be a .parquet file at": lambda: open_parquet(folder / "absent.parquet"),
    }


def test_what_is_no_table_of_vectors_is_told(tmp_path: Path) -> None:
    for sentence, opening in broken_tables(tmp_path).items():
        with pytest.raises(HdmlError, match=sentence):
            opening()


def test_no_more_than_some_thousand_rows_are_stored_at_once(tmp_path: Path) -> None:
    count = 9000
    file = write_parquet(tmp_path / "table.parquet", vectors(count), path=[f"{number}.jpg" for number in range(count)])
    take(file, tmp_path / "index")
    with sqlite3.connect(tmp_path / "index" / CATALOGUE) as connection:
        sizes = [size for (size,) in connection.execute("SELECT COUNT(*) FROM items GROUP BY changed ORDER BY changed")]
    assert sum(sizes) == count
    assert len(sizes) > 1
    assert max(sizes) < count / 2


@pytest.mark.skipif(os.name == "nt", reason="a path that begins with a slash is not absolute there")
def test_absolute_paths_are_kept_relative_to_the_gallery(tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    paths = [str(gallery / "a" / "1.jpg"), "./b//2.jpg", "/elsewhere/3.jpg"]
    report = take(write_parquet(tmp_path / "t.parquet", vectors(3), image_path=paths), tmp_path / "index", gallery=gallery)
    assert set(contents(tmp_path / "index")) == {"a/1.jpg", "b/2.jpg"}
    assert [failure.path for failure in report.failed] == ["/elsewhere/3.jpg"]


def test_globs_leave_out_rows_of_tables_as_they_do_photos(photos: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    index_dir, paths = tmp_path / "index", ["absent/1.jpg", "absent/2.jpg", "other.jpg"]
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    table = write_parquet(tmp_path / "table.parquet", vectors(3), image_path=paths)
    take(table, index_dir, gallery=photos, encoder=tiny_encoder, false_matches=0.2)
    with Catalogue(index_dir) as catalogue:
        assert catalogue.false_matches() == 0.2
    before = contents(index_dir)
    report = update_index(photos, index_dir, device="cpu", remove=["absent/*", "blue-left/*"])
    assert (report.removed, report.items) == (7, 16)
    assert contents(index_dir) == {path: item for path, item in before.items() if not path.startswith(("absent/", "blue-left/"))}
    assert take(table, index_dir, gallery=photos, encoder=tiny_encoder).left_out == 2
    back = take(table, index_dir, gallery=photos, encoder=tiny_encoder, restore=["absent/*"])
    assert (back.added, back.unchanged, back.left_out, back.items) == (2, 1, 0, 18)
