"""``hdml search``: its JSON, its ways to ask, and what is said when something is not as it must be."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.cli.conftest import Command
from tests.conftest import TINY

SEARCH_AND_LIST_MODULES = """
import json, sys
from cli.main import app

sys.argv = ["hdml", *sys.argv[1:]]
app(standalone_mode=False)
print(json.dumps(sorted(sys.modules)))
"""
HEAVY = {"torch", "torchvision", "pytorch_metric_learning", "gradio", "matplotlib", "fastapi", "plotly", "onnx", "rich", "hdml"}


@pytest.fixture
def query(hdml: Command, photos: Path, tiny_run: Path) -> Path:
    """A photo of the index ``photos``, which is the only one."""
    assert hdml("index", photos).code == 0
    return photos / "red-right" / "2.jpg"


def ids(answer: dict[str, Any]) -> list[int]:
    return [result["id"] for result in answer["results"]]


def test_json_holds_what_programs_rely_on(hdml: Command, query: Path) -> None:
    done = hdml("search", query, "--json")
    assert len(done.stdout.splitlines()) == 1
    answer = done.json
    assert answer.keys() == {"query", "index", "model", "elapsed_ms", "verdict", "calibration", "votes", "results"}
    assert (answer["query"], answer["index"], answer["model"]) == (str(query), "photos", TINY.fingerprint)
    assert answer["elapsed_ms"] > 0
    assert len(answer["results"]) == 10
    names = {"id", "path", "label", "attributes", "width", "height", "score", "verdict"}
    assert all(result.keys() == names for result in answer["results"])
    scores = [result["score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    first = answer["results"][0]
    assert (first["path"], first["label"]) == ("red-right/2.jpg", "red-right")
    assert first["score"] == pytest.approx(1, abs=1e-5)
    assert all(-1 <= score <= 1 + 1e-5 for score in scores)
    assert [result["label"] for result in answer["results"][:5]] == ["red-right"] * 5


def test_copies_are_shown_once_where_that_is_asked(hdml: Command, query: Path, photos: Path) -> None:
    shutil.copy(query, photos / "copy.jpg")
    hdml("index", photos)
    plain, grouped = (hdml("search", query, "-k", 3, "--json", *also).json["results"] for also in ((), ("--group",)))
    assert {plain[0]["path"], plain[1]["path"]} == {"copy.jpg", "red-right/2.jpg"}
    assert len(grouped) == 3
    assert [copy["path"] for copy in grouped[0]["copies"]] == [plain[1]["path"]]
    assert "  and 1 copy" in hdml("search", query, "--group").stdout.splitlines()[0]


def test_person_gets_score_label_and_path_and_is_told_what_answered(hdml: Command, query: Path) -> None:
    expected = hdml("search", query, "-k", 3, "--json").json["results"]
    done = hdml("search", query, "-k", 3)
    assert done.stdout.splitlines() == [f"{r['score']:.4f}  {r['label']}  {r['path']}" for r in expected]
    said = f"3 of 3 results say red-right\n3 of 20 photos in index photos, model {TINY.fingerprint}, "
    assert done.stderr.startswith(said)


def test_photo_without_a_label_has_none(hdml: Command, query: Path, photos: Path) -> None:
    shutil.copy(query, photos / "flat.jpg")
    hdml("index", photos)
    by_path = {result["path"]: result["label"] for result in hdml("search", query, "--json").json["results"]}
    assert by_path["flat.jpg"] is None
    assert "  -  flat.jpg" in hdml("search", query).stdout


def test_standard_input_finds_what_the_file_finds(hdml: Command, query: Path) -> None:
    answer = hdml("search", "-", "--json", stdin=query.read_bytes()).json
    assert answer["query"] == "-"
    assert answer["results"] == hdml("search", query, "--json").json["results"]


def test_item_finds_what_its_photo_finds_but_itself(hdml: Command, query: Path) -> None:
    first, *others = ids(hdml("search", query, "-k", 8, "--json").json)
    answer = hdml("search", "--id", first, "-k", 7, "--json").json
    assert answer["query"] == f"id {first}"
    assert ids(answer) == others


def test_minimum_score_leaves_out_the_rest(hdml: Command, query: Path) -> None:
    everything = hdml("search", query, "-k", 20, "--json").json["results"]
    least = everything[6]["score"]
    assert hdml("search", query, "-k", 20, "--min-score", least, "--json").json["results"] == everything[:7]
    none = hdml("search", query, "--min-score", 1.5, "--json")
    assert (none.code, none.json["results"]) == (0, [])
    others = hdml("search", "--id", everything[0]["id"], "-k", 20, "--min-score", least, "--json").json
    assert ids(others) == [result["id"] for result in everything[1:7]]


def test_index_updated_last_is_searched_unless_another_is_named(hdml: Command, query: Path, photos: Path) -> None:
    hdml("index", photos / "green-left")
    assert hdml("search", query, "--json").json["index"] == "green-left"
    assert hdml("search", query, "--index", "photos", "--json").json["index"] == "photos"
    hdml("index", photos)
    assert hdml("search", query, "--json").json["index"] == "photos"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_newer_run_is_mentioned_and_the_indexs_own_model_answers(
    hdml: Command, query: Path, tmp_path: Path, options: list[str]
) -> None:
    assert "newer" not in hdml("search", query, *options).stderr
    shutil.copytree(tmp_path / "workspace" / "runs" / "tiny", tmp_path / "workspace" / "runs" / "later")
    run_json = tmp_path / "workspace" / "runs" / "later" / "run.json"
    run_json.write_text(json.dumps({"finished": "2026-03-01T00:00:00+00:00"}))
    done = hdml("search", query, *options)
    assert "The run later is newer than this index's model" in done.stderr
    assert f"model {TINY.fingerprint}" in done.stderr


@pytest.mark.parametrize(("content", "reason"), [("a note", "format"), ("", "empty"), (None, "there is no such file")])
def test_unreadable_query_is_a_sentence_that_names_it(
    hdml: Command, query: Path, tmp_path: Path, content: str | None, reason: str
) -> None:
    bad = tmp_path / "bad.jpg"
    if content is not None:
        bad.write_text(content)
    for options in ([], ["--json"]):
        sentence = hdml("search", bad, *options).sentence
        assert sentence.startswith(f"{bad}: ")
        assert reason in sentence


def test_truncated_query_is_a_sentence(hdml: Command, query: Path, tmp_path: Path) -> None:
    whole = query.read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    assert "the image is damaged" in hdml("search", tmp_path / "half.jpg").sentence
    assert hdml("search", "-", stdin=b"").sentence.startswith("standard input: the file is empty")


def test_missing_index_and_unknown_item_are_sentences(hdml: Command, photos: Path, query: Path, tmp_path: Path) -> None:
    for item_id in (999, 99999999999999999999):
        assert hdml("search", "--id", item_id).sentence.endswith(f"has no item with id {item_id}")
    assert "has no index absent; it has photos" in hdml("search", query, "--index", "absent").sentence
    elsewhere = hdml("search", query, workspace=tmp_path / "elsewhere").sentence
    assert f"the workspace {tmp_path / 'elsewhere'} must hold an index" in elsewhere
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("arguments", [[], ["q.jpg", "--id", "1"]])
def test_search_takes_one_query(hdml: Command, arguments: list[str]) -> None:
    assert "takes one query" in hdml("search", *arguments).sentence


def test_cuda_asked_for_and_not_had_is_a_sentence(hdml: Command, query: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexing.device.cuda_device_count", lambda: 0)
    monkeypatch.setattr("faiss.get_num_gpus", lambda: 0)
    for arguments in ([query], ["--id", 1]):
        assert '"cuda" was asked for' in hdml("search", *arguments, "--device", "cuda").sentence


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux file systems allow such names")
def test_query_whose_name_is_not_utf8_is_answered_in_text(hdml: Command, query: Path, tmp_path: Path) -> None:
    named = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    shutil.copy(os.fsencode(query), named)
    command = [Path(sys.executable).with_name("hdml"), "search", named, "--json", "--workspace", tmp_path / "workspace"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    answer = json.loads(done.stdout.decode("utf-8"))
    assert answer["query"] == str(tmp_path / r"caf\xe9.jpg")
    assert answer["results"][0]["path"] == "red-right/2.jpg"


def test_fresh_interpreter_answers_alike_and_imports_nothing_heavy(hdml: Command, query: Path, tmp_path: Path) -> None:
    arguments = ["search", str(query), "--json", "--workspace", str(tmp_path / "workspace")]
    command = [sys.executable, "-c", SEARCH_AND_LIST_MODULES, *arguments]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=120, check=True)
    answer, modules = map(json.loads, done.stdout.splitlines())
    assert answer["results"] == hdml("search", query, "--json").json["results"]
    assert {"faiss", "onnxruntime", "indexing.search"} <= set(modules)
    assert HEAVY & set(modules) == set()


def test_filters_narrow_the_results(hdml: Command, query: Path) -> None:
    results = hdml("search", query, "-k", 30, "--label", "red-right", "--path", "*/[01].jpg", "--json").json["results"]
    assert {result["path"] for result in results} == {"red-right/0.jpg", "red-right/1.jpg"}
    assert "a date must be given as" in hdml("search", query, "--since", "lately").sentence


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_folder_of_queries_is_answered_into_one_table(
    hdml: Command, query: Path, photos: Path, tmp_path: Path, suffix: str
) -> None:
    queries = tmp_path / "queries"
    shutil.copytree(photos / "red-right", queries / "red")
    (queries / "torn.jpg").write_text("no photo")
    out = tmp_path / "tables" / f"results{suffix}"
    answer = hdml("search", queries, "--out", out, "-k", 2, "--json").json
    reason = "the file is empty or not in an image format that can be read"
    assert answer == {"out": str(out), "queries": 5, "results": 10, "failed": [{"path": "torn.jpg", "reason": reason}]}
    match suffix:
        case ".csv":
            rows = list(csv.DictReader(out.open(encoding="utf-8")))
        case ".jsonl":
            rows = [json.loads(line) for line in out.read_text().splitlines()]
        case _:
            rows = pq.read_table(out).to_pylist()
    assert [(row["query"], str(row["rank"])) for row in rows[:-1]] == [
        (f"red/{number}.jpg", rank) for number in range(5) for rank in ("1", "2")
    ]
    assert {row["label"] for row in rows[:-1]} == {"red-right"}
    assert [row["path"] for row in rows[:-1:2]] == [f"red-right/{number}.jpg" for number in range(5)]
    assert (rows[-1]["query"], rows[-1]["reason"]) == ("torn.jpg", reason)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say with --out where its results go"),
        (["--out", "results.txt"], "must be a file that ends in .csv, .jsonl, .parquet, not results.txt"),
    ],
)
def test_folder_of_queries_needs_a_table(hdml: Command, query: Path, photos: Path, arguments: list[str], said: str) -> None:
    assert said in hdml("search", photos, *arguments).sentence
    assert "--out is for a folder of query photos" in hdml("search", query, "--out", "results.csv").sentence


@pytest.fixture
def judged(hdml: Command, many_discs: Path, tiny_run: Path) -> dict[str, Any]:
    """The calibration of the index ``many-discs``, which is the only one."""
    assert hdml("index", many_discs, "--false-matches", 0.1).code == 0
    return dict(hdml("info", "--json").json["calibration"])


def test_every_result_and_the_query_have_a_verdict(hdml: Command, judged: dict[str, Any], many_discs: Path) -> None:
    answer = hdml("search", many_discs / "hue-03" / "2.jpg", "-k", 120, "--json").json
    fields = {"match": judged["match"], "unsure": judged["unsure"], "false_matches": 0.1, "basis": "labels"}
    assert answer["calibration"] == fields
    assert answer["verdict"] == answer["results"][0]["verdict"] == "match"
    for result in answer["results"]:
        expected = (
            "match" if result["score"] >= judged["match"] else "unsure" if result["score"] >= judged["unsure"] else "no match"
        )
        assert result["verdict"] == expected
    assert {result["verdict"] for result in answer["results"]} >= {"match", "no match"}


def test_person_is_told_the_verdict_and_the_numbers_behind_it(
    hdml: Command, judged: dict[str, Any], many_discs: Path, tmp_path: Path
) -> None:
    done = hdml("search", many_discs / "hue-03" / "2.jpg", "-k", 2)
    numbers = f"match from {judged['match']:.4f}, no match below {judged['unsure']:.4f} (0.1 of false matches, from labels)"
    assert done.stderr.splitlines()[0] == f"match: 1.0000 at best; {numbers}"
    assert done.stdout.startswith("1.0000  match     hue-03  hue-03/2.jpg\n")
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "blue.png")
    assert hdml("search", tmp_path / "blue.png").stderr.startswith("no match: ")
    nothing = hdml("search", many_discs / "hue-03" / "2.jpg", "--label", "absent")
    assert nothing.stderr.startswith("no match: no photo to compare with; ")


def test_least_score_of_auto_leaves_out_what_is_no_match_for_sure(
    hdml: Command, judged: dict[str, Any], many_discs: Path, tmp_path: Path
) -> None:
    query = many_discs / "hue-03" / "2.jpg"
    everything = hdml("search", query, "-k", 120, "--json").json["results"]
    found = hdml("search", query, "-k", 120, "--min-score", "auto", "--json").json["results"]
    assert found == [result for result in everything if result["score"] >= judged["match"]]
    assert found != everything
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "blue.png")
    answer = hdml("search", tmp_path / "blue.png", "--min-score", "auto", "--json").json
    assert (answer["verdict"], answer["results"]) == ("no match", [])


def test_index_that_is_not_calibrated_has_no_verdicts_and_says_why(hdml: Command, query: Path) -> None:
    answer = hdml("search", query, "--json").json
    assert (answer["verdict"], answer["calibration"], answer["results"][0]["verdict"]) == (None, None, None)
    sentence = hdml("search", query, "--min-score", "auto").sentence
    reason = "20 photos are too few to tell what a score means; it takes 100"
    assert sentence == f"a least score of auto needs a calibrated index, but photos is not: {reason}; give a number"
    assert hdml("search", query, "--min-score", "high").code == 2


def test_table_of_many_queries_has_their_verdicts(
    hdml: Command, judged: dict[str, Any], many_discs: Path, tmp_path: Path
) -> None:
    queries = tmp_path / "queries"
    shutil.copytree(many_discs / "hue-03", queries)
    Image.new("RGB", (64, 64), "blue").save(queries / "blue.png")
    out = tmp_path / "results.csv"
    hdml("search", queries, "--out", out, "-k", 3, "--min-score", "auto")
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert {row["verdict"] for row in rows if row["rank"]} == {"match"}
    (blue,) = (row for row in rows if row["query"] == "blue.png")
    assert (blue["rank"], blue["verdict"], blue["reason"]) == ("", "no match", "")


def test_examples_and_a_crop_change_what_is_found(hdml: Command, query: Path, photos: Path) -> None:
    by_path = {found["path"]: found["id"] for found in hdml("search", query, "-k", 30, "--json").json["results"]}
    more, less = by_path["red-right/1.jpg"], by_path["blue-left/2.jpg"]
    moved = hdml("search", query, "--more", more, "--less", less, "-k", 30, "--json").json
    assert moved["weights"] == {"query": 1, "more": 0.75, "less": 0.15}
    assert {found["id"] for found in moved["results"]} == set(by_path.values()) - {more, less}
    alone = hdml("search", "--more", more, "-k", 4, "--json").json
    assert (alone["query"], {found["label"] for found in alone["results"]}) == ("examples", {"red-right"})
    assert alone["results"] == hdml("search", "--id", more, "-k", 4, "--json").json["results"]
    assert "weights" not in hdml("search", "--id", more, "--json").json
    cropped = hdml("search", query, "--crop", "0,0,0.5,1", "-k", 30, "--json").json["results"]
    assert cropped[0]["score"] < 1 - 1e-4
    assert "left,top,right,bottom" in hdml("search", query, "--crop", "0,0,2,1").stderr
    assert "are for one query" in hdml("search", photos, "--more", more, "--out", "results.csv").stderr
