"""The whole path by the real commands, each a process of its own: photos → run → encoder → index → neighbours → measures."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexing.encoder import Encoder, read_metadata
from tests.conftest import DISCS_PER_HUE, HUES, UNSEEN_HUES, Trained, run_hdml


def answer_of(*arguments: object, **options: Any) -> dict[str, Any]:
    """The JSON object that a command prints."""
    done = run_hdml(*arguments, "--json", **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def search(trained: Trained, query: Path, k: int) -> list[dict[str, Any]]:
    return answer_of("search", query, "-k", k, "--workspace", trained.workspace)["results"]


def test_training_improves_retrieval_on_classes_it_never_saw(trained: Trained) -> None:
    before, after = trained.train["before"], trained.train["after"]
    for evaluation in (before, after):
        assert (evaluation["queries"], evaluation["classes"]) == (DISCS_PER_HUE * len(UNSEEN_HUES), len(UNSEEN_HUES))
    assert after["map_at_r"] > before["map_at_r"] + 0.1  # +0.27, +0.28 and +0.36 with three seeds
    assert after["nmi"] > before["nmi"]


def test_every_photo_of_the_folder_is_in_the_index(trained: Trained) -> None:
    photos = len(list(trained.photos.rglob("*.jpg")))
    assert trained.index == {
        "index": "discs",
        "added": photos,
        "updated": 0,
        "moved": 0,
        "removed": 0,
        "unchanged": 0,
        "relabelled": 0,
        "failed": [],
    }


def test_photos_find_themselves_first_and_then_their_own_kind(trained: Trained) -> None:
    neighbours: Counter[bool] = Counter()
    for query in sorted(trained.photos.glob("*/0.jpg"))[::2]:
        first, *others = search(trained, query, DISCS_PER_HUE)
        assert first["path"] == query.relative_to(trained.photos).as_posix()
        assert first["score"] == pytest.approx(1, abs=1e-5)
        assert first["label"] == query.parent.name
        neighbours.update(other["label"] == query.parent.name for other in others)
    chance = (DISCS_PER_HUE - 1) / (len(HUES) * DISCS_PER_HUE - 1)
    assert neighbours[True] / neighbours.total() > 3 * chance


def test_search_by_file_standard_input_and_item_agree(trained: Trained) -> None:
    query = trained.photos / "hue-10" / "3.jpg"
    by_file = search(trained, query, 9)
    with query.open("rb") as photo:
        by_input = answer_of("search", "-", "-k", 9, "--workspace", trained.workspace, stdin=photo)
    by_id = answer_of("search", "--id", by_file[0]["id"], "-k", 8, "--workspace", trained.workspace)
    assert by_input["results"] == by_file
    assert [result["id"] for result in by_id["results"]] == [result["id"] for result in by_file[1:]]
    scores = [result["score"] for result in by_file[1:]]
    assert [result["score"] for result in by_id["results"]] == pytest.approx(scores, abs=1e-5)


def test_scores_are_the_cosines_of_the_encoder_that_training_left(trained: Trained) -> None:
    encoder = Encoder(Path(trained.train["encoder"]), device="cpu")
    query = trained.photos / "hue-03" / "5.jpg"
    vectors = {path: encoder.encode_photo(path)[0] for path in [query, *trained.photos.rglob("*.jpg")]}
    scores = {path.relative_to(trained.photos).as_posix(): float(vectors[path] @ vectors[query]) for path in vectors}
    results = search(trained, query, len(HUES) * DISCS_PER_HUE)
    assert {result["path"] for result in results} == scores.keys()
    for result in results:
        assert result["score"] == pytest.approx(scores[result["path"]], abs=1e-5)
    assert np.all(np.diff([result["score"] for result in results]) <= 0)


def test_measuring_the_encoder_gives_the_figures_that_training_reported(trained: Trained) -> None:
    evaluation = answer_of("eval", "--workspace", trained.workspace)
    after = trained.train["after"]
    assert (evaluation["queries"], evaluation["classes"]) == (after["queries"], after["classes"])
    assert evaluation["recall_at_k"] == pytest.approx(after["recall_at_k"], abs=1 / after["queries"])  # one near tie may turn
    assert evaluation["map_at_r"] == pytest.approx(after["map_at_r"], abs=1 / after["queries"])


def test_one_model_answers_from_training_to_search(trained: Trained) -> None:
    fingerprint = read_metadata(Path(trained.train["encoder"])).fingerprint
    found = answer_of("search", trained.photos / "hue-00" / "0.jpg", "--workspace", trained.workspace)
    assert (found["model"], found["index"]) == (fingerprint, trained.index["index"])
