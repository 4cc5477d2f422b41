"""Readiness, what is counted, the log's lines, and searches that go on while an index or its encoder changes."""

import json
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.galleries import Galleries, warm
from app.request_log import configure_logging, logger
from app.server import Service, create_app
from app.tokens import Token
from indexing.indexer import update_index
from indexing.migration import migrate_index
from indexing.search import OpenIndex
from indexing.workspace import Workspace
from tests.conftest import TINY, draw_photo, write_tiny_encoder

SECRET = "a-secret-for-tests-0123456789"


def counted(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of /metrics, by its name and labels."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.text))
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def test_ready_once_index_and_encoder_are_open(client: TestClient, opened: OpenIndex) -> None:
    assert client.get("/readyz").json() == {"status": "ready", "index": "photos", "model": opened.model}


def test_not_ready_without_an_index_or_its_encoder(client: TestClient, opened: OpenIndex, tmp_path: Path) -> None:
    with TestClient(create_app(Workspace(tmp_path / "empty"), device="cpu", page=False), base_url="http://127.0.0.1") as empty:
        answer = empty.get("/readyz")
        assert (answer.status_code, "hdml index" in answer.json()["detail"]) == (503, True)
        assert empty.get("/healthz").status_code == 200
    opened.catalogue.encoder_of(opened.model).unlink()
    assert client.get("/readyz").status_code == 503


def test_warm_galleries_have_their_index_open_before_anybody_asks(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = threading.Event()
    encoder_of = OpenIndex.encoder_of

    def note(*arguments: object) -> object:
        found = encoder_of(*arguments)  # type: ignore[arg-type]
        loaded.set()
        return found

    monkeypatch.setattr(OpenIndex, "encoder_of", note)
    galleries = Galleries(workspace, device="cpu")
    warm(galleries)
    assert loaded.wait(30)
    galleries.close()


def test_requests_are_counted_by_route_and_nothing_that_a_client_sends_is_a_label(client: TestClient, photos: Path) -> None:
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    for _ in range(3):
        client.post("/v1/search?k=1&path=secret*", content=content)
    client.post("/v1/search", content=b"no photo")
    client.get("/image/1")
    client.get("/image/1")
    client.get("/secret/../secret")
    client.request("SECRET", "/v1/indexes")
    found = counted(client)
    labels = [("hdml_requests_total", {"method": "POST", "route": "/v1/search", "status": status}) for status in ("200", "422")]
    assert [found[name, frozenset(each.items())] for name, each in labels] == [3, 1]
    route = ("route", "/v1/search")
    assert found["hdml_request_seconds_count", frozenset([route])] == 4
    assert found["hdml_request_seconds_bucket", frozenset([route, ("le", "+Inf")])] == 4
    assert found["hdml_thumbnails_total", frozenset([("cache", "hit")])] == 1
    assert found["hdml_thumbnails_total", frozenset([("cache", "miss")])] == 1
    assert "secret" not in client.get("/metrics").text.lower()


def test_generation_of_an_index_is_told(
    client: TestClient, workspace: Workspace, photos: Path, tiny_run: Path, opened: OpenIndex
) -> None:
    labels = frozenset([("index", "photos"), ("model", opened.model)])
    assert ("hdml_index_items", labels) not in counted(client)  # nothing is opened for it
    client.get("/readyz")
    before = counted(client)
    (photos / "blue-left" / "1.jpg").unlink()
    update_index(photos, workspace.find_index(), tiny_run / "encoder.onnx", device="cpu")
    after = counted(client)
    assert (before["hdml_index_items", labels], after["hdml_index_items", labels]) == (20, 19)
    assert after["hdml_index_generation", labels] > before["hdml_index_generation", labels]


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the server's log writes, as JSON."""
    written: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(self.format(record))

    root, handler = logging.getLogger(), Kept()
    others, level = root.handlers[:], logger.level
    root.handlers[:] = [handler]
    configure_logging("json")
    yield written
    root.handlers[:] = others
    logger.setLevel(level)


def test_request_is_one_line_that_tells_no_question_and_no_token(lines: list[str], workspace: Workspace, photos: Path) -> None:
    api = create_app(workspace, device="cpu", service=Service(token=Token(SECRET)))
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    with TestClient(api, base_url="http://127.0.0.1", follow_redirects=False) as client:
        headers = {"Authorization": f"Bearer {SECRET}", "X-Request-ID": "proxy-17"}
        answer = client.post("/v1/search?k=1&path=*whom*", content=content, headers=headers)
        client.get("/v1/search/whom?token=whom", headers={"X-Request-ID": "line\u00e9 break".encode()})
        client.post("/login", data={"token": SECRET, "next": "/?whom"})
    assert answer.headers["x-request-id"] == "proxy-17"
    first, second, third = map(json.loads, lines)
    assert set(first) == {"time", "level", "message", "id", "client", "method", "route", "status", "ms", "bytes"}
    assert (first["id"], first["method"], first["route"], first["status"]) == ("proxy-17", "POST", "/v1/search", 200)
    assert first["bytes"] == len(answer.content)
    assert first["ms"] > 0
    assert (second["route"], second["status"]) == ("other", 401)
    assert re.fullmatch(r"[0-9a-f]{16}", second["id"])
    assert (third["route"], third["status"]) == ("/login", 303)
    for hidden in (SECRET, "whom", "blue-left"):
        assert hidden not in "".join(lines)


def test_fault_is_logged_under_the_id_that_the_client_is_told(
    lines: list[str], client: TestClient, monkeypatch: pytest.MonkeyPatch, photos: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("indexing.search.OpenIndex.search", fail)
    answer = client.post("/v1/search", content=(photos / "blue-left" / "1.jpg").read_bytes())
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "fault of ours" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    told, line = map(json.loads, lines)
    assert "RuntimeError: a fault of ours" in told["traceback"]
    assert answer.headers["x-request-id"] in told["message"]
    assert answer.headers["x-request-id"] in answer.json()["detail"]
    assert line["status"] == 500


def test_searches_go_on_while_photos_and_the_encoder_change(
    client: TestClient, workspace: Workspace, photos: Path, tiny_run: Path, tmp_path: Path
) -> None:
    """Four clients ask without a pause: every answer is right for the model that it names, and the last are of the new one."""
    import numpy as np

    query = (photos / "blue-left" / "2.jpg").read_bytes()
    done, wrong = threading.Event(), []
    models: list[str] = []

    def ask() -> None:
        while not done.is_set():
            answer = client.post("/v1/search?k=1", content=query)
            body = answer.json()
            if (
                answer.status_code != 200
                or body["results"][0]["path"] != "blue-left/2.jpg"
                or body["results"][0]["score"] < 0.9999
            ):
                wrong.append((answer.status_code, body))
            else:
                models.append(body["model"])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        rng = np.random.default_rng(3)
        for number in range(5):
            draw_photo("goldenrod", 0.5, rng).save(photos / "red-right" / f"new-{number}.jpg")
            update_index(photos, workspace.find_index(), tiny_run / "encoder.onnx", device="cpu")
        other = replace(TINY, fingerprint="feedfeedfeedfeed", dimension=48)
        migrate_index(workspace.find_index(), write_tiny_encoder(tmp_path / "other.onnx", other, seed=1), device="cpu")
        last = client.post("/v1/search?k=1", content=query).json()["model"]
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert last == other.fingerprint
    assert TINY.fingerprint in models
    assert client.get("/readyz").json()["model"] == other.fingerprint
