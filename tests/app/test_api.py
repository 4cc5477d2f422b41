"""The routes as a program meets them: right answers, and every refusal a problem with a reason."""

import io
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image

import app.galleries
import app.handlers
import app.uploads
import indexing.catalogue
import indexing.database
from app.galleries import Galleries
from app.handlers import search
from app.lens import surprising_anchor
from app.questions import Question
from app.server import create_app
from indexing.bundle import pack_index
from indexing.catalogue import CATALOGUE, Catalogue
from indexing.indexer import update_index
from indexing.migration import migrate_index
from indexing.queries import Query
from indexing.search import OpenIndex, Result
from indexing.workspace import Workspace
from tests.conftest import TINY, write_tiny_encoder, write_tiny_synthesizer

ANSWER = {"query", "index", "model", "elapsed_ms", "verdict", "calibration", "votes", "results"}
RESULT = {"id", "path", "label", "attributes", "width", "height", "score", "verdict"}


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


def test_filters_narrow_the_results(client: TestClient, photos: Path) -> None:
    content = (photos / "red-right" / "0.jpg").read_bytes()
    asked = "/v1/search?k=30&label=red-right&label=blue-left&path=*/[01].jpg&min_side=1"
    found = {result["path"] for result in client.post(asked, content=content).json()["results"]}
    assert found == {f"{label}/{number}.jpg" for label in ("red-right", "blue-left") for number in (0, 1)}
    assert client.post("/v1/search?attribute=colour%3Dred", content=content).json()["results"] == []
    assert all(result["copies"] == [] for result in client.post("/v1/search?group=true", content=content).json()["results"])
    refused = client.post("/v1/search?since=lately", content=content)
    assert refused.status_code == 400
    assert "a date must be given as" in refused.text


def test_min_score_and_k_bound_the_results(client: TestClient, photos: Path) -> None:
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    scores = [result["score"] for result in client.post("/v1/search?k=20", content=content).json()["results"]]
    assert len(scores) == 20
    assert scores == sorted(scores, reverse=True)
    least = (scores[6] + scores[7]) / 2
    assert len(client.post(f"/v1/search?k=20&min_score={least}", content=content).json()["results"]) == 7
    for k in (0, 1001):
        assert refused(client.post(f"/v1/search?k={k}", content=content))[0] == 422


def test_verdicts_and_a_least_score_of_auto(
    client: TestClient, workspace: Workspace, many_discs: Path, tiny_run: Path, photos: Path
) -> None:
    path = workspace.index_for_gallery(many_discs)
    update_index(many_discs, path, tiny_run / "encoder.onnx", device="cpu", false_matches=0.1)
    content = (many_discs / "hue-03" / "2.jpg").read_bytes()
    with OpenIndex(path, device="cpu") as opened:
        found = opened.calibration
        assert found is not None
    answer = client.post("/v1/search?k=120&index=many-discs", content=content).json()
    assert answer["calibration"] == {"match": found.match, "unsure": found.unsure, "false_matches": 0.1, "basis": "labels"}
    assert answer["verdict"] == "match"
    assert [result["verdict"] for result in answer["results"]] == [found.verdict(r["score"]) for r in answer["results"]]
    kept = client.post("/v1/search?k=120&index=many-discs&min_score=auto", content=content).json()["results"]
    assert kept == [result for result in answer["results"] if result["verdict"] == "match"]
    query = (photos / "blue-left" / "1.jpg").read_bytes()
    plain = client.post("/v1/search?index=photos", content=query).json()
    assert (plain["verdict"], plain["calibration"]) == (None, None)
    status, sentence = refused(client.post("/v1/search?index=photos&min_score=auto", content=query))
    assert status == 400
    assert "needs a calibrated index" in sentence
    for wrong in ("high", "2", "nan"):
        assert refused(client.post(f"/v1/search?min_score={wrong}", content=query))[0] == 422


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
@pytest.mark.parametrize("name", ["other", "../photos", "photos/", "..", ".", "/", "/etc", ""])
def test_unknown_index_is_a_404_that_names_what_there_is(client: TestClient, route: str, name: str) -> None:
    status, reason = refused(client.get(route, params={"index": name}))
    assert status == 404
    assert "photos" in reason


