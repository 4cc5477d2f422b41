"""``hdml index`` with tables of vectors: what it takes and writes, and what is said when something cannot be."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from indexing.catalogue import Catalogue
from tests.cli.conftest import Command
from tests.conftest import TINY

DIMENSION = TINY.dimension
VECTORS = np.random.default_rng(0).standard_normal((40, DIMENSION)).astype(np.float32)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A folder with a table of forty vectors, one of which is zero."""
    (tmp_path / "shop").mkdir()
    vectors = VECTORS.copy()
    vectors[3] = 0
    columns = {"image_path": [f"{row}.jpg" for row in range(40)], "colour": ["red", "blue"] * 20}
    parquet.write_table(pa.table({"embedding": list(vectors), **columns}), tmp_path / "shop" / "vectors.parquet")
    return tmp_path / "shop" / "vectors.parquet"


def test_a_table_becomes_an_index_that_its_items_search(hdml: Command, table: Path) -> None:
    answer = hdml("index", "--from-parquet", table, "--json").json
    assert answer == {
        **{"index": "shop", "model": "imported-vectors", "added": 39, "updated": 0, "unchanged": 0, "relabelled": 0, "kept": 0},
        **{"removed": 0, "left_out": 0, "failed": [{"path": "3.jpg", "reason": "its vector is zero"}], "items": 39},
    }
    nearest = hdml("search", "--id", 1, "-k", 3, "--attribute", "colour=blue", "--json").json["results"]
    units = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    blue = [row for row in range(1, 40, 2) if row != 3]
    expected = sorted(blue, key=lambda row: -units[row] @ units[0])[:3]
    assert [result["path"] for result in nearest] == [f"{row}.jpg" for row in expected]
    info = hdml("info", "--json").json
    assert (info["items"], info["model"], info["dim"]) == (39, "imported-vectors", DIMENSION)
    told = hdml("index", "--from-parquet", table).stdout
    assert "Left out: 3.jpg: its vector is zero" in told
    assert "0 added, 0 updated, 39 unchanged, 0 removed, 1 failed" in told


def test_an_index_without_encoder_declines_photos_in_one_sentence(hdml: Command, table: Path, photos: Path) -> None:
    hdml("index", photos, "--from-parquet", table, "--model", "clip")
    assert "imported vectors and no encoder" in hdml("search", photos / "red-right" / "0.jpg").sentence
    queries = hdml("search", photos / "red-right", "--out", table.with_name("out.csv"))
    assert "imported vectors and no encoder" in queries.sentence
    assert "vectors of the model clip and no encoder" in hdml("index", photos).sentence
    assert hdml("index", photos, "--verify").code == 0
    assert hdml("gc").code == 0
    assert "imported-vectors" in hdml("index", photos, "--from-parquet", table).sentence


def test_vectors_of_an_encoder_are_searched_by_photos(hdml: Command, workspace: Path, tmp_path: Path, photos: Path) -> None:
    hdml("index", photos, workspace=workspace)
    out = tmp_path / "out.parquet"
    written = hdml("index", photos, "--export-parquet", out, "--json", workspace=workspace).json
    assert written == {"index": "photos", "items": 20, "written": [str(out)]}
    other = tmp_path / "other"
    other.mkdir()
    run = next((workspace / "runs").iterdir()).name
    report = hdml("index", other, "--from-parquet", out, "--encoder", run, "--json", workspace=workspace).json
    assert (report["added"], report["model"]) == (20, TINY.fingerprint)
    for index in ("photos", "other"):
        found = hdml("search", photos / "red-right" / "0.jpg", "--index", index, "-k", 1, "--json", workspace=workspace).json
        assert found["results"][0]["path"] == "red-right/0.jpg"


def test_rows_are_left_out_and_taken_back_by_globs(hdml: Command, table: Path) -> None:
    hdml("index", "--from-parquet", table)
    left = hdml("index", "--from-parquet", table, "--remove", "1?.jpg", "--false-matches", 0.2, "--json").json
    assert (left["unchanged"], left["removed"], left["left_out"], left["items"]) == (29, 10, 10, 29)
    assert "10 rows are left out" in hdml("index", "--from-parquet", table).stdout
    back = hdml("index", "--from-parquet", table, "--restore", "1?.jpg", "--json").json
    assert (back["unchanged"], back["added"], back["left_out"], back["items"]) == (29, 10, 0, 39)
    assert "above 0 and at most 0.5, not 0.7" in hdml("index", "--from-parquet", table, "--false-matches", 0.7).sentence


def test_clip_retrievals_layout_goes_round(hdml: Command, table: Path, tmp_path: Path) -> None:
    hdml("index", "--from-parquet", table)
    assert hdml("index", "--export-npy", tmp_path / "clip").code == 0
    answer = hdml("index", "--from-npy", tmp_path / "clip", "--json", workspace=tmp_path / "second").json
    assert (answer["added"], answer["model"]) == (39, "imported-vectors")
    indexes = [tmp_path / "workspace" / "indexes" / "shop", tmp_path / "second" / "indexes" / "clip"]
    first, second = ([(item.path, item.vector.tobytes()) for item in Catalogue(path).items()] for path in indexes)
    assert first == second


def test_options_that_do_not_belong_together_are_told(hdml: Command, table: Path) -> None:
    for options, word in {
        ("--from-parquet", table, "--from-npy", table): "one table",
        ("--from-parquet", table, "--metadata", table): "--from-npy",
        ("--from-parquet", table, "--encoder", "run", "--model", "clip"): "--encoder",
        (table.parent, "--model", "clip"): "--from-parquet",
    }.items():
        done = hdml("index", *options)
        assert done.code == 2
        assert word in done.stderr
