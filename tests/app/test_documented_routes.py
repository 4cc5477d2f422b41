"""docs/api.md and /openapi.json say what routes do: every example of the one is sent, every route of the other is complete."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from app.server import create_app
from indexing.indexer import update_index
from indexing.workspace import Workspace
from tests.conftest import TINY, write_pooling_encoder

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
CURLS = [call.replace("\\\n", " ") for call in re.findall(r"^    (curl (?:.*\\\n)*.*)$", TEXT, re.MULTILINE)]
SCRIPTS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ROUTES = {"/v1/search", "/v1/search/batch", "/v1/embed", "/v1/why", "/v1/items/{id}", "/v1/indexes", "/v1/labels"}


@pytest.fixture
def client(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A server of photos whose encoder tells regions apart, and two query photos in the working folder."""
    run = tmp_path / "workspace" / "runs" / "pooling"
    run.mkdir(parents=True)
    workspace = Workspace(tmp_path / "workspace")
    update_index(photos, workspace.index_for_gallery(photos), write_pooling_encoder(run, TINY), device="cpu")
    (tmp_path / "query.jpg").write_bytes((photos / "blue-left" / "1.jpg").read_bytes())
    (tmp_path / "other.jpg").write_bytes((photos / "red-right" / "2.jpg").read_bytes())
    monkeypatch.chdir(tmp_path)
    with TestClient(create_app(workspace, device="cpu", page=False), base_url="http://127.0.0.1:7860") as client:
        yield client


def send(client: TestClient, call: str) -> Response:
    """What curl would send."""
    method, address, headers, files, content = "GET", "", {}, [], None
    words = iter(shlex.split(call)[1:])
    for word in words:
        match word:
            case "-X":
                method = next(words)
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "-F":
                name, _, file = next(words).partition("=@")
                files.append((name, (file, Path(file).read_bytes())))
            case "-d" | "--data-binary":
                given = next(words)
                content = Path(given[1:]).read_bytes() if given.startswith("@") else given.encode()
            case _:
                assert not word.startswith("-"), word
                address = word
    if files or content is not None:
        method = "POST"
    return client.request(method, address, headers=headers, files=files or None, content=content)


def test_the_document_has_a_call_in_both_tongues_of_every_route() -> None:
    for route in ROUTES - {"/v1/labels"}:
        shown = route.replace("{id}", "7")
        assert any(re.search(rf"{re.escape(shown)}(?![/\w])", call) for call in CURLS), route
        assert any(re.search(rf'{re.escape(shown)}"', script) for script in SCRIPTS), route


@pytest.mark.parametrize("call", CURLS)
def test_every_documented_curl_is_answered(client: TestClient, call: str) -> None:
    response = send(client, call)
    assert response.status_code == 200, response.text
    for answer in response.json().get("answers", []):
        assert answer["results"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_documented_script_runs(
    client: TestClient, script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "requests", SimpleNamespace(get=client.get, post=client.post))
    exec(script, {})
    assert capsys.readouterr().out.strip()


def test_openapi_tells_all_of_every_route(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert schema["paths"].keys() >= ROUTES
    for route in ROUTES:
        for operation in schema["paths"][route].values():
            assert operation["summary"]
            assert operation["description"]
            answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
            assert "example" in resolved(schema, answer) or route == "/v1/search/batch"
            problem = operation["responses"]["default"]["content"]["application/problem+json"]["schema"]
            assert problem["properties"].keys() == {"type", "title", "status", "detail"}
            assert "422" not in operation["responses"]
            for parameter in operation.get("parameters", []):
                assert parameter["description"], parameter["name"]
    bodies = {
        route: schema["paths"][route]["post"]["requestBody"]["content"] for route in ROUTES if "post" in schema["paths"][route]
    }
    assert "image" in bodies["/v1/search"]["multipart/form-data"]["schema"]["properties"]
    assert {route for route, body in bodies.items() if "application/json" in body} == {
        "/v1/search",
        "/v1/search/batch",
        "/v1/why",
    }


def test_every_reference_of_openapi_leads_somewhere(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()

    def check(part: Any) -> None:
        if isinstance(part, dict):
            if "$ref" in part:
                assert resolved(schema, part)
            for value in part.values():
                check(value)
        elif isinstance(part, list):
            for value in part:
                check(value)

    check(schema)
    assert schema["openapi"].startswith("3.1")


def resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """What a reference within the document stands for."""
    if "$ref" not in part:
        return part
    found = schema
    assert part["$ref"].startswith("#/")
    for name in part["$ref"].split("/")[1:]:
        found = found[name]
    return found


def test_examples_of_json_bodies_are_bodies(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    for route in ("/v1/search", "/v1/search/batch", "/v1/why"):
        body = schema["paths"][route]["post"]["requestBody"]["content"]["application/json"]["schema"]
        for example in body.get("examples", [body.get("example")]):
            response = client.post(route, json=example)
            if "vector" in example:
                assert "must have 32 values" in response.json()["detail"]  # an example of three says what a vector looks like
            else:
                assert response.status_code == 200, response.text
