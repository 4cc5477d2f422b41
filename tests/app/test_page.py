"""The page in a real browser: upload, results, a click on one; and the same answers as everywhere else."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from indexing.search import OpenIndex
from indexing.workspace import Workspace
from tests.app.conftest import search_by
from tools.screenshots import serving

PASTE = """(bytes) => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([new Uint8Array(bytes)], "pasted.jpg", { type: "image/jpeg" }));
    window.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
}"""


def test_upload_and_click(page: Page, photos: Path, opened: OpenIndex) -> None:
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
    page.get_by_role("dialog").get_by_role("button", name="Search from this").click()
    expected = [result.path for result in opened.search_item(second.id, k=20)]
    expect(page.locator("photo-search .card .path")).to_have_text(expected)
    expect(page.locator("photo-search dialog[open]")).to_have_count(0)
    page.go_back()  # to the photo's dialog
    page.go_back()
    expect(page.locator("photo-search .card .path")).to_have_text([str(result["path"]) for result in results])


def test_unreadable_upload_is_said_and_the_next_one_answered(page: Page, photos: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("not a photo")
    page.locator("photo-search input[type=file]").set_input_files(text)
    expect(page.locator("photo-search .notice")).to_contain_text("cannot be searched with")
    expect(page.locator("photo-search .card")).to_have_count(0)
    search_by(page, photos / "blue-left" / "2.jpg")
    expect(page.locator("photo-search .notice")).to_have_count(0)


def test_pasted_photo_is_searched(page: Page, photos: Path) -> None:
    expect(page.locator("photo-search .status")).to_contain_text("20 photos in photos")
    page.evaluate(PASTE, list((photos / "blue-right" / "3.jpg").read_bytes()))
    expect(page.locator("photo-search .card .path").first).to_have_text("blue-right/3.jpg")
    expect(page.locator("photo-search .value").first).to_have_text("1.000")


def test_paste_into_another_tab_searches_nothing(page: Page, photos: Path) -> None:
    expect(page.locator("photo-search .status")).to_contain_text("20 photos in photos")
    page.get_by_role("tab", name="Hardness lens").click()
    expect(page.locator("photo-search")).to_be_hidden()
    page.evaluate(PASTE, list((photos / "blue-right" / "3.jpg").read_bytes()))
    page.get_by_role("tab", name="Search").click()
    expect(page.locator("photo-search .card")).to_have_count(4)  # still one photo of each label
    expect(page.locator("photo-search .status")).to_contain_text("20 photos in photos")


def test_camera_takes_a_query(page: Page) -> None:
    page.get_by_role("button", name="Use the camera").click()
    page.wait_for_function("() => document.querySelector('photo-search').shadowRoot.querySelector('video')?.videoWidth > 0")
    with page.expect_response(lambda response: "/v1/search" in response.url) as answered:
        page.get_by_role("button", name="Take the photo").click()
    assert answered.value.json()["query"] == "camera.jpg"
    expect(page.locator("photo-search .status")).to_contain_text(" ms")
    expect(page.locator("photo-search dialog.camera")).to_have_count(0)


def test_camera_without_a_picture_takes_none_and_can_be_left(page: Page) -> None:
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = async () => new MediaStream(); }")
    page.get_by_role("button", name="Use the camera").click()
    dialog = page.get_by_role("dialog", name="Camera")
    expect(dialog.get_by_role("button", name="Take the photo")).to_be_disabled()
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.locator("photo-search dialog.camera")).to_have_count(0)


def test_buttons_of_a_card_are_named_after_its_photo(page: Page, photos: Path) -> None:
    results = search_by(page, photos / "blue-left" / "2.jpg")
    for result in results[:3]:
        expect(page.get_by_role("button", name=f"Search from {result['path']}", exact=True)).to_have_count(1)
        expect(page.get_by_role("button", name=f"Lens on {result['path']}", exact=True)).to_have_count(1)
    assert page.locator("photo-search output, hardness-lens output").count() == 0


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


@pytest.mark.parametrize("route", ["/v1/indexes", "/v1/items?index=photos"])
def test_what_failed_is_said_and_can_be_tried_again(browser: Browser, address: str, route: str) -> None:
    page = browser.new_page()
    page.route(f"{address}{route}", lambda asked: asked.abort())
    page.goto(address, wait_until="domcontentloaded")
    failed = page.locator("photo-search").get_by_text("The server does not answer")
    expect(failed).to_be_visible(timeout=30_000)
    page.unroute(f"{address}{route}")
    page.locator("photo-search").get_by_role("button", name="Try again").click()
    expect(page.locator("photo-search .status")).to_contain_text("20 photos in photos")
    expect(page.locator("photo-search .card")).to_have_count(4)
    expect(failed).to_have_count(0)
    page.close()


def test_query_belongs_to_its_index(two_indexes: Workspace, page: Page, photos: Path) -> None:
    choice = page.locator("photo-search").get_by_label("Index")
    status, paths = page.locator("photo-search .status"), page.locator("photo-search .card .path")
    expect(choice).to_have_value("photos")
    search_by(page, photos / "blue-right" / "2.jpg")

    with page.expect_response(lambda response: "/v1/search" in response.url) as answered:
        choice.select_option("reds")  # the picture is looked for there as well
    assert answered.value.json()["index"] == "reds"
    expect(status).to_contain_text("index reds")
    expect(paths).to_have_count(10)
    page.go_back()
    expect(status).to_contain_text("index photos")
    expect(choice).to_have_value("photos")

    page.locator("photo-search [data-act=search]").nth(1).click()
    expect(status).to_contain_text("19 photos")
    searches: list[str] = []
    page.on("request", lambda request: searches.append(request.url) if "/v1/search" in request.url else None)
    choice.select_option("reds")  # an item's id means nothing there
    expect(status).to_contain_text("10 photos in reds")
    expect(page.locator("photo-search .preview")).to_be_hidden()
    assert searches == []
    page.go_back()
    expect(status).to_contain_text("19 photos")
    expect(choice).to_have_value("photos")


@pytest.fixture
def foreign_page() -> Iterator[str]:
    """The address of a page of another server, which is another site to a browser."""

    class Foreign(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<!doctype html><p>not ours")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


def test_other_sites_page_searches_nothing_but_may_link_here(browser: Browser, address: str, foreign_page: str) -> None:
    page = browser.new_page()
    page.goto(foreign_page)
    with page.expect_event("requestfailed") as failed:
        page.evaluate(
            "(url) => fetch(url, { method: 'POST', mode: 'no-cors', body: 'x' }).catch(() => null)", f"{address}/v1/search"
        )
    assert "NotSameOrigin" in failed.value.failure  # refused by the server, and the refusal kept from the page
    page.evaluate("(url) => { location = url }", address)
    expect(page.locator("photo-search .card")).to_have_count(4, timeout=30_000)
    page.close()


def test_empty_workspace_shows_the_first_steps(browser: Browser, tmp_path: Path) -> None:
    with serving(Workspace(tmp_path / "empty")) as address:
        page = browser.new_page()
        page.goto(address, wait_until="domcontentloaded")
        expect(page.locator("photo-search")).to_contain_text("hdml index ./gallery", timeout=30_000)
        page.close()
