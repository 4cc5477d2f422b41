"""The page's address: views that can be linked and reloaded, and Back from filter to filter, dialog to list and tab to tab."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from indexing.search import OpenIndex
from indexing.workspace import Workspace

SCROLLED = "() => scrollY"


def tab(page: Page, name: str) -> Locator:
    return page.get_by_role("tab", name=name, exact=True)


@pytest.fixture
def page(page: Page) -> Page:
    """The page, whose tabs answer."""
    expect(page.locator("photo-search .card")).to_have_count(4)
    return page


def asked(page: Page) -> dict[str, str]:
    return dict(httpx.URL(page.url).params)


def count(page: Page) -> Locator:
    return page.locator("photo-gallery .photos > .status")


def test_filters_of_the_gallery_are_linked_reloaded_and_gone_back_through(page: Page, address: str, opened: OpenIndex) -> None:
    gallery = page.locator("photo-gallery")
    tab(page, "Gallery").click()
    expect(count(page)).to_have_text("20 photos in photos")
    assert asked(page) == {"tab": "gallery"}
    gallery.get_by_label("Label").select_option("blue-left")
    expect(count(page)).to_have_text("5 photos match in photos")
    gallery.get_by_label("Order").select_option("oldest")
    gallery.get_by_label("Path, as a glob").press_sequentially("*/[0", delay=400)  # slow enough to be asked letter by letter
    gallery.get_by_label("Path, as a glob").press_sequentially("3].jpg")
    expect(count(page)).to_have_text("2 photos match in photos")
    shown = {"tab": "gallery", "index": "photos", "label": "blue-left", "sort": "oldest", "path": "*/[03].jpg"}
    assert asked(page) == shown

    page.reload()
    expect(count(page)).to_have_text("2 photos match in photos")
    expect(gallery.get_by_label("Label")).to_have_value("blue-left")
    expect(gallery.get_by_label("Order")).to_have_value("oldest")
    expect(gallery.get_by_label("Path, as a glob")).to_have_value("*/[03].jpg")

    page.go_back()  # what was typed is one step
    expect(count(page)).to_have_text("5 photos match in photos")
    expect(gallery.get_by_label("Path, as a glob")).to_have_value("")
    expect(gallery.get_by_label("Order")).to_have_value("oldest")
    page.go_back()
    expect(gallery.get_by_label("Order")).to_have_value("id")
    page.go_back()
    expect(count(page)).to_have_text("20 photos in photos")
    expect(gallery.get_by_label("Label")).to_have_value("")
    page.go_back()
    expect(tab(page, "Search")).to_have_attribute("aria-selected", "true")
    page.go_forward()
    page.go_forward()
    expect(count(page)).to_have_text("5 photos match in photos")
    expect(tab(page, "Gallery")).to_have_attribute("aria-selected", "true")


def test_place_and_photo_of_the_gallery_are_linked(page: Page, address: str, opened: OpenIndex) -> None:
    page.set_viewport_size({"width": 700, "height": 400})
    tab(page, "Gallery").click()
    expect(count(page)).to_have_text("20 photos in photos")
    page.mouse.move(300, 300)
    page.mouse.wheel(0, 2000)
    page.wait_for_url("**at=*")
    top = int(asked(page)["at"])
    assert 0 < top < 20
    page.reload()
    expect(count(page)).to_have_text("20 photos in photos")
    page.wait_for_function(f"({SCROLLED})() > 100")
    assert int(asked(page)["at"]) == top

    items = opened.catalogue.items()
    dialog = page.locator("photo-gallery dialog")
    page.locator(f'photo-gallery .cell button[title="{items[12].path}"]').click()
    expect(dialog.locator("dd").first).to_have_text(items[12].path)
    page.keyboard.press("ArrowRight")
    expect(dialog.locator("dd").first).to_have_text(items[13].path)
    assert (asked(page)["open"], asked(page)["at"]) == (str(items[13].id), "13")
    page.reload()
    expect(dialog.locator("dd").first).to_have_text(items[13].path)
    page.keyboard.press("ArrowLeft")
    expect(dialog.locator("dd").first).to_have_text(items[12].path)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert "open" not in asked(page)
    page.go_forward()
    expect(dialog.locator("dd").first).to_have_text(items[12].path)

    page.goto(f"{address}/?tab=gallery&index=photos&at=3&open={items[7].id}")  # it has moved since
    expect(dialog.locator("dd").first).to_have_text(items[7].path)
    expect(dialog.get_by_role("button", name="Next photo")).to_be_disabled()
    page.goto(f"{address}/?tab=gallery&index=photos&open=999")
    expect(count(page)).to_contain_text("no item with id 999")
    expect(page.locator("photo-gallery .cell button").first).to_have_attribute("title", items[0].path)
    assert asked(page) == {"tab": "gallery", "index": "photos"}


def test_views_and_indexes_of_the_gallery_are_linked(two_indexes: Workspace, page: Page, address: str) -> None:
    gallery = page.locator("photo-gallery")
    page.goto(f"{address}/?tab=gallery&index=reds&view=figures")
    expect(gallery.get_by_role("tab", name="Figures")).to_have_attribute("aria-selected", "true")
    expect(gallery.locator(".bars .of")).to_have_text(["blue-right", "red-right"])
    gallery.get_by_label("Index").select_option("photos")
    expect(gallery.locator(".bars .of")).to_have_count(4)
    gallery.locator(".bars button").first.click()
    expect(count(page)).to_have_text("5 photos match in photos")
    assert asked(page) == {"tab": "gallery", "index": "photos", "label": "blue-left"}
    page.go_back()
    expect(gallery.locator(".bars .of")).to_have_count(4)
    page.go_back()
    expect(gallery.locator(".bars .of")).to_have_text(["blue-right", "red-right"])
    expect(gallery.get_by_label("Index")).to_have_value("reds")
    page.goto(f"{address}/?tab=gallery&index=nowhere&label=<script>&sort=worst&at=-1&view=all&open=x")
    expect(gallery.locator(".photos")).to_contain_text("no index nowhere")
    gallery.get_by_role("button", name="Show photos").click()
    expect(count(page)).to_have_text("20 photos in photos")


def test_back_goes_from_tab_to_tab_and_tabs_stay_as_they_were(page: Page, address: str, opened: OpenIndex, photos: Path) -> None:
    item = opened.catalogue.items("blue-left")[0]
    page.goto(f"{address}/?id={item.id}&label=blue-left&label=red-right&__theme=light")
    expect(page.locator("photo-search .card")).to_have_count(9)
    page.locator("photo-search .photo").first.click()
    dialog = page.locator("photo-search dialog.detail")
    name = dialog.locator(".path").inner_text()
    dialog.get_by_role("button", name="Lens").click()
    expect(page.locator("hardness-lens .status")).to_contain_text(name)
    looked = opened.catalogue.item_at(name)
    assert looked is not None
    assert asked(page) == {"__theme": "light", "tab": "lens", "index": "photos", "anchor": str(looked.id)}
    page.reload()
    expect(page.locator("hardness-lens .status")).to_contain_text(name)
    other = opened.catalogue.items("green-left")[0]
    page.locator("hardness-lens").get_by_label("Label of the anchor").select_option("green-left")
    page.locator("hardness-lens .starts").get_by_role("button", name=f"Look from {other.path}").click()
    expect(page.locator("hardness-lens .status")).to_contain_text(other.path)
    assert asked(page)["anchor"] == str(other.id)
    tab(page, "Runs").click()
    expect(page.locator("training-runs tbody tr")).to_have_count(1)
    page.go_back()
    expect(tab(page, "Hardness lens")).to_have_attribute("aria-selected", "true")
    expect(page.locator("hardness-lens .status")).to_contain_text(other.path)
    page.go_back()
    expect(dialog).to_be_visible()  # which the lens was opened from
    page.go_back()
    expect(dialog).to_be_hidden()
    expect(page.locator("photo-search .card")).to_have_count(9)

    page.locator("photo-search .photo").first.click()
    dialog.get_by_role("button", name="Lens").click()
    expect(tab(page, "Hardness lens")).to_have_attribute("aria-selected", "true")
    tab(page, "Search").click()
    expect(page.locator("photo-search .card")).to_have_count(9)
    expect(dialog).to_be_hidden()
    expect(page.locator("photo-search .chip.filter")).to_have_count(2)
    expect(page.locator("photo-search").get_by_role("button", name="Undo")).to_have_count(0)  # it would leave the tab


def test_address_opens_its_tab(page: Page, address: str) -> None:
    for start, name in (("runs", "Runs"), ("search", "Search"), ("lens", "Hardness lens"), ("elsewhere", "Search")):
        page.goto(f"{address}/?tab={start}")
        expect(tab(page, name)).to_have_attribute("aria-selected", "true")
