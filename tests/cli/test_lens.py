"""``hdml hardness``: by itself, of a run, as JSON, and the sentence where there is nothing to look at."""

import json
import shutil
from pathlib import Path

from indexing.indexer import update_index
from indexing.workspace import Workspace
from tests.conftest import run_hdml


def test_hardness_writes_its_files_by_itself_and_of_a_run(photos: Path, tiny_run: Path, tmp_path: Path) -> None:
    place = Workspace(tmp_path / "workspace")
    update_index(photos, place.index_for_gallery(photos), tiny_run / "encoder.onnx", device="cpu")
    done = run_hdml("hardness", "--workspace", place.root)
    assert done.returncode == 0, done.stderr
    written = place.root / "hardness" / "photos"
    assert {path.name for path in written.iterdir()} == {"hardness.html", "hardness.json", "ruler.svg", "ruler.pdf", "ruler.png"}
    report = json.loads((written / "hardness.json").read_text())
    assert f"of {report['survey']['means']['tuples']} synthetics" in done.stderr + done.stdout

    done = run_hdml(
        "hardness", "tiny", "--out", tmp_path / "out", "--anchor", 3, "--map", "tsne", "--workspace", place.root, "--json"
    )
    answer = json.loads(done.stdout)
    assert (answer["index"], answer["anchors"], answer["lambda"]) == ("photos", [3], 0.5)
    assert answer["means"] == report["survey"]["means"]
    assert all(Path(file).is_file() for file in answer["written"])
    other = json.loads((tmp_path / "out" / "hardness.json").read_text())
    assert [(each["map"]["kind"], each["looks"][0]["map"]) for each in (report, other)] == [("pca", "pca"), ("tsne", "tsne")]

    shutil.rmtree(place.find_index())
    done = run_hdml("hardness", "tiny", "--workspace", place.root)
    assert done.returncode == 1
    assert "made with the run tiny, but there is none; make one: hdml index FOLDER --encoder tiny" in done.stderr