def test_items_are_found_by_label_and_sampled_without(client: TestClient, opened: OpenIndex) -> None:
    labels = client.get("/v1/labels").json()["labels"]
    assert [(entry["label"], entry["items"]) for entry in labels] == list(opened.catalogue.labels().items())
    items = client.get("/v1/items", params={"label": "red-right"}).json()["items"]
    assert sorted(item["path"] for item in items) == [f"red-right/{number}.jpg" for number in range(5)]
    sample = client.get("/v1/items").json()
    assert {item["label"] for item in sample["items"]} == {"blue-left", "blue-right", "green-left", "red-right"}
    assert sample["total"] == 20


def test_items_are_limited_and_their_total_told(client: TestClient) -> None:
    answer = client.get("/v1/items", params={"label": "red-right", "limit": 2}).json()
    assert [item["path"] for item in answer["items"]] == ["red-right/0.jpg", "red-right/1.jpg"]
    assert answer["total"] == 5
    for limit in (0, 1001):
        assert refused(client.get("/v1/items", params={"label": "red-right", "limit": limit}))[0] == 422


def test_page_visit_reads_no_vector(client: TestClient, opened: OpenIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a vector was read")

    monkeypatch.setattr(Catalogue, "_items", read)
    for route in ("/v1/indexes", "/v1/labels", "/v1/items", "/v1/items?label=red-right"):
        assert client.get(route).status_code == 200
    labels = opened.catalogue.labels()
    assert opened.catalogue.known([surprising_anchor(opened)]).popitem()[1][1] in labels


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


def test_a_bundle_is_served_with_the_pictures_that_it_came_with(opened: OpenIndex, photos: Path, tmp_path: Path) -> None:
    (photos / "red-right" / "1.jpg").unlink()
    packed = pack_index(opened.path, tmp_path / "photos.hdml", side=100)
    query = (photos / "red-right" / "0.jpg").read_bytes()
    shutil.rmtree(photos)
    elsewhere = Workspace(tmp_path / "elsewhere")
    api = create_app(elsewhere, index=elsewhere.find_index(packed.file).resolve(), device="cpu", page=False)
    with TestClient(api, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        results = client.post("/v1/search?k=30", content=query).json()["results"]
        assert len(results) == 20
        for result in results:
            answer = client.get(f"/image/{result['id']}?size=96")
            if result["path"] == "red-right/1.jpg":
                assert "which could not be read when it was packed" in refused(answer)[1]
            else:
                with Image.open(io.BytesIO(answer.content)) as image:
                    assert max(image.size) <= 96


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


CROSS_SITE = {"sec-fetch-site": "cross-site"}
LINK = {**CROSS_SITE, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://attacker.example"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "http://localhost"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1@attacker.example"},
        CROSS_SITE,
        {**CROSS_SITE, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {**LINK, "sec-fetch-dest": "iframe"},
        LINK,  # a form that is sent
    ],
)
def test_other_sites_pages_are_refused(client: TestClient, photos: Path, headers: dict[str, str]) -> None:
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    status, reason = refused(client.post("/v1/search", content=content, headers={"content-type": "text/plain", **headers}))
    assert (status, "other sites" in reason) == (403, True)
    if headers != LINK:
        assert refused(client.get("/v1/lens", headers=headers))[0] == 403


@pytest.mark.parametrize("headers", [{}, LINK, {"sec-fetch-site": "none"}, {"sec-fetch-site": "same-origin"}])
def test_own_page_programs_and_links_are_answered(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/healthz", headers=headers).status_code == 200


def test_own_page_may_search(client: TestClient, photos: Path) -> None:
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    for host in ("127.0.0.1:7860", "localhost:7860"):
        headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
        assert client.post("/v1/search", content=content, headers=headers).status_code == 200


def test_few_photos_are_decoded_at_once(opened: OpenIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, most, lock = 0, 0, threading.Lock()

    def find(*_: object, **__: object) -> list[Result]:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.02)
        with lock:
            at_work -= 1
        return []

    monkeypatch.setattr(OpenIndex, "search", find)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: search(opened, Question(Query(photo=b""))), range(12)))
    assert most == 2


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


def test_index_that_is_removed_and_made_anew_is_taken_up(
    client: TestClient, workspace: Workspace, photos: Path, tiny_run: Path
) -> None:
    assert client.get("/v1/lens").json()["model"] == TINY.fingerprint
    anew = replace(TINY, fingerprint="feedfeedfeedfeed")
    write_tiny_encoder(tiny_run / "new.onnx", anew, seed=1).replace(tiny_run / "encoder.onnx")
    write_tiny_synthesizer(tiny_run / "new.onnx", anew).replace(tiny_run / "synthesizer.onnx")
    shutil.rmtree(workspace.find_index())
    status, reason = refused(client.get("/v1/items?index=photos"))
    assert (status, "it has none" in reason) == (404, True)
    update_index(photos, workspace.index_for_gallery(photos), tiny_run / "encoder.onnx", device="cpu")
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    for index in ("", "&index=photos"):
        answer = client.post(f"/v1/search?k=1{index}", content=content).json()
        assert (answer["model"], answer["results"][0]["path"]) == (anew.fingerprint, "blue-left/1.jpg")
        assert answer["results"][0]["score"] == pytest.approx(1, abs=1e-4)
    assert client.get("/v1/lens?index=photos").json()["model"] == anew.fingerprint


def test_index_that_is_changed_over_to_another_encoder_is_taken_up(
    client: TestClient, workspace: Workspace, photos: Path, tmp_path: Path
) -> None:
    assert client.get("/v1/lens").json()["model"] == TINY.fingerprint
    other = replace(TINY, fingerprint="feedfeedfeedfeed", dimension=48)
    (tmp_path / "other").mkdir()
    write_tiny_synthesizer(tmp_path / "other" / "synthesizer.onnx", other)
    migrate_index(workspace.find_index(), write_tiny_encoder(tmp_path / "other" / "encoder.onnx", other, seed=1), device="cpu")
    answer = client.post("/v1/search?k=1", content=(photos / "blue-left" / "1.jpg").read_bytes()).json()
    assert (answer["model"], answer["results"][0]["path"]) == (other.fingerprint, "blue-left/1.jpg")
    assert answer["results"][0]["score"] == pytest.approx(1, abs=1e-4)
    assert len(client.get("/v1/items").json()["items"]) == 4
    assert client.get("/v1/lens").json()["model"] == other.fingerprint
    (listed,) = client.get("/v1/indexes").json()["indexes"]
    assert (listed["model"], listed["lens"]) == (other.fingerprint, True)
    (tmp_path / "bare").mkdir()
    bare = write_tiny_encoder(tmp_path / "bare" / "encoder.onnx", replace(TINY, fingerprint="bare"), seed=2)
    migrate_index(workspace.find_index(), bare, device="cpu")
    assert "came without a synthesizer" in refused(client.get("/v1/lens"))[1]
    assert client.get("/v1/indexes").json()["indexes"][0]["lens"] is False


def test_request_opens_no_index_but_its_own(client: TestClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    other = workspace.indexes_dir / "other"
    shutil.copytree(workspace.find_index(), other)
    assert client.get("/v1/items?index=photos").status_code == 200
    opened: list[Path] = []
    monkeypatch.setattr(indexing.catalogue, "connect", lambda path: opened.append(path) or indexing.database.connect(path))
    assert client.get("/v1/items?index=photos").status_code == 200
    assert opened == []
    assert client.get("/v1/items?index=other").status_code == 200
    assert opened == [other / CATALOGUE]


def test_index_that_is_being_opened_keeps_no_other_waiting(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(workspace.find_index(), workspace.indexes_dir / "slow")
    begun, go_on = threading.Event(), threading.Event()

    class Slow(OpenIndex):
        def __init__(self, index_dir: Path, *, device: str) -> None:
            if index_dir.name == "slow":
                begun.set()
                assert go_on.wait(30)
            super().__init__(index_dir, device=device)

    monkeypatch.setattr(app.galleries, "OpenIndex", Slow)
    galleries = Galleries(workspace, device="cpu")
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(galleries.index, "slow")
        assert begun.wait(30)
        try:
            assert pool.submit(galleries.index, "photos").result(timeout=30).name == "photos"
        finally:
            go_on.set()
        assert slow.result(timeout=30).name == "slow"
    galleries.close()


def test_page_stores_no_upload(workspace: Workspace) -> None:
    with TestClient(create_app(workspace, device="cpu"), base_url="http://127.0.0.1") as client:
        assert client.get("/").status_code == 200
        for path in ("/gradio_api/upload", "/gradio_api/upload/", "/gradio_api/upload?upload_id=1"):
            assert refused(client.post(path, files={"files": ("evil.html", b"<script>")}))[0] == 404


def test_routes_never_import_torch(workspace: Workspace, photos: Path) -> None:
    script = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from httpx import Response
from app.questions import Question
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
