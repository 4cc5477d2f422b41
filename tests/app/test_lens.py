"""The lens's routes: the numbers of the lens, the map and the survey, and sentences where there are none."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from indexing.hardness import HardnessLens
from indexing.hardness_survey import survey
from indexing.indexer import update_index
from indexing.search import OpenIndex
from tests.conftest import TINY, tiny_training, write_tiny_synthesizer


def as_json(value: Any) -> Any:
    """As JSON has it: lists for tuples, and names for numbers that name."""
    if isinstance(value, dict):
        return {str(name): as_json(item) for name, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value


def told(answer: dict[str, Any]) -> dict[str, Any]:
    assert (answer.pop("index"), answer.pop("model")) == ("photos", TINY.fingerprint)
    return answer


def test_routes_answer_what_the_lens_sees(client: TestClient, opened: OpenIndex) -> None:
    lens = HardnessLens(opened)
    anchor = opened.catalogue.items("blue-left")[0].id
    look = lens.look(anchor)
    farthest = look.positives[-1].id
    assert told(client.get(f"/v1/lens?anchor={anchor}").json()) == as_json(asdict(look))
    by_farthest = client.get(f"/v1/lens?anchor={anchor}&positive={farthest}").json()
    assert told(by_farthest) == as_json(asdict(lens.look(anchor, farthest)))
    assert told(client.get("/v1/lens/map").json()) == {"kinds": ["pca", "tsne"], **as_json(asdict(lens.map()))}
    assert told(client.get("/v1/lens/survey").json()) == as_json(asdict(survey(lens)))
    assert told(client.get("/v1/lens/survey?label=blue-left").json()) == as_json(asdict(survey(lens, "blue-left")))
    assert told(client.get("/v1/lens/replay").json()) == {"replay": None}


def test_places_can_be_of_the_other_map(client: TestClient, opened: OpenIndex) -> None:
    lens = HardnessLens(opened)
    anchor = opened.catalogue.items("blue-left")[0].id
    assert told(client.get("/v1/lens/map?map=tsne").json()) == {"kinds": ["pca", "tsne"], **as_json(asdict(lens.map("tsne")))}
    assert told(client.get(f"/v1/lens?anchor={anchor}&map=tsne").json()) == as_json(asdict(lens.look(anchor, kind="tsne")))
    assert client.get("/v1/lens/map?map=umap").status_code == 422


def test_map_that_needs_an_absent_package_is_refused_with_what_to_install(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    assert client.get("/v1/lens/map").json()["kinds"] == ["pca"]
    for address in ("?map=tsne", "/map?map=tsne"):
        answer = client.get(f"/v1/lens{address}")
        assert answer.status_code == 400
        assert 'pip install "hdml[tsne]"' in answer.json()["detail"]


def test_map_is_sent_again_only_when_it_has_changed(client: TestClient, opened: OpenIndex, photos: Path, tiny_run: Path) -> None:
    first = client.get("/v1/lens/map")
    asked = {"if-none-match": first.headers["etag"]}
    again = client.get("/v1/lens/map", headers=asked)
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/v1/lens/map?map=tsne", headers=asked).status_code == 200
    (photos / "blue-left" / "1.jpg").unlink()
    update_index(photos, opened.path, tiny_run / "encoder.onnx", device="cpu")
    changed = client.get("/v1/lens/map", headers=asked)
    assert (changed.status_code, changed.json()["photos"]) == (200, first.json()["photos"] - 1)


def test_replay_is_answered_where_the_run_watched_tuples(client: TestClient, opened: OpenIndex) -> None:
    training = tiny_training(opened.gallery, ("blue-left/0.jpg", "blue-left/1.jpg", "green-left/2.jpg"))
    file = opened.path / "synthesizer.onnx"
    file.unlink()
    write_tiny_synthesizer(file, TINY, training=training)
    assert told(client.get("/v1/lens/replay").json()) == {"replay": as_json(asdict(HardnessLens(opened).replay()))}


def test_without_an_anchor_a_labelled_one_is_taken(client: TestClient, opened: OpenIndex) -> None:
    answer = client.get("/v1/lens").json()
    assert answer["anchor"]["id"] in {item.id for item in opened.catalogue.items()}
    assert len(answer["negatives"]) == 3


def test_what_there_is_no_lens_of_is_said(client: TestClient) -> None:
    for address, reason in (
        ("?anchor=999", "none with id 999"),
        ("/survey?label=moths", "has the label moths"),
        ("/map?index=none", "no index none"),
    ):
        answer = client.get(f"/v1/lens{address}")
        assert 400 <= answer.status_code < 500
        assert reason in answer.json()["detail"]


def test_index_without_a_synthesizer_has_none_of_it(client: TestClient, opened: OpenIndex) -> None:
    (opened.path / "synthesizer.onnx").unlink()
    for address in ("", "/map", "/survey"):
        assert "came without a synthesizer" in client.get(f"/v1/lens{address}").json()["detail"]
