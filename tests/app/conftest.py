"""An indexed gallery with awkward photos in it, a client of the server's routes, and the page in a browser; none needs torch."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi.testclient import TestClient
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from app.server import create_app
from cli.chromium import FLAGS, find_chromium
from indexing.indexer import update_index
from indexing.search import OpenIndex
from indexing.workspace import Workspace
from tools.screenshots import serving

WIDER_THAN_WINDOW = "() => document.documentElement.scrollWidth - innerWidth"
_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


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
def two_indexes(workspace: Workspace, photos: Path, tmp_path: Path, tiny_run: Path) -> Workspace:
    """Beside the index ``photos``, which is the newest, one of two labels with other ids for the same photos."""
    other = tmp_path / "reds"
    for label in ("red-right", "blue-right"):
        shutil.copytree(photos / label, other / label)
    update_index(other, workspace.index_for_gallery(other), tiny_run / "encoder.onnx", device="cpu")
    update_index(photos, workspace.find_index("photos"), tiny_run / "encoder.onnx", device="cpu")
    return workspace


@pytest.fixture
def opened(workspace: Workspace) -> Iterator[OpenIndex]:
    with OpenIndex(workspace.find_index(), device="cpu") as index:
        yield index


@pytest.fixture
def client(workspace: Workspace) -> Iterator[TestClient]:
    api = create_app(workspace, device="cpu", page=False)
    with TestClient(api, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = find_chromium()  # before Playwright's loop runs, since looking may start one of its own
    assert chromium, "there is no Chromium for the page's tests; install one with: python tools/chromium.py"
    expect.set_options(timeout=20_000)  # milliseconds; a machine may have other work
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, *_CAMERA])
        yield browser
        browser.close()


@pytest.fixture
def address(workspace: Workspace) -> Iterator[str]:
    with serving(workspace, device="cpu") as address:
        yield address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, just opened; fails afterwards when it met an error or asked another host for anything."""
    page = browser.new_page()
    foreign, errors = [], []
    page.on(
        "request",
        lambda request: foreign.append(request.url) if not request.url.startswith((address, "blob:", "data:")) else None,
    )
    page.on("console", lambda message: errors.append(message.text) if is_fault(message) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(30_000)
    page.goto(address, wait_until="domcontentloaded")
    yield page
    page.close()
    assert foreign == []
    assert errors == []


def is_fault(message: ConsoleMessage) -> bool:
    """Whether the page has met an error; a route that refuses, or is busy, browsers report by themselves."""
    refused = "/v1/" in message.location["url"] and re.search(r"status of (4|503)", message.text)
    return message.type == "error" and not refused


def search_by(page: Page, photo: Path) -> list[dict[str, object]]:
    """Choose a photo on the page; the answer that its server gave, when the page shows it."""
    with page.expect_response(lambda response: "/v1/search" in response.url) as answered:
        page.locator("photo-search input[type=file]").set_input_files(photo)
    results: list[dict[str, object]] = answered.value.json()["results"]
    expect(page.locator("photo-search .card .path")).to_have_text([str(result["path"]) for result in results])
    expect(page.locator("photo-search .value")).to_have_text([f"{result['score']:.3f}" for result in results])
    return results


def check_accessible(page: Page) -> None:
    """Nothing that axe-core calls serious or critical."""
    page.wait_for_timeout(300)  # until what fades in is there
    found = Axe().run(page).response["violations"]
    grave = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found if one["impact"] in ("serious", "critical")]
    assert grave == []
