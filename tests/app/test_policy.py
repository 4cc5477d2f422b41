"""The headers of every answer, and what of Gradio's own routes is left."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute, Mount, Route

from app.page_routes import ASSET, FILES, PAGE, PageRoutesOnly
from app.server import create_app
from indexing.workspace import Workspace


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    api = create_app(Workspace(tmp_path_factory.mktemp("empty")), device="cpu")
    with TestClient(api, base_url="http://127.0.0.1") as client:
        yield client


def routes_in(routes: Sequence[BaseRoute]) -> Iterator[Route]:
    """All routes, those of included routers too."""
    for route in routes:
        if isinstance(route, Route):
            yield route
        included = getattr(route, "original_router", None)  # FastAPI's own class, which has no public name
        yield from routes_in(included.routes if included is not None else getattr(route, "routes", None) or ())


def gradio_routes(client: TestClient) -> list[tuple[str, str]]:
    """Method and path of every route that Gradio brings."""
    (mounted,) = [one for one in client.app.routes if isinstance(one, Mount) and isinstance(one.app, PageRoutesOnly)]
    return [(method, route.path) for route in routes_in(mounted.routes) for method in route.methods or ()]


def test_only_what_the_page_is_made_of_is_left_of_gradio(client: TestClient) -> None:
    routes = gradio_routes(client)
    assert len(routes) > 50
    for known in ("/upload", "/file={path_or_url:path}", "/queue/join", "/proxy={url_path:path}"):
        assert any(path.endswith(known) for _, path in routes)
    answered = set()
    for method, path in routes:
        for prefix in ("", "/gradio_api"):
            filled = prefix + re.sub(r"\{[^}]*\}", "x", path)
            answer = client.request(method, filled, files={"files": ("x.html", b"<script>")} if method == "POST" else None)
            if filled in (PAGE, *FILES) or ASSET.fullmatch(filled):
                answered.add(filled)
            else:
                # /favicon.ico and /openapi.json are ours.
                ours = method in ("GET", "HEAD") and filled in ("/favicon.ico", "/openapi.json")
                assert answer.status_code in ((200, 405) if ours else (404, 405)), (method, filled)
    assert PAGE in answered


def test_gradio_keeps_no_file_that_is_sent(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    for path in ("/gradio_api/upload", "/upload", "/gradio_api/upload/", "/gradio_api/upload?upload_id=1", "//gradio_api/upload"):
        assert client.post(path, files={"files": ("evil.html", b"<script>")}).status_code == 404
    assert list(tmp_path.iterdir()) == []


def test_files_of_gradio_are_those_of_its_page_alone(client: TestClient) -> None:
    for path in ("/assets/../config", "/assets/%2e%2e/%2e%2e/index.html", "/assets//etc/passwd", "/assets/..%2f..%2findex.html"):
        assert client.get(path).status_code in (403, 404), path
    assert client.get(f"/assets/{'a' * 3000}").status_code == 404  # no system has such names


def policy_of(header: str) -> dict[str, str]:
    return dict(directive.split(" ", 1) for directive in header.split("; "))


def test_page_runs_only_scripts_of_this_answer(client: TestClient) -> None:
    first, second = client.get("/"), client.get("/", headers={"accept-encoding": "br, gzip"})
    nonces = []
    for page in (first, second):
        policy = policy_of(page.headers["content-security-policy"])
        assert (policy["default-src"], policy["object-src"], policy["frame-ancestors"]) == ("'self'", "'none'", "'none'")
        given = re.fullmatch(r"'self' 'nonce-([\w-]{20,})' 'unsafe-eval'", policy["script-src"])
        assert given is not None
        assert not any("http" in sources for sources in policy.values())
        tags = re.findall(r"<script[\s>][^>]*", page.text)
        assert len(tags) > 3
        assert all(f'nonce="{given[1]}"' in tag for tag in tags)
        assert int(page.headers["content-length"]) == len(page.content)
        nonces.append(given[1])
    assert nonces[0] != nonces[1]
    assert first.headers["cache-control"] == "no-store"
    head = client.head("/")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path", ["/v1/indexes", "/v1/nothing", "/page/page.js", "/image/x", "/healthz", "/theme.css", "/nowhere"]
)
def test_what_is_no_page_may_do_nothing_in_a_browser(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_refusals_have_the_headers_too(client: TestClient) -> None:
    for headers, status in (({"host": "attacker.example"}, 400), ({"origin": "https://attacker.example"}, 403)):
        refused = client.get("/v1/indexes", headers=headers)
        assert (refused.status_code, refused.headers["x-content-type-options"]) == (status, "nosniff")
        assert refused.headers["content-type"] == "application/problem+json"


def test_unknown_routes_are_problems(client: TestClient) -> None:
    for method, path, status in (("GET", "/nowhere", 404), ("DELETE", "/v1/indexes", 404), ("POST", "/v1/none", 404)):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
