"""Marks over the routes: made, listed, exported and taken back; and no photo that was sent is kept without one."""

import csv
import io
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from indexing.bundle import pack_index
from indexing.catalogue import CATALOGUE
from indexing.marks import QUERY_SIDE
from indexing.search import OpenIndex
from indexing.workspace import Workspace


@pytest.fixture
def ids(opened: OpenIndex) -> list[int]:
    """Ids of the items, by path."""
    return [item.id for item in sorted(opened.catalogue.items(), key=lambda item: item.path)]


def large_png(folder: Path) -> bytes:
    file = folder / "large.png"
    Image.new("RGB", (3000, 500), "white").save(file)
    return file.read_bytes()


def test_a_mark_of_two_items_is_made_listed_changed_and_taken_back(client: TestClient, ids: list[int]) -> None:
    body = {"index": "photos", "query": {"id": ids[0]}, "item": ids[7], "right": True}
    made = client.post("/v1/feedback", json=body).json()
    assert made == {"id": made["id"], "index": "photos", "item": ids[7], "right": True}
    assert client.post("/v1/feedback", json={**body, "right": False}).json()["id"] == made["id"]
    answer = client.get("/v1/feedback").json()
    (mark,) = answer["marks"]
    assert (mark["query"], mark["item"], mark["right"], mark["present"], answer["total"]) == (ids[0], ids[7], False, True, 1)
    assert client.delete(f"/v1/feedback/{made['id']}").json() == {"deleted": made["id"]}
    assert client.get("/v1/feedback").json() == {"marks": [], "total": 0}
    assert client.delete(f"/v1/feedback/{made['id']}").status_code == 404


@pytest.mark.parametrize("as_form", [True, False])
def test_a_photo_that_was_sent_is_kept_small_with_its_mark(
    client: TestClient, ids: list[int], tmp_path: Path, as_form: bool
) -> None:
    content, asked = large_png(tmp_path), {"index": "photos", "item": ids[0], "right": "true"}
    sent = {"files": {"image": ("<b>mine</b>.png", content)}} if as_form else {"content": content}
    made = client.post("/v1/feedback", params=asked, **sent).json()  # type: ignore[arg-type]
    kept = client.get(f"/v1/feedback/{made['id']}/photo")
    with Image.open(io.BytesIO(kept.content)) as image:
        assert (image.format, max(image.size)) == ("JPEG", QUERY_SIDE)
    (mark,) = client.get("/v1/feedback").json()["marks"]
    assert mark["query_path"] == ("<b>mine</b>.png" if as_form else "upload")
    client.delete(f"/v1/feedback/{made['id']}")
    assert client.get(f"/v1/feedback/{made['id']}/photo").status_code == 404


def test_a_search_keeps_no_photo(client: TestClient, workspace: Workspace, photos: Path) -> None:
    before = (workspace.find_index() / CATALOGUE).read_bytes()
    assert client.post("/v1/search", content=(photos / "blue-left" / "1.jpg").read_bytes()).status_code == 200
    assert (workspace.find_index() / CATALOGUE).read_bytes() == before


def test_marks_are_exported_as_a_table(client: TestClient, ids: list[int]) -> None:
    client.post("/v1/feedback", json={"query": {"id": ids[0]}, "item": ids[7], "right": True})
    answer = client.get("/v1/feedback?format=csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    (row,) = csv.DictReader(io.StringIO(answer.text))
    (mark,) = client.get("/v1/feedback").json()["marks"]
    assert row == {name: "" if value is None else str(value) for name, value in mark.items()}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"query": {"id": 1}, "item": 1, "right": True}, 400),
        ({"query": {"id": 1}, "item": 999, "right": True}, 404),
        ({"query": {"id": 999}, "item": 1, "right": True}, 404),
        ({"query": {"id": 1}, "item": 2, "right": True, "index": "../photos"}, 404),
        ({"query": {"id": 1}, "item": 2}, 422),
        ({"query": {"id": 2**70}, "item": 2, "right": True}, 422),
        ({"query": {"id": "1; DROP TABLE marks"}, "item": 2, "right": True}, 422),
        ([], 422),
        ({}, 422),
    ],
)
def test_what_is_no_mark_is_refused_with_a_sentence(client: TestClient, body: object, status: int) -> None:
    answer = client.post("/v1/feedback", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["detail"]
    assert client.get("/v1/feedback").json()["total"] == 0


def test_no_json_no_photo_and_no_item_are_refused(client: TestClient, ids: list[int]) -> None:
    assert client.post("/v1/feedback", content=b"{", headers={"content-type": "application/json"}).status_code == 422
    assert client.post("/v1/feedback", params={"item": ids[0], "right": True}).status_code == 400
    assert client.post("/v1/feedback", params={"item": ids[0]}, content=b"photo").status_code == 400
    answer = client.post("/v1/feedback", params={"item": ids[0], "right": True}, content=b"no photo")
    assert (answer.status_code, client.get("/v1/feedback").json()["total"]) == (422, 0)


def test_an_unpacked_bundle_takes_marks_of_its_own(
    client: TestClient, workspace: Workspace, ids: list[int], tmp_path: Path
) -> None:
    client.post("/v1/feedback", json={"query": {"id": ids[0]}, "item": ids[7], "right": True})
    bundle = pack_index(workspace.find_index(), tmp_path / "photos.hdml").file
    with OpenIndex(Workspace(tmp_path / "other").find_index(bundle), device="cpu") as opened:
        assert opened.catalogue.marks() == []
        opened.catalogue.mark(ids[1], ids[2], right=True)
        assert len(opened.catalogue.marks()) == 1
