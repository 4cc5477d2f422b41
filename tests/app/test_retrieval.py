"""Searches of every kind by route: they answer as the library does, and what is wrong is a problem with a sentence."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import app.uploads
from app.answers import BatchAnswer, Embedding, ItemAnswer, Problem, SearchAnswer, WhyAnswer
from indexing.exchange import import_table
from indexing.filters import Filter
from indexing.migration import migrate_index
from indexing.preprocess import Window
from indexing.queries import Query
from indexing.regions import explain
from indexing.rocchio import Weights
from indexing.search import OpenIndex, Result
from indexing.vector_tables import open_parquet
from indexing.workspace import Workspace
from tests.app.test_api import refused
from tests.conftest import TINY, write_pooling_encoder


def found(answer: dict[str, Any]) -> list[tuple[int, float]]:
    return [(result["id"], result["score"]) for result in answer["results"]]


def expected(results: list[Result]) -> list[tuple[int, float]]:
    return [(result.id, result.score) for result in results]


def ids(opened: OpenIndex, label: str) -> list[int]:
    return [item.id for item in opened.catalogue.items(label)]


def test_examples_move_a_photo_an_item_and_nothing(client: TestClient, opened: OpenIndex, photos: Path) -> None:
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    more, less = ids(opened, "red-right")[:2], ids(opened, "green-left")[:1]
    moved = {"more": tuple(more), "less": tuple(less)}
    address = "&".join([*(f"more={item}" for item in more), *(f"less={item}" for item in less)])
    answer = client.post(f"/v1/search?{address}", content=content).json()
    assert found(answer) == expected(opened.search(Query(photo=content, **moved)))
    assert answer["weights"] == {"query": 1, "more": 0.75, "less": 0.15}
    assert not {*more, *less} & {result["id"] for result in answer["results"]}
    weighed = client.post(f"/v1/search?id=1&{address}&alpha=0.5&beta=2&gamma=1").json()
    assert found(weighed) == expected(opened.search(Query(item=1, weights=Weights(0.5, 2, 1), **moved)))
    assert weighed["weights"] == {"query": 0.5, "more": 2, "less": 1}
    alone = client.post(f"/v1/search?{address}").json()
    assert found(alone) == expected(opened.search(Query(**moved)))
    assert alone["query"] == "examples"
    assert "weights" not in client.post("/v1/search?id=1").json()


def test_an_example_that_is_not_there_is_a_404(client: TestClient) -> None:
    for asked in ("id=999", "more=999", "id=1&less=999"):
        assert refused(client.post(f"/v1/search?{asked}")) == (404, "the index photos has no item with id 999")


def test_a_crop_of_a_photo_and_of_an_item(client: TestClient, opened: OpenIndex, photos: Path) -> None:
    content, window = (photos / "red-right" / "0.jpg").read_bytes(), Window(0.5, 0.1, 1, 0.9)
    answer = client.post("/v1/search?crop=0.5,0.1,1,0.9", content=content).json()
    assert found(answer) == expected(opened.search(Query(photo=content, crop=window)))
    item = opened.catalogue.item_at("red-right/0.jpg").id
    answer = client.post(f"/v1/search?id={item}&crop=0.5,0.1,1,0.9").json()
    assert found(answer) == expected(opened.search(Query(item=item, crop=window)))
    for crop in ("0,0,0,1", "0,0,1", "1,0,0,1", "nan,0,1,1"):
        status, sentence = refused(client.post(f"/v1/search?crop={crop}", content=content))
        assert (status, "left,top,right,bottom" in sentence) == (400, True)
    assert "a crop is a part of a photo" in refused(client.post("/v1/search?more=1&crop=0,0,1,0.5"))[1]


def test_json_asks_what_the_address_asks(client: TestClient, opened: OpenIndex) -> None:
    item, where = opened.catalogue.items("blue-left")[0], Filter(labels=("blue-left", "red-right"), path="*/[123].jpg")
    filters = {"label": ["blue-left", "red-right"], "path": "*/[123].jpg", "min_side": 1}
    by_id = client.post("/v1/search", json={"id": item.id, "k": 4, "filters": filters, "index": "photos", "group": True}).json()
    assert found(by_id) == expected(opened.search(Query(item=item.id), k=4, where=where))
    assert by_id["results"][0]["copies"] == []
    by_vector = client.post("/v1/search", json={"vector": (3 * item.vector).tolist(), "min_score": -1}).json()
    assert by_vector["query"] == "vector"
    assert by_vector["results"][0]["id"] == item.id
    assert by_vector["results"][0]["score"] == pytest.approx(1)
    moved = client.post("/v1/search", json={"vector": item.vector.tolist(), "less": [item.id + 1]}).json()
    assert moved["weights"]["less"] == 0.15


def test_a_batch_answers_in_order_and_each_query_for_itself(client: TestClient, opened: OpenIndex, photos: Path) -> None:
    names = ["blue-left/1.jpg", "red-right/2.jpg"]
    contents = [(photos / name).read_bytes() for name in names]
    files = [("image", (names[0], contents[0])), ("image", ("broken.jpg", b"no photo")), ("image", (names[1], contents[1]))]
    answers = client.post("/v1/search/batch?k=3", files=files).json()["answers"]
    assert [answers[0]["query"], answers[2]["query"]] == names
    for place, content in ((0, contents[0]), (2, contents[1])):
        assert found(answers[place]) == expected(opened.search_photo(content, k=3))
    assert (answers[1]["status"], "cannot be searched with" in answers[1]["detail"]) == (422, True)
    queries = [{"id": 1, "k": 2}, {"id": 999}, {"id": 1, "k": 0}, {"id": 1, "index": "other"}, "nothing", {"more": [1]}]
    answers = client.post("/v1/search/batch", json={"queries": queries}).json()["answers"]
    assert found(answers[0]) == expected(opened.search_item(1, k=2))
    assert [answer.get("status") for answer in answers] == [None, 404, 422, 404, 422, None]
    assert "k: Input should be greater than or equal to 1" in answers[2]["detail"]
    for answer in answers:
        (SearchAnswer if "results" in answer else Problem).model_validate(answer)


def test_a_batch_is_bounded(client: TestClient, photos: Path) -> None:
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    status, sentence = refused(client.post("/v1/search/batch", files=[("image", content)] * 65))
    assert (status, "64" in sentence) == (400, True)
    status, sentence = refused(client.post("/v1/search/batch", json={"queries": [{"id": 1}] * 65}))
    assert (status, "queries: List should have at most 64 items" in sentence) == (422, True)
    assert "at least 1 item" in refused(client.post("/v1/search/batch", json={"queries": []}))[1]
    assert refused(client.post("/v1/search/batch"))[0] == 400
    assert refused(client.post("/v1/search", files=[("image", content)] * 2))[0] == 400


def test_an_embedding_is_the_encoders_and_searches_as_the_photo_does(client: TestClient, opened: OpenIndex, photos: Path) -> None:
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    for crop, window in (("", None), ("?crop=0,0,0.5,1", Window(0, 0, 0.5, 1))):
        answer = client.post(f"/v1/embed{crop}", content=content).json()
        vector, norm = opened.encoder.encode_photo(content, crop=window)
        assert answer["dimension"] == len(answer["vector"]) == 32
        np.testing.assert_allclose(answer["vector"], vector, rtol=1e-6)
        assert answer["norm"] == pytest.approx(norm)
        assert answer["model"] == opened.model
        Embedding.model_validate(answer)
    whole = client.post("/v1/embed", files={"image": content}).json()["vector"]
    by_vector, by_photo = client.post("/v1/search", json={"vector": whole}), client.post("/v1/search", content=content)
    assert [one for one, _ in found(by_vector.json())] == [one for one, _ in found(by_photo.json())]
    assert "takes a photo" in refused(client.post("/v1/embed"))[1]
    assert refused(client.post("/v1/embed", content=b"no photo"))[0] == 422


def test_an_item_is_described(client: TestClient, opened: OpenIndex, photos: Path) -> None:
    item = opened.catalogue.item_at("red-right/0.jpg")
    answer = client.get(f"/v1/items/{item.id}").json()
    ItemAnswer.model_validate(answer)
    assert (answer["path"], answer["label"], answer["source"], answer["model"]) == (item.path, item.label, "folder", opened.model)
    assert (answer["width"], answer["height"]) == (item.width, item.height)
    about = (photos / item.path).stat()
    assert answer["size"] == about.st_size
    assert np.datetime64(answer["changed"][:-6]) == np.datetime64(about.st_mtime_ns // 1000, "us")
    assert refused(client.get("/v1/items/999")) == (404, "the index photos has no item with id 999")
    assert refused(client.get(f"/v1/items/{2**63}"))[0] == 422
    assert refused(client.get("/v1/items/one"))[0] == 422


def test_an_item_from_a_table_has_no_file(client: TestClient, workspace: Workspace, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    parquet.write_table(pa.table({"path": ["a.jpg", "b.jpg", "c.jpg"], "vector": list(rows)}), tmp_path / "table.parquet")
    import_table(open_parquet(tmp_path / "table.parquet"), tmp_path, workspace.indexes_dir / "table")
    answer = client.get("/v1/items/1?index=table").json()
    assert (answer["source"], answer["size"], answer["changed"], answer["width"]) == ("table", None, None, None)
    found = client.post("/v1/search", json={"index": "table", "vector": rows[1].tolist()}).json()["results"]
    assert found[0]["score"] == pytest.approx(1)
    assert "no encoder" in refused(client.post("/v1/embed?index=table", content=b"x"))[1]


def test_why_tells_the_regions_that_matter(
    client: TestClient, workspace: Workspace, photos: Path, tmp_path: Path, opened: OpenIndex
) -> None:
    status, sentence = refused(client.post("/v1/why?id=1&item=2"))
    assert (status, "came without regions.onnx" in sentence) == (404, True)
    (tmp_path / "pooling").mkdir()
    encoder = write_pooling_encoder(tmp_path / "pooling", replace(TINY, fingerprint="feedfeedfeedfeed"))
    migrate_index(workspace.find_index(), encoder, device="cpu")
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    expected = explain(opened, Query(photo=content), 2)
    assert expected.query is not None
    answer = client.post("/v1/why?item=2", content=content).json()
    WhyAnswer.model_validate(answer)
    np.testing.assert_allclose(answer["query"], expected.query.similarities, atol=1e-6)
    np.testing.assert_allclose(answer["item"], expected.item.similarities, atol=1e-6)
    assert answer["query_area"] == asdict(expected.query.area)
    scores = {result["id"]: result["score"] for result in client.post("/v1/search?k=20", content=content).json()["results"]}
    assert answer["score"] == pytest.approx(scores[2], abs=1e-6)
    by_json = client.post("/v1/why", json={"vector": opened.item(1).vector.tolist(), "item": 2}).json()
    assert (by_json["query"], by_json["query_area"]) == (None, None)
    assert refused(client.post("/v1/why?id=1&item=999"))[0] == 404
    assert "takes an item" in refused(client.post("/v1/why?id=1"))[1]
    assert "takes one query" in refused(client.post("/v1/why?item=1"))[1]
    assert "item: Field required" in refused(client.post("/v1/why", json={"id": 1}))[1]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"vector": [1, 2', "EOF while parsing"),
        ('{"vector": [NaN, 1]}', "vector.0: Input should be a finite number"),
        ('{"vector": [1e999]}', "vector.0: Input should be a finite number"),
        ('{"vector": []}', "vector: List should have at least 1 item"),
        (json.dumps({"vector": [1] * 65_537}), "vector: List should have at most 65536 items"),
        (json.dumps({"vector": ["a"] * 9}), "; and 4 more"),
        ('{"id": 9223372036854775808}', "id: Input should be less than or equal to"),
        ('{"id": ' + "9" * 5000 + "}", "number out of range"),
        (json.dumps({"more": [2] * 101}), "more: List should have at most 100 items"),
        ('{"id": 1, "min_scor": 0.5}', "min_scor: Extra inputs are not permitted"),
        ('{"id": 1, "filters": {"labels": []}}', "filters.labels: Extra inputs are not permitted"),
        ('{"id": 1, "alpha": -1}', "alpha: Input should be greater than or equal to 0"),
        (json.dumps({"filters": {"path": "*" * 60_000}}), "filters.path: String should have at most 1000 characters"),
        ('{"filters": {"label": "\\ud800"}}', "Invalid JSON"),
        ("[" * 100_000, "recursion limit exceeded"),
        ("[]", "Input should be an object"),
        ("\xff", "The JSON body must be"),
    ],
)
def test_json_that_is_wrong_is_said(client: TestClient, body: str, said: str) -> None:
    response = client.post("/v1/search", content=body.encode("latin-1"), headers={"content-type": "application/json"})
    status, sentence = refused(response)
    assert status == 422
    assert said in sentence
    assert len(sentence) < 1000


def test_a_vector_of_no_direction_or_of_another_length_is_said(client: TestClient) -> None:
    for vector, said in (([0] * 32, "must have a direction"), ([1e300] * 32, "must have a direction"), ([1, 2], "32 values")):
        status, sentence = refused(client.post("/v1/search", json={"vector": vector}))
        assert (status, said in sentence) == (400, True)
    cancelled = refused(client.post("/v1/search?id=1&less=1&gamma=1"))
    assert (cancelled[0], "cancel out" in cancelled[1]) == (400, True)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("more=a", "more.0: Input should be a valid integer"),
        ("id=9223372036854775808", "id: Input should be less than or equal to 9223372036854775807"),
        ("&".join(["more=1"] * 101), "more: List should have at most 100 items"),
        ("id=1&alpha=nan", "alpha: "),
        ("id=1&gamma=101", "gamma: Input should be less than or equal to 100"),
        ("id=1&path=" + "*" * 1001, "path: String should have at most 1000 characters"),
    ],
)
def test_an_address_that_is_wrong_is_said(client: TestClient, asked: str, said: str) -> None:
    status, sentence = refused(client.post(f"/v1/search?{asked}"))
    assert (status, sentence.startswith(said)) == (422, True), sentence


def test_json_says_all_itself(client: TestClient) -> None:
    status, sentence = refused(client.post("/v1/search?k=3&label=a", json={"id": 1}))
    assert (status, "the address says k, label as well" in sentence) == (400, True)
    assert refused(client.post("/v1/search", content=b"", headers={"content-type": "application/json"}))[0] == 400


def test_json_beyond_the_limit_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.uploads, "MAX_JSON", 20)
    assert refused(client.post("/v1/search", json={"vector": [1] * 30}))[0] == 413


@pytest.mark.parametrize("moment", ["0001-01-01", "9999-12-31", "0001-01-01T00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_dates_at_the_ends_of_the_calendar_are_answered(client: TestClient, moment: str) -> None:
    for edge in ("since", "until"):
        assert client.post("/v1/search", json={"id": 1, "filters": {edge: moment}}).status_code == 200


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["auto", "0,0,1,1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_SENSIBLE = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers(1, 25) | _VALUES,
        "vector": st.lists(st.floats(), min_size=32, max_size=32) | _VALUES,
        "more": st.lists(st.integers(1, 25), max_size=3) | _VALUES,
        "less": st.lists(st.integers(1, 25), max_size=3) | _VALUES,
        "alpha": st.floats(0, 100) | _VALUES,
        "k": st.integers(1, 30) | _VALUES,
        "min_score": st.floats(-1, 1) | _VALUES,
        "crop": _VALUES,
        "group": st.booleans(),
        "filters": st.dictionaries(
            st.sampled_from(["label", "attribute", "path", "since", "until", "min_side"]),
            st.lists(st.text(max_size=6), max_size=2) | st.text(max_size=6) | _VALUES,
            max_size=3,
        )
        | _VALUES,
    },
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(body=_SENSIBLE | _VALUES)
def test_no_json_body_breaks_the_server(client: TestClient, body: Any) -> None:
    response = client.post("/v1/search", content=json.dumps(body), headers={"content-type": "application/json"})
    if response.status_code == 200:
        SearchAnswer.model_validate(response.json())
    else:
        assert response.status_code in (400, 404, 422)
        assert refused(response)[1]
    batch = client.post("/v1/search/batch", content=json.dumps({"queries": [body]}), headers={"content-type": "application/json"})
    if batch.status_code == 200:
        BatchAnswer.model_validate(batch.json())
    else:
        assert refused(batch)[0] == 422
