"""The routes as a program meets them: right answers, and every refusal a problem with a reason."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image

import app.uploads
from app.server import create_app
from indexing.indexer import update_index
from indexing.search import OpenIndex
from indexing.workspace import Workspace

ANSWER = {"query", "index", "model", "elapsed_ms", "results"}
RESULT = {"id", "path", "label", "score"}


def refused(response: Response) -> tuple[int, str]:
    """Status and sentence of a problem; fails on anything else."""
    body = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["status"] == response.status_code
    return body["status"], body["detail"]


def test_multipart_and_raw_searches_answer_as_the_library_does(client: TestClient, opened: OpenIndex, photos: Path) -> None:
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    expected = opened.search_photo(content, k=4)
    multipart = client.post("/v1/search?k=4", files={"image": ("1.jpg", content, "image/jpeg")}).json()
    raw = client.post("/v1/search?k=4", content=content, headers={"content-type": "image/jpeg"}).json()
    for answer in (multipart, raw):
        assert set(answer) == ANSWER
        assert [set(result) for result in answer["results"]] == [RESULT] * 4
        assert [(result["id"], result["score"]) for result in answer["results"]] == [(r.id, r.score) for r in expected]
        assert answer["index"] == "photos"
        assert answer["model"] == opened.model
        assert answer["elapsed_ms"] > 0
    assert multipart["query"] == "1.jpg"


def test_search_by_item_leaves_the_item_out(client: TestClient, opened: OpenIndex) -> None:
    item = opened.catalogue.items("blue-left")[0]
    results = client.post(f"/v1/search?id={item.id}&k=4").json()["results"]
    assert item.id not in [result["id"] for result in results]
    assert {result["label"] for result in results} == {"blue-left"}


def test_min_score_and_k_bound_the_results(client: TestClient, photos: Path) -> None:
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    scores = [result["score"] for result in client.post("/v1/search?k=20", content=content).json()["results"]]
    assert len(scores) == 20
    assert scores == sorted(scores, reverse=True)
    least = (scores[6] + scores[7]) / 2
    assert len(client.post(f"/v1/search?k=20&min_score={least}", content=content).json()["results"]) == 7
    for k in (0, 1001):
        assert refused(client.post(f"/v1/search?k={k}", content=content))[0] == 422


@pytest.mark.parametrize("content", [b"no photo", b"\xff\xd8\xff\xe0 cut off", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_unreadable_photo_is_refused_with_its_reason(client: TestClient, content: bytes) -> None:
    for response in (client.post("/v1/search", content=content), client.post("/v1/search", files={"image": content})):
        status, reason = refused(response)
        assert status == 422
        assert "cannot be searched with" in reason


def test_photo_of_too_many_pixels_is_refused_before_it_is_decoded(client: TestClient) -> None:
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    status, reason = refused(client.post("/v1/search", content=bomb.getvalue()))
    assert status == 422
    assert "200 megapixels" in reason


def test_search_without_any_query_says_what_to_send(client: TestClient, opened: OpenIndex, photos: Path) -> None:
    assert refused(client.post("/v1/search"))[0] == 400
    assert refused(client.post("/v1/search", files={"other": b"x"}))[0] == 400
    assert refused(client.post("/v1/search", data={"image": "a word"}, files={"x": b""}))[0] == 400
    both = client.post("/v1/search?id=1", content=(photos / "blue-left" / "1.jpg").read_bytes())
    assert "one query" in refused(both)[1]


def test_upload_beyond_the_limit_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    monkeypatch.setattr(app.uploads, "MAX_UPLOAD", len(content) - 1)
    assert refused(client.post("/v1/search", content=content))[0] == 413
    assert refused(client.post("/v1/search", files={"image": content}))[0] == 413
    monkeypatch.setattr(app.uploads, "MAX_UPLOAD", len(content))
    assert client.post("/v1/search", content=content).status_code == 200


def test_hostile_file_name_is_shown_and_nothing_else(client: TestClient, photos: Path, tmp_path: Path) -> None:
    content = (photos / "blue-left" / "1.jpg").read_bytes()

    def files() -> set[Path]:
        return {path for path in tmp_path.rglob("*") if not path.name.endswith(("-wal", "-shm"))}  # SQLite's own come and go

    before = files()
    for name in ("../../escaped.jpg", "/etc/passwd", "<script>alert(1)</script>.jpg"):
        answer = client.post("/v1/search?k=1", files={"image": (name, content, "image/jpeg")})
        assert answer.json()["query"] == name
        assert answer.headers["content-type"] == "application/json"
    assert files() == before


def test_indexes_are_listed_with_their_model_and_size(client: TestClient, opened: OpenIndex) -> None:
    (listed,) = client.get("/v1/indexes").json()["indexes"]
    assert (listed["name"], listed["model"], listed["items"], listed["lens"]) == ("photos", opened.model, 20, True)


@pytest.mark.parametrize("route", ["/v1/items", "/v1/labels", "/v1/lens", "/image/1"])
@pytest.mark.parametrize("name", ["other", "../photos", "/etc", ""])
def test_unknown_index_is_a_404_that_names_what_there_is(client: TestClient, route: str, name: str) -> None:
    status, reason = refused(client.get(route, params={"index": name}))
    assert status == 404
    assert "photos" in reason


def test_items_are_found_by_label_and_sampled_without(client: TestClient, opened: OpenIndex) -> None:
    labels = client.get("/v1/labels").json()["labels"]
    assert [(entry["label"], entry["items"]) for entry in labels] == list(opened.catalogue.labels().items())
    items = client.get("/v1/items", params={"label": "red-right"}).json()["items"]
    assert sorted(item["path"] for item in items) == [f"red-right/{number}.jpg" for number in range(5)]
    sample = client.get("/v1/items").json()["items"]
    assert {item["label"] for item in sample} == {"blue-left", "blue-right", "green-left", "red-right"}


def test_thumbnail_is_encoded_anew_upright_and_small(client: TestClient, opened: OpenIndex, photos: Path) -> None:
    (turned,) = [item for item in opened.catalogue.items("red-right") if item.path == "red-right/0.jpg"]
    response = client.get(f"/image/{turned.id}?size=96")
    shown, stored = Image.open(io.BytesIO(response.content)), Image.open(photos / turned.path)
    assert response.headers["content-type"] == "image/jpeg"
    assert stored.height > stored.width
    assert shown.width > shown.height
    assert not shown.getexif()
    assert max(shown.size) <= 96
    again = client.get(f"/image/{turned.id}?size=96", headers={"if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_thumbnail_shows_an_edited_photo(client: TestClient, opened: OpenIndex, photos: Path) -> None:
    item = opened.catalogue.items("blue-left")[0]
    before = client.get(f"/image/{item.id}")
    Image.new("RGB", (40, 40), "black").save(photos / item.path)
    after = client.get(f"/image/{item.id}", headers={"if-none-match": before.headers["etag"]})
    assert after.status_code == 200
    assert Image.open(io.BytesIO(after.content)).getpixel((20, 20)) == (0, 0, 0)


def test_thumbnail_of_an_unknown_or_lost_item_is_a_404(client: TestClient, opened: OpenIndex, photos: Path) -> None:
    assert refused(client.get("/image/999"))[0] == 404
    item = opened.catalogue.items("blue-left")[0]
    (photos / item.path).unlink()
    status, reason = refused(client.get(f"/image/{item.id}"))
    assert (status, "hdml index" in reason) == (404, True)
    assert refused(client.get("/image/1?size=5000"))[0] == 422
    assert client.get("/image/..%2f..%2fetc%2fpasswd").status_code in (404, 422)


def test_server_answers_only_to_this_machines_names(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/healthz", headers={"host": "localhost:7860"}).status_code == 200
    assert client.get("/healthz", headers={"host": "attacker.example"}).status_code == 400


def test_workspace_without_an_index_lists_none_and_says_how_to_make_one(tmp_path: Path) -> None:
    api = create_app(Workspace(tmp_path / "empty"), device="cpu", page=False)
    with TestClient(api, base_url="http://127.0.0.1") as client:
        assert client.get("/v1/indexes").json() == {"indexes": []}
        status, reason = refused(client.post("/v1/search", content=b"x"))
    assert status == 400
    assert "hdml index" in reason


def test_index_made_while_the_server_runs_can_be_searched(
    client: TestClient, workspace: Workspace, tiny_run: Path, photos: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere" / "photos"
    other.parent.mkdir()
    (photos / "blue-left").rename(other)
    update_index(other, workspace.index_for_gallery(other), tiny_run / "encoder.onnx", device="cpu")
    names = [index["name"] for index in client.get("/v1/indexes").json()["indexes"]]
    assert sorted(names) == ["photos", "photos-2"]
    answer = client.post("/v1/search?k=2&index=photos-2", content=(other / "1.jpg").read_bytes()).json()
    assert answer["results"][0]["path"] == "1.jpg"
    assert answer["results"][0]["label"] is None


def test_routes_never_import_torch(workspace: Workspace, photos: Path) -> None:
    script = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from httpx import Response
from app.server import create_app
from indexing.workspace import Workspace

with TestClient(create_app(Workspace(Path(sys.argv[1])), device="cpu"), base_url="http://127.0.0.1") as client:
    assert client.post("/v1/search", content=Path(sys.argv[2]).read_bytes()).status_code == 200
    assert client.get("/v1/lens").status_code == 200
    assert client.get("/").status_code == 200
print(*sys.modules)
"""
    command = [sys.executable, "-P", "-c", script, str(workspace.root), str(photos / "blue-left" / "1.jpg")]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert "gradio" in loaded
    assert loaded & {"torch", "torchvision", "pytorch_metric_learning", "hdml"} == set()
