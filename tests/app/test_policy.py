"""The headers of every answer, and what of Gradio's own routes is left."""

import re
from collections.abc import Iterator

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from starlette.routing import Mount

from app.page_routes import FILES, FOLDER, PAGE
from app.server import create_app
from indexing.workspace import Workspace


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    api = create_app(Workspace(tmp_path_factory.mktemp("empty")), device="cpu")
    with TestClient(api, base_url="http://127.0.0.1") as client:
        yield client
