"""A server with a token: nothing but /healthz and the login page without it, on any route, and no way to guess it quickly."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from app.access import COOKIE
from app.server import Service, create_app
from app.tokens import LEAST_TOKEN, SESSION, Token, read_token
from indexing.errors import HdmlError
from indexing.workspace import Workspace

SECRET = "a-secret-for-tests-0123456789"
BEARER = {"Authorization": f"Bearer {SECRET}"}
READS_A_PAGE = {"accept": "text/html,*/*"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The page and all routes behind a token; the client keeps no cookies from test to test."""
    workspace = Workspace(tmp_path_factory.mktemp("guarded"))
    api = create_app(workspace, device="cpu", service=Service(token=Token(SECRET)))
    with TestClient(api, base_url="http://127.0.0.1", follow_redirects=False) as client:
        yield client


@pytest.fixture(autouse=True)
def forgetful(guarded: TestClient) -> None:
    guarded.cookies.clear()


def another(client: TestClient, address: str) -> TestClient:
    """A client at another address."""
    return TestClient(client.app, base_url="http://127.0.0.1", follow_redirects=False, client=(address, 50_000))


def test_every_route_but_healthz_needs_the_token(guarded: TestClient) -> None:
    paths = ["/", "/openapi.json", "/readyz", "/metrics", "/image/1", "/page/page.js", "/theme.css", "/config"]
    paths += ["/v1/indexes", "/v1/search", "/gradio_api/upload", "/gradio_api/queue/data", "/static/x", "/assets/x", "/nowhere"]
    for path in [*paths, "//healthz", "/healthz/", "/healthz/../metrics", "/login/../metrics"]:
        for method in ("GET", "POST", "HEAD", "PUT", "OPTIONS"):
            assert guarded.request(method, path).status_code == 401, (method, path)
    answer = guarded.get("/v1/indexes")
    assert answer.headers["www-authenticate"] == 'Bearer realm="hdml"'
    assert "Authorization: Bearer" in answer.json()["detail"]
    assert guarded.get("/healthz").json() == {"status": "ok"}


def test_websockets_need_the_token(guarded: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), guarded.websocket_connect("/gradio_api/queue/join"):
        pass


def test_programs_are_answered_with_the_token(guarded: TestClient) -> None:
    for scheme in ("Bearer", "bearer"):
        answer = guarded.get("/v1/indexes", headers={"Authorization": f"{scheme} {SECRET}"})
        assert answer.json() == {"indexes": []}
    wrong = ("", SECRET[:-1], f"{SECRET}x", "\u00e9".encode().decode("latin-1"))
    for number, token in enumerate(wrong):
        elsewhere = another(guarded, f"198.51.100.{number}")
        assert elsewhere.get("/v1/indexes", headers={"Authorization": f"Bearer {token}".encode("latin-1")}).status_code == 401
    assert guarded.get("/v1/indexes", headers={"Authorization": f"Basic {SECRET}"}).status_code == 401


def test_person_logs_in_and_comes_back_to_what_was_asked(guarded: TestClient) -> None:
    led = guarded.get("/?index=photos&k=5", headers=READS_A_PAGE)
    assert led.status_code == 303
    form = guarded.get(led.headers["location"])
    assert (form.status_code, form.headers["cache-control"]) == (200, "no-store")
    wanted = re.search(r'name="next" value="([^"]*)"', form.text)
    assert wanted is not None
    assert wanted[1] == "/?index=photos&amp;k=5"
    done = guarded.post("/login", data={"token": SECRET, "next": "/?index=photos&k=5"})
    assert (done.status_code, done.headers["location"]) == (303, "/?index=photos&k=5")
    cookie = done.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={SESSION}"):
        assert part in cookie
    assert "Secure" not in cookie  # this is http
    assert SECRET not in cookie
    assert guarded.get("/", headers=READS_A_PAGE).status_code == 200
    assert guarded.get("/page/page.js").status_code == 200
    assert guarded.post("/logout").status_code == 303
    assert guarded.get("/page/page.js").status_code == 401


def test_cookie_is_secure_where_the_page_came_by_https(guarded: TestClient) -> None:
    done = guarded.post("https://127.0.0.1/login", data={"token": SECRET})
    assert "Secure" in done.headers["set-cookie"]


