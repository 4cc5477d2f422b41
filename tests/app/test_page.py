"""The page in a real browser: upload, results, a click on one, the lens; and the same answers as everywhere else."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from app.server import create_app
from cli.chromium import find_chromium
from indexing.search import OpenIndex
from indexing.workspace import Workspace

FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
PASTE = """(bytes) => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([new Uint8Array(bytes)], "pasted.jpg", { type: "image/jpeg" }));
    window.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*FLAGS, *CAMERA])
        yield browser
        browser.close()


@contextmanager
def serving(workspace: Workspace) -> Iterator[str]:
    """The address of the real server over a workspace, on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(create_app(workspace, device="cpu"), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.05)
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def address(workspace: Workspace) -> Iterator[str]:
    with serving(workspace) as address:
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
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(30_000)
    page.goto(address, wait_until="domcontentloaded")
    yield page
    page.close()
    assert foreign == []
    # A refused upload is answered with a 422, which the browser reports by itself.
    assert [error for error in errors if "422 (Unprocessable" not in error] == []


def search_by(page: Page, photo: Path) -> list[dict[str, object]]:
    """Choose a photo on the page; the answer that its server gave, when the page shows it."""
    with page.expect_response(lambda response: "/v1/search" in response.url) as answered:
        page.locator("photo-search input[type=file]").set_input_files(photo)
    results: list[dict[str, object]] = answered.value.json()["results"]
    expect(page.locator("photo-search .card .path")).to_have_text([str(result["path"]) for result in results])
    expect(page.locator("photo-search output")).to_have_text([f"{result['score']:.3f}" for result in results])
    return results


def test_upload_click_and_lens(page: Page, photos: Path, opened: OpenIndex) -> None:
    expect(page.locator("photo-search .status")).to_contain_text("20 photos in photos")
    results = search_by(page, photos / "blue-left" / "2.jpg")
    assert results[0]["path"] == "blue-left/2.jpg"
    expect(page.locator("photo-search .status")).to_contain_text(f"model {opened.model}, index photos")
    expect(page.locator("photo-search .status")).to_contain_text(" ms")
    page.wait_for_function(
        "() => [...document.querySelector('photo-search').shadowRoot.querySelectorAll('.card img')].slice(0, 3)"
        ".every((img) => img.complete && img.naturalWidth > 0)"
    )

    second = opened.catalogue.item(int(str(results[1]["id"])))
    page.locator("photo-search .card .photo").nth(1).click()
    expected = [result.path for result in opened.search_item(second.id, k=20)]
    expect(page.locator("photo-search .card .path")).to_have_text(expected)
    page.get_by_role("button", name="Back").click()
    expect(page.locator("photo-search .card .path")).to_have_text([str(result["path"]) for result in results])

    page.locator("photo-search .card .lens").nth(1).click()
    expect(page.locator("hardness-lens .status")).to_contain_text(f"{second.path} · λ = 0.500")
    expect(page.locator("hardness-lens tbody tr")).to_have_count(3)
    # The figure's layers: pictures of anchor, positive and negatives, and a point per synthetic.
    expect(page.locator("hardness-lens .plot image")).to_have_count(5)
    assert page.locator("hardness-lens .plot .scatterlayer .trace").count() >= 6
    page.locator("hardness-lens tbody th button").first.click()
    expect(page.locator("hardness-lens .status")).not_to_contain_text(second.path)


def test_unreadable_upload_is_said_and_the_next_one_answered(page: Page, photos: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("not a photo")
    page.locator("photo-search input[type=file]").set_input_files(text)
    expect(page.locator("photo-search .status.failed")).to_contain_text("cannot be searched with")
    expect(page.locator("photo-search .card")).to_have_count(0)
    search_by(page, photos / "blue-left" / "2.jpg")
    expect(page.locator("photo-search .status.failed")).to_have_count(0)


def test_pasted_photo_is_searched(page: Page, photos: Path) -> None:
    expect(page.locator("photo-search .status")).to_contain_text("20 photos in photos")
    page.evaluate(PASTE, list((photos / "blue-right" / "3.jpg").read_bytes()))
    expect(page.locator("photo-search .card .path").first).to_have_text("blue-right/3.jpg")
    expect(page.locator("photo-search output").first).to_have_text("1.000")


def test_camera_takes_a_query(page: Page) -> None:
    page.get_by_role("button", name="Use the camera").click()
    page.wait_for_function("() => document.querySelector('photo-search').shadowRoot.querySelector('video')?.videoWidth > 0")
    with page.expect_response(lambda response: "/v1/search" in response.url) as answered:
        page.get_by_role("button", name="Take the photo").click()
    assert answered.value.json()["query"] == "camera.jpg"
    expect(page.locator("photo-search .status")).to_contain_text(" ms")
    expect(page.locator("photo-search dialog")).to_have_count(0)


def test_name_with_markup_is_shown_as_text(page: Page, photos: Path) -> None:
    content = (photos / "blue-left" / "2.jpg").read_bytes()
    hostile = {"name": "<img src=x onerror=alert(1)>.jpg", "mimeType": "image/jpeg", "buffer": content}
    page.locator("photo-search input[type=file]").set_input_files(hostile)
    expect(page.locator("photo-search .status")).to_contain_text(" ms")
    assert page.locator("photo-search img[src=x]").count() == 0


@pytest.mark.parametrize("name", ["blue-left/2.jpg", "red-right/0.jpg", "green-left/clear.png"])
def test_command_line_rest_and_page_answer_alike(page: Page, address: str, workspace: Workspace, photos: Path, name: str) -> None:
    query = photos / name  # a plain photo, one turned by EXIF, one with transparency
    hdml = Path(sys.executable).with_name("hdml")
    command = [hdml, "search", query, "-k", "20", "--json", "--workspace", workspace.root]
    by_command = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["results"]
    with query.open("rb") as file:
        by_rest = httpx.post(f"{address}/v1/search?k=20", files={"image": file}).json()["results"]
    by_page = search_by(page, query)
    assert by_command == by_rest == by_page
    assert by_command[0]["path"] == name


def test_empty_workspace_shows_the_first_steps(browser: Browser, tmp_path: Path) -> None:
    with serving(Workspace(tmp_path / "empty")) as address:
        page = browser.new_page()
        page.goto(address, wait_until="domcontentloaded")
        expect(page.locator("photo-search")).to_contain_text("hdml index ./gallery", timeout=30_000)
        page.close()
