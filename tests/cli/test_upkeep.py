"""``hdml list``, ``rm`` and ``gc``, and what ``hdml index`` removes, restores and verifies."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Command


@pytest.fixture
def indexed(hdml: Command, photos: Path, workspace: Path) -> Path:
    assert hdml("index", photos).code == 0
    return workspace / "indexes" / "photos"


@pytest.mark.usefixtures("indexed")
def test_a_packed_index_is_searched_by_its_file(hdml: Command, photos: Path, tmp_path: Path) -> None:
    query = tmp_path / "query.jpg"
    query.write_bytes((photos / "red-right" / "0.jpg").read_bytes())
    expected = hdml("search", query, "--json").json["results"]
    packed = hdml("pack", "--out", tmp_path / "photos.hdml", "--json").json
    assert (packed["file"], packed["items"], packed["failed"]) == (str(tmp_path / "photos.hdml"), 20, [])
    shutil.rmtree(photos)
    elsewhere = ("--workspace", tmp_path / "elsewhere")
    assert hdml("search", query, "--index", packed["file"], "--json", *elsewhere).json["results"] == expected
    assert hdml("info", packed["file"], "--json", *elsewhere).json["items"] == 20
    assert "must be a bundle, but is damaged or none" in hdml("search", query, "--index", query, *elsewhere).sentence


def test_list_names_indexes_and_runs(hdml: Command, indexed: Path, photos: Path) -> None:
    answer = hdml("list", "--json").json
    (index,), (run,) = answer["indexes"], answer["runs"]
    assert (index["name"], index["items"], index["gallery"]) == ("photos", 20, str(photos))
    assert run["name"] == "tiny"
    told = hdml("list").stdout
    assert "photos" in told
    assert "tiny" in told


def test_list_of_an_empty_workspace_says_so(hdml: Command, tmp_path: Path) -> None:
    told = hdml("list", workspace=tmp_path / "none").stdout
    assert "There is no index" in told
    assert "There is no run" in told


def test_rm_asks_first(hdml: Command, indexed: Path) -> None:
    declined = hdml("rm", "photos", stdin=b"n\n")
    assert declined.code != 0
    assert indexed.exists()
    assert hdml("rm", "photos", "--yes", "--json").json == {"index": "photos", "items": 20}
    assert not indexed.exists()
    assert "but has no index photos nor any other" in hdml("rm", "photos", "--yes").sentence


def test_gc_counts_what_it_forgets(hdml: Command, indexed: Path, photos: Path) -> None:
    (photos / "red-right" / "0.jpg").unlink()
    hdml("index", photos)
    assert hdml("gc", "--json").json == {"forgotten": {"photos": 1}, "models": {"photos": []}}
    assert "0 photos that are gone were forgotten" in hdml("gc", "photos").stdout


def test_index_removes_and_restores_by_globs(hdml: Command, indexed: Path, photos: Path) -> None:
    assert hdml("index", photos, "--remove", "red-*", "--remove", "*/4.jpg", "--json").json["removed"] == 8
    assert hdml("index", photos, "--restore", "red-*", "--json").json["added"] == 4
    assert "only what was removed can be restored" in hdml("index", photos, "--restore", "blue-*").sentence


def test_index_verifies_the_newest_index_or_a_folders(hdml: Command, indexed: Path, photos: Path) -> None:
    expected = {"index": "photos", "items": 20, "faults": [], "mended": [], "behind": []}
    assert hdml("index", "--verify", "--json").json == expected
    assert hdml("index", photos, "--verify", "--json").json == expected
    (indexed / "index.20.faiss").write_bytes(b"torn")
    assert "Mended: the base 20 is damaged" in hdml("index", "--verify").stdout
    (indexed / "encoder.onnx").unlink()
    done = hdml("index", "--verify", "--json")
    assert done.code == 1
    assert len(done.json["faults"]) == 1
    assert "has faults" in done.stderr


def test_info_tells_the_kind_and_what_was_measured(hdml: Command, indexed: Path, photos: Path) -> None:
    answer = hdml("info", "--json").json
    wanted = {"items", "dim", "kind", "overlap_at_10", "p50_ms", "p95_ms", "bytes_per_vector", "build_s", "generation", "model"}
    assert wanted <= answer.keys()
    assert (answer["items"], answer["kind"], answer["overlap_at_10"], answer["generation"]) == (20, "exact", 1.0, 20)
    told = hdml("info", "photos").stdout
    assert "20 of" in told
    assert "exact" in told


def test_index_takes_a_kind_and_keeps_to_it(hdml: Command, indexed: Path, photos: Path) -> None:
    for number in range(100):
        shutil.copy(photos / "red-right" / "0.jpg", photos / f"{number}.jpg")
    hdml("index", photos, "--kind", "ivf", "--target-overlap", 0.9, "--memory", "1GB")
    answer = hdml("info", "--json").json
    assert (answer["kind"], answer["target"]) == ("ivf", 0.9)
    for number in range(10):
        (photos / f"{number}.jpg").unlink()
    hdml("index", photos)
    assert hdml("info", "--json").json["kind"] == "ivf"
    assert hdml("index", photos, "--verify", "--json").json["mended"] == []
    (found,) = hdml("search", photos / "red-right" / "2.jpg", "-k", 1, "--json").json["results"]
    assert found["path"] == "red-right/2.jpg"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kind", "tree"], "--kind must be one of exact, ivf, hnsw, not tree"),
        (["--memory", "much"], "--memory must be a size such as 500MB or 2GB, not much"),
    ],
)
def test_plan_that_cannot_be_is_a_sentence(hdml: Command, indexed: Path, photos: Path, arguments: list[str], said: str) -> None:
    assert said in hdml("index", photos, *arguments).sentence
    assert hdml("info", "--json").json["kind"] == "exact"


def test_index_without_a_folder_is_wrong_usage(hdml: Command, indexed: Path) -> None:
    done = hdml("index")
    assert done.code == 2
    assert "a folder of photos is needed" in done.stderr


def test_info_tells_what_scores_mean_and_draws_it(hdml: Command, indexed: Path, many_discs: Path, tmp_path: Path) -> None:
    assert hdml("info", "--json").json["calibration"]["basis"] is None
    assert "not calibrated: 20 photos are too few" in " ".join(hdml("info").stdout.replace("│", " ").split())
    hdml("index", many_discs, "--false-matches", 0.05)
    answer = hdml("info", "--json", "--report", tmp_path / "page.html").json["calibration"]
    assert (answer["basis"], answer["asked"], answer["check"]["queries"], answer["check"]["labels"]) == ("labels", 0.05, 120, 12)
    told = " ".join(hdml("info").stdout.replace("│", " ").split())
    assert f"match from {answer['match']:.4f}, no match below {answer['unsure']:.4f}, by labels" in told
    assert "5.00% asked" in told
    assert f"match from {answer['match']:.4f}" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "needs a calibrated index, but photos is not" in hdml("info", "photos", "--report", tmp_path / "none.html").sentence


def test_share_of_false_matches_is_kept_until_another_is_asked(hdml: Command, workspace: Path, many_discs: Path) -> None:
    def asked(*options: object) -> tuple[float, float]:
        hdml("index", many_discs, *options)
        found = hdml("info", "--json").json["calibration"]
        return found["asked"], found["match"]

    default = asked()
    loose = asked("--false-matches", 0.2)
    assert (default[0], loose[0]) == (0.01, 0.2)
    assert loose[1] < default[1]
    assert asked() == loose
    assert "must be above 0 and at most 0.5, not 0.7" in hdml("index", many_discs, "--false-matches", 0.7).sentence