def test_link_from_another_site_finds_the_session(guarded: TestClient) -> None:
    """A strict cookie does not come with it; the login page asks for itself again, and then it does."""
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    first = guarded.get("/login?next=/%3Fk%3D5", headers=link)
    assert 'http-equiv="refresh" content="0; url=/login?next=%2F%3Fk%3D5"' in first.text
    guarded.post("/login", data={"token": SECRET})
    assert guarded.get("/login?next=/%3Fk%3D5").headers["location"] == "/?k=5"
    guarded.cookies.clear()
    assert "refresh" not in guarded.get("/login?next=/%3Fk%3D5", headers={"sec-fetch-site": "same-origin"}).text


@pytest.mark.parametrize(
    "wanted", ["//attacker.example", "https://attacker.example", "/\\attacker.example", "page", "", "/\nx: y"]
)
def test_login_leads_nowhere_else(guarded: TestClient, wanted: str) -> None:
    assert guarded.post("/login", data={"token": SECRET, "next": wanted}).headers["location"] == "/"


def test_login_page_escapes_what_it_is_given(guarded: TestClient) -> None:
    form = guarded.get("/login", params={"next": '/"><script>alert(1)</script>'})
    assert "<script" not in form.text
    assert "default-src 'none'" in form.headers["content-security-policy"]


def test_forged_or_expired_sessions_are_refused() -> None:
    token, now = Token(SECRET), 1_800_000_000.0
    session = token.new_session(now=now)
    assert SECRET not in session
    assert token.is_session(session, now=now + SESSION - 1)
    assert not token.is_session(session, now=now + SESSION)
    until, signature = session.split(".")
    for forged in ("", ".", f"{int(until) + 1}.{signature}", f"{until}.", f"{until}.{signature[:-1]}0", f"é.{signature}", until):
        assert not token.is_session(forged, now=now)
    assert not Token(SECRET + "x").is_session(session, now=now)


def test_forged_cookie_opens_nothing(guarded: TestClient) -> None:
    for value in (SECRET, f"{int(time.time()) + 1000}.00", "\u00e9"):
        headers = [(b"cookie", f"{COOKIE}={value}".encode("latin-1"))]
        assert guarded.get("/v1/indexes", headers=headers).status_code == 401


def test_guessing_is_slowed_down_and_others_are_not(guarded: TestClient) -> None:
    guesser = another(guarded, "203.0.113.7")
    statuses = [guesser.get("/v1/indexes", headers={"Authorization": f"Bearer guess-{n}"}).status_code for n in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert int(guesser.post("/login", data={"token": SECRET}).headers["retry-after"]) >= 1  # right at last, and too late
    assert another(guarded, "203.0.113.8").get("/v1/indexes", headers=BEARER).status_code == 200


def test_wrong_token_on_the_login_page_is_said(guarded: TestClient) -> None:
    answer = another(guarded, "203.0.113.9").post("/login", data={"token": "wrong"})
    assert (answer.status_code, "not the token" in answer.text) == (403, True)
    assert "set-cookie" not in answer.headers


def test_weak_tokens_are_refused(tmp_path: Path) -> None:
    for weak in ("", "x" * (LEAST_TOKEN - 1), "with a space in it", "é" * LEAST_TOKEN):
        with pytest.raises(HdmlError, match=f"at least {LEAST_TOKEN}"):
            Token(weak)
    (tmp_path / "token").write_text(f"{SECRET}\n")
    assert read_token(tmp_path / "token").matches(SECRET)
    with pytest.raises(HdmlError, match="token file"):
        read_token(tmp_path / "none")


def test_api_alone_has_no_login_page(tmp_path: Path) -> None:
    api = create_app(Workspace(tmp_path), device="cpu", page=False, service=Service(token=Token(SECRET)))
    with TestClient(api, base_url="http://127.0.0.1", follow_redirects=False) as client:
        assert client.get("/", headers=READS_A_PAGE).status_code == 401
        assert client.get("/login").status_code == 404
        assert client.get("/", headers=BEARER).status_code == 404
        assert client.get("/v1/indexes", headers=BEARER).status_code == 200


def test_names_that_were_given_are_answered_and_no_others(tmp_path: Path) -> None:
    api = create_app(Workspace(tmp_path), device="cpu", page=False, service=Service(names=("photos.example", "[fd00::1]")))
    with TestClient(api, base_url="http://127.0.0.1") as client:
        for host in ("photos.example", "PHOTOS.example:8080", "[fd00::1]:7860", "localhost:7860", "[::1]:7860"):
            assert client.get("/healthz", headers={"host": host}).status_code == 200, host
        for host in ("attacker.example", "photos.example.attacker.example", "photos.example@x", "", "127.0.0.1.attacker.example"):
            refused = client.get("/healthz", headers={"host": host})
            assert (refused.status_code, "--name" in refused.json()["detail"]) == (400, True), host
