"""The whole way through the page, by pointer and by keyboard alone: photo, results, more like one, detail, lens, λ, numbers."""

import json
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Download, Locator, Page, expect

from indexing.search import OpenIndex
from tests.app.conftest import search_by

# What has the focus, with its name, in whichever shadow root it lies.
FOCUSED = """() => {
    let element = document.activeElement;
    while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
    return element?.ariaLabel ?? element?.textContent.trim() ?? "";
}"""
MOST = 60  # presses of Tab that anything of the page may be away


@pytest.fixture
def page(page: Page) -> Page:
    """The page, whose tabs answer, and whose choosers of files come to the test from the start."""
    page.on("filechooser", lambda _: None)  # else Playwright asks for them only with the key that opens one, and may be too late
    expect(page.locator("photo-search .card")).to_have_count(4)
    return page


def tab_to(page: Page, name: str, *, key: str = "Tab") -> None:
    """Press Tab, or Shift+Tab, until something of a name has the focus."""
    seen = []
    for _ in range(MOST):
        page.keyboard.press(key)
        seen.append(page.evaluate(FOCUSED))
        if seen[-1] == name:
            return
    raise AssertionError(f"Tab does not reach {name!r} but {seen}")


def check_numbers(address: str, saved: Download, opened: OpenIndex, path: str) -> None:
    """The file holds what the route answers about an item."""
    anchor = opened.catalogue.item_at(path)
    assert anchor is not None
    assert saved.suggested_filename == f"lens-{anchor.id}.json"
    assert json.loads(Path(saved.path()).read_text()) == httpx.get(f"{address}/v1/lens?anchor={anchor.id}").json()


def slider(page: Page) -> Locator:
    return page.locator("hardness-lens").get_by_role("slider", name="λ")


def test_from_a_photo_to_the_numbers_of_the_lens(page: Page, address: str, opened: OpenIndex, photos: Path) -> None:
    results = search_by(page, photos / "blue-left" / "2.jpg")
    liked = results[2]["path"]
    with page.expect_response(lambda response: "more=" in response.url) as answered:
        page.locator("photo-search .card").nth(2).hover()
        page.get_by_role("button", name=f"More like {liked}", exact=True).click()
    moved = [str(result["path"]) for result in answered.value.json()["results"]]
    expect(page.locator("photo-search .card .path")).to_have_text(moved)
    page.locator("photo-search .photo").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".path")).to_have_text(moved[0])
    expect(dialog.locator(".neighbour")).to_have_count(12)
    dialog.get_by_role("button", name="Lens").click()
    expect(page.locator("hardness-lens .status")).to_contain_text(moved[0])
    slider(page).fill("0.8")
    expect(page.locator("hardness-lens .hero .value")).to_have_text("λ = 0.80")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the numbers").click()
    check_numbers(address, download.value, opened, moved[0])


def test_the_same_by_keyboard_alone(page: Page, address: str, opened: OpenIndex, photos: Path) -> None:
    page.keyboard.press("/")
    assert page.evaluate(FOCUSED) == "Query photo"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(photos / "blue-left" / "2.jpg")
    paths = page.locator("photo-search .card .path")
    expect(paths).to_have_count(20)
    first, second = paths.nth(0).inner_text(), paths.nth(1).inner_text()
    tab_to(page, f"Open {first}")
    page.keyboard.press("ArrowRight")
    with page.expect_response(lambda response: "more=" in response.url) as answered:
        page.keyboard.press("+")
    moved = [str(result["path"]) for result in answered.value.json()["results"]]
    assert second not in moved
    expect(paths).to_have_text(moved)
    expect(page.locator("photo-search .photo").first).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".path")).to_have_text(moved[0])
    page.keyboard.press("ArrowRight")
    expect(dialog.locator(".path")).to_have_text(moved[1])
    tab_to(page, "Lens")
    page.keyboard.press("Enter")
    expect(page.locator("hardness-lens .status")).to_contain_text(moved[1])
    tab_to(page, "λ, share of the way that a negative keeps")
    expect(slider(page)).to_be_focused()
    page.keyboard.press("End")
    expect(page.locator("hardness-lens .hero .value")).to_have_text("λ = 1.00")
    tab_to(page, "Download the numbers", key="Shift+Tab")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    check_numbers(address, download.value, opened, moved[1])

    page.go_back()  # as Alt and the left arrow do, which only a browser with a window takes
    expect(dialog.locator(".path")).to_have_text(moved[1])
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    tab_to(page, "Gallery")
    page.keyboard.press("Enter")
    expect(page.locator("photo-gallery .photos > .status")).to_have_text("20 photos in photos")
    tab_to(page, "Photos")
    page.keyboard.press("ArrowRight")
    expect(page.locator("photo-gallery .cards section").first).to_be_visible()
