"""An indexed gallery with awkward photos in it, and a client of the server's routes; none of it needs torch or the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.server import create_app
from indexing.indexer import update_index
from indexing.search import OpenIndex
from indexing.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path, photos: Path, tiny_run: Path) -> Workspace:
    """A workspace with the run ``tiny`` and the index ``photos``, of twenty photos, one turned by EXIF, one a transparent PNG."""
    turned = Image.open(photos / "red-right" / "0.jpg").rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    turned.save(photos / "red-right" / "0.jpg", exif=exif, quality=95)
    clear = Image.open(photos / "green-left" / "0.jpg").convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(photos / "green-left" / "clear.png")
    (photos / "green-left" / "0.jpg").unlink()
    place = Workspace(tmp_path / "workspace")
    update_index(photos, place.index_for_gallery(photos), tiny_run / "encoder.onnx", device="cpu")
    return place


@pytest.fixture
def opened(workspace: Workspace) -> Iterator[OpenIndex]:
    with OpenIndex(workspace.find_index(), device="cpu") as index:
        yield index


@pytest.fixture
def client(workspace: Workspace) -> Iterator[TestClient]:
    api = create_app(workspace, device="cpu", page=False)
    with TestClient(api, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client
