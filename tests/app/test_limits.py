"""What one client may ask, what all may have under way, and how slowly or largely a body may come."""

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient
from PIL import Image

import app.clients
import app.limits
from app.clients import client_of
from app.galleries import Galleries
from app.limits import BURST, Bounded, Buckets, RateLimit
from app.metrics import Metrics
from app.server import Service, create_app
from app.thumbnails import Thumbnails
from indexing.search import Result
from indexing.workspace import Workspace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_bucket_fills_again_with_time() -> None:
    clock = Clock()
    buckets = Buckets(2.0, 4.0, clock=clock)
    for _ in range(4):
        assert buckets.wait("a") == 0
        buckets.take("a")
    assert buckets.wait("a") == pytest.approx(0.5)
    assert buckets.wait("b") == 0
    clock.now += 0.5
    assert buckets.wait("a") == 0
    clock.now += 3600
    for _ in range(4):
        buckets.take("a")
    assert buckets.wait("a") > 0


def test_only_so_many_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.limits, "MOST", 3)
    buckets = Buckets(1.0, 1.0, clock=Clock())
    for client in "abcd":
        buckets.take(client)
    assert [buckets.wait(client) for client in "abcd"] == [0, 1, 1, 1]


def test_clients_of_one_ipv6_network_are_one() -> None:
    first, second, other = ({"client": (host, 1)} for host in ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"))
    assert client_of(first) == client_of(second) != client_of(other)
    assert client_of({"client": ("::1", 1)}) == "::1"
    assert client_of({"client": None}) == "unknown"


def ask(rate: RateLimit, host: str, path: str) -> tuple[int, dict[bytes, bytes]]:
    """Status and headers of an answer to a client."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "client": (host, 1)}
    asyncio.run(rate(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"])


async def answers(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


def test_client_that_asks_too_much_is_told_to_wait() -> None:
    clock = Clock()
    rate = RateLimit(answers, rate=2.0, clock=clock)
    statuses = [ask(rate, "203.0.113.1", "/v1/indexes")[0] for _ in range(int(2 * BURST) + 2)]
    assert statuses == [200] * int(2 * BURST) + [429] * 2
    assert ask(rate, "203.0.113.1", "/v1/indexes")[1][b"retry-after"] == b"1"
    assert ask(rate, "203.0.113.2", "/v1/indexes")[0] == 200
    clock.now += 1
    assert ask(rate, "203.0.113.1", "/v1/indexes")[0] == 200


def test_thumbnails_count_less_and_this_machine_not_at_all() -> None:
    rate = RateLimit(answers, rate=1.0, clock=Clock())
    assert [ask(rate, "203.0.113.1", "/image/1")[0] for _ in range(101)].index(429) == 100
    for host in ("127.0.0.1", "::1"):
        assert {ask(rate, host, "/v1/indexes")[0] for _ in range(100)} == {200}


def test_rate_can_be_without_limit(tmp_path: Path) -> None:
    for rate, refused in ((0.0, False), (0.1, True)):
        api = create_app(Workspace(tmp_path), device="cpu", page=False, service=Service(rate=rate))
        with TestClient(api, base_url="http://127.0.0.1", client=("203.0.113.1", 1)) as client:
            assert (429 in [client.get("/v1/indexes").status_code for _ in range(5)]) == refused


def test_busy_server_says_so_and_health_is_answered(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def find(*_: object, **__: object) -> list[Result]:
        begun.release()
        assert go_on.wait(30)
        return []

    monkeypatch.setattr("indexing.search.OpenIndex.search", find)
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    api = create_app(workspace, device="cpu", page=False, service=Service(at_once=2))
    with TestClient(api, base_url="http://127.0.0.1") as client:
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(client.post("/v1/search", content=content).status_code))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
            assert begun.acquire(timeout=30)
        try:
            refused = client.post("/v1/search", content=content)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert "busy" in refused.json()["detail"]
            assert client.get("/healthz").status_code == 200
            assert "hdml_requests_under_way 2.0" in client.get("/metrics").text
        finally:
            go_on.set()
        for thread in threads:
            thread.join()
        assert statuses == [200, 200]
        assert client.post("/v1/search", content=content).status_code == 200
        assert "hdml_requests_under_way 0.0" in client.get("/metrics").text


def test_large_bodies_are_refused_whatever_the_route(client: TestClient, monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    monkeypatch.setattr(app.limits, "MAX_BODY", len(content) - 1)
    assert client.post("/v1/search", content=content).status_code == 413
    monkeypatch.setattr(app.limits, "MAX_BODY", len(content))
    monkeypatch.setattr(app.limits, "_ALL_BODIES", len(content) - 1)
    busy = client.post("/v1/search", content=content)
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
    monkeypatch.setattr(app.limits, "_ALL_BODIES", len(content))
    for _ in range(3):  # what is done holds nothing any more
        assert client.post("/v1/search", content=content).status_code == 200


@pytest.mark.parametrize(("silence", "whole"), [(0.05, 30.0), (30.0, 0.2)])
def test_body_that_comes_too_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch, silence: float, whole: float) -> None:
    monkeypatch.setattr(app.limits, "SILENCE", silence)
    monkeypatch.setattr(app.limits, "WHOLE_BODY", whole)
    received = 0

    async def receive() -> Any:
        nonlocal received
        received += 1
        await asyncio.sleep(0.001 if received < 3 or silence > whole else 30)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def read_all(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass

    async def send(_: Any) -> None:
        raise AssertionError("nothing is to be answered by the middleware itself")

    bounded = Bounded(read_all, metrics=Metrics(Galleries(Workspace(Path("none"))), Thumbnails(Path("none"))))
    scope = {"type": "http", "method": "POST", "path": "/v1/search", "headers": []}
    with pytest.raises(HTTPException, match="must come within") as raised:
        asyncio.run(bounded(scope, receive, send))
    assert raised.value.status_code == 408
    assert received >= 3


def test_photo_of_60_megapixels_is_searched_with(client: TestClient) -> None:
    large = io.BytesIO()
    Image.new("RGB", (9000, 6700), "royalblue").save(large, "JPEG")
    assert client.post("/v1/search?k=1", content=large.getvalue()).status_code == 200
