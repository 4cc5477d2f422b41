"""The Search page in a real browser: examples, crops, filters, keyboard, addresses, states, and what it looks like to whom."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from indexing.indexer import update_index
from indexing.search import OpenIndex
from indexing.workspace import Workspace
from tests.app.conftest import WIDER_THAN_WINDOW, check_accessible, search_by
from tools.screenshots import serving

# A slash would begin a folder.
HOSTILE = ["<img src=x onerror=alert(1)>", "\"quoted' & <b>bold", "\u202etxt.\u0645\u0631\u062d\u0628\u0627"]
NO_RESULTS = {
    "query": "id 1",
    "index": "many-discs",
    "model": "0",
    "elapsed_ms": 1,
    "calibration": None,
    "votes": [],
    "results": [],
}


def shown_paths(page: Page) -> Locator:
    return page.locator("photo-search .card .path")


def answered(address: str, asked: str) -> list[str]:
    """Paths that the route answers with."""
    return [result["path"] for result in httpx.post(f"{address}/v1/search?{asked}").json()["results"]]


def test_more_detail_and_back(page: Page, address: str, photos: Path) -> None:
    first = search_by(page, photos / "blue-left" / "2.jpg")
    liked = first[6]
    with page.expect_response(lambda response: "/v1/search" in response.url) as asked:
        page.get_by_role("button", name=f"More like {liked['path']}", exact=True).click()
    moved = [result["path"] for result in asked.value.json()["results"]]
    assert liked["path"] not in moved
    expect(shown_paths(page)).to_have_text(moved)
    chips = page.get_by_role("group", name="What shapes the results")
    expect(chips).to_contain_text("Query× 1")
    expect(chips.locator(".chip.more")).to_contain_text("× 0.75")

    page.locator("photo-search .photo").nth(2).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", level=2)).to_have_text(moved[2].split("/")[0])
    expect(dialog.locator("dl")).to_contain_text("px")
    expect(dialog.locator(".neighbour")).to_have_count(12)
    page.go_back()
    expect(dialog).to_have_count(0)
    expect(shown_paths(page)).to_have_text(moved)
    page.go_back()
    expect(shown_paths(page)).to_have_text([str(result["path"]) for result in first])
    expect(chips).to_be_hidden()
    page.go_back()
    expect(page.locator("photo-search .status")).to_contain_text("20 photos in photos")


def test_examples_are_taken_back_one_by_one(page: Page, address: str, opened: OpenIndex) -> None:
    query, more, less = (opened.catalogue.items(label)[0].id for label in ("blue-left", "red-right", "green-left"))
    page.goto(f"{address}/?id={query}&more={more}&less={less}")
    expect(shown_paths(page)).to_have_text(answered(address, f"k=20&id={query}&more={more}&less={less}"))
    page.get_by_role("button", name=f"Remove less like {less}").click()
    expect(shown_paths(page)).to_have_text(answered(address, f"k=20&id={query}&more={more}"))
    page.get_by_role("button", name=f"Remove more like {more}").click()
    expect(shown_paths(page)).to_have_text(answered(address, f"k=20&id={query}"))
    page.go_back()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("photo-search .chip.less")).to_contain_text("× 0.15")


def test_keyboard_alone_is_enough(page: Page, opened: OpenIndex) -> None:
    expect(page.locator("photo-search .card")).to_have_count(4)
    page.keyboard.press("/")
    expect(page.locator("photo-search input[type=file]")).to_be_focused()
    page.locator("photo-search .photo").first.focus()
    page.keyboard.press("s")
    expect(page.locator("photo-search .status")).to_contain_text("19 photos")
    photos = page.locator("photo-search .photo")
    photos.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(photos.nth(2)).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(photos.nth(2)).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    third, fourth = shown_paths(page).nth(2).inner_text(), shown_paths(page).nth(3).inner_text()
    expect(dialog.locator(".path")).to_have_text(third)
    page.keyboard.press("ArrowRight")
    expect(dialog.locator(".path")).to_have_text(fourth)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(photos.nth(3)).to_be_focused()
    # One tab stop for the whole grid: the next ones are the buttons of the same card.
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name=f"More like {fourth}", exact=True)).to_be_focused()
    page.keyboard.press("+")
    expect(page.locator("photo-search .chip.more")).to_have_count(1)
    expect(photos).to_have_count(18)
    expect(photos.first).to_be_focused()


def test_address_holds_all_that_is_asked(page: Page, address: str, opened: OpenIndex) -> None:
    query, more = (opened.catalogue.items(label)[0].id for label in ("blue-left", "blue-right"))
    asked = f"id={query}&more={more}&k=10&label=blue-left&label=blue-right&crop=0.1,0.2,0.9,0.8"
    page.goto(f"{address}/?{asked}&open={more}")
    expect(shown_paths(page)).to_have_text(answered(address, asked))
    expect(page.get_by_role("dialog").locator(".path")).to_have_text(opened.catalogue.item(more).path)
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert "open=" not in page.url
    expect(page.get_by_label("Number of results")).to_have_value("10")
    expect(page.locator("photo-search .chip.filter")).to_have_text(["Label blue-left", "Label blue-right"])
    expect(page.locator("photo-search .crop-box")).to_be_visible()

    page.goto(f"{address}/?photo=elsewhere&k=10&more={more}")
    expect(page.locator("photo-search .notice")).to_contain_text("Choose the photo again")
    page.locator("photo-search input[type=file]").set_input_files(opened.gallery / "blue-left" / "2.jpg")
    expect(shown_paths(page)).to_have_count(10)
    expect(page.locator("photo-search .chip.more")).to_have_count(1)
    page.goto(f"{address}/?index=nowhere")
    page.get_by_role("button", name="Show photos of the index").click()
    expect(page.locator("photo-search .card")).to_have_count(4)
    page.goto(f"{address}/?id=<script>&k=-3&crop=9,9,9,9&open=x&min_side=1e9&until=never")
    expect(page.locator("photo-search .notice")).to_be_visible()


def test_part_of_a_photo_is_searched_by_as_the_route_does(page: Page, address: str, photos: Path) -> None:
    photo = photos / "blue-left" / "2.jpg"
    whole = search_by(page, photo)
    layer = page.locator("photo-search .crop-layer")
    box = layer.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.9 * box["height"], steps=3)
    with page.expect_request(lambda request: "/v1/search" in request.url) as sent:
        page.mouse.up()
    sides = [float(share) for share in httpx.URL(sent.value.url).params["crop"].split(",")]
    assert sides == pytest.approx([0.4, 0.1, 0.9, 0.9], abs=0.02)
    crop = ",".join(map(str, sides))
    with photo.open("rb") as file:
        found = httpx.post(f"{address}/v1/search?k=20&crop={crop}", files={"image": file}).json()["results"]
    expect(page.locator("photo-search .value")).to_have_text([f"{result['score']:.3f}" for result in found])

    part = page.get_by_role("group", name="Part to search by")
    part.focus()
    with page.expect_request(lambda request: "/v1/search" in request.url) as sent:
        for key in ("ArrowLeft", "Shift+ArrowUp", "Enter"):
            page.keyboard.press(key)
    moved = [float(share) for share in httpx.URL(sent.value.url).params["crop"].split(",")]
    assert moved == pytest.approx([sides[0] - 0.02, sides[1], sides[2] - 0.02, sides[3] - 0.02], abs=1e-3)
    page.get_by_role("button", name="Search by the whole photo again").click()
    expect(page.locator("photo-search .value")).to_have_text([f"{result['score']:.3f}" for result in whole])


def test_why_shows_what_the_route_says(page: Page, address: str, opened: OpenIndex) -> None:
    query, item = (opened.catalogue.items("blue-left")[row].id for row in (0, 1))
    area = {"left": 0.25, "top": 0.0, "right": 0.75, "bottom": 1.0}
    regions = {"query": [[0.1, 0.9], [0.2, 0.3]], "query_area": area, "item": [[0.5, 0.4, 0.3]], "item_area": area}
    page.route("**/v1/why?*", lambda route: route.fulfill(json=regions))
    page.goto(f"{address}/?id={query}&open={item}")
    dialog, why = page.get_by_role("dialog"), page.get_by_role("button", name="Which regions of both photos")
    with page.expect_request("**/v1/why?*") as asked:
        why.click()
    parameters = httpx.URL(asked.value.url).params
    assert (parameters["id"], parameters["item"]) == (str(query), str(item))
    expect(dialog.locator("figcaption")).to_have_text(["Query", "Found"])
    sizes = [(heat.get_attribute("width"), heat.get_attribute("height")) for heat in dialog.locator("canvas").all()]
    assert sizes == [("2", "2"), ("3", "1")]
    photo, heat = dialog.locator(".under-heat img").first.bounding_box(), dialog.locator("canvas").first.bounding_box()
    assert photo is not None
    assert heat is not None
    assert heat["x"] - photo["x"] == pytest.approx(photo["width"] / 4, abs=1)
    assert heat["width"] == pytest.approx(photo["width"] / 2, abs=1)
    why.click()
    expect(dialog.locator("canvas")).to_have_count(0)
    page.unroute("**/v1/why?*")
    page.route("**/v1/why?*", lambda route: route.fulfill(status=404, json={"detail": "This encoder tells no regions apart."}))
    why.click()
    expect(dialog.get_by_role("alert")).to_have_text("This encoder tells no regions apart.")


def test_filters_are_offered_and_can_be_removed(page: Page, address: str, opened: OpenIndex) -> None:
    query = opened.catalogue.items("blue-left")[0].id
    page.goto(f"{address}/?id={query}")
    page.locator("photo-search summary").click()
    labels = page.get_by_label("Label", exact=True)
    expect(page.locator("photo-search #filter-Label option")).to_have_count(4)
    labels.fill("red-right")
    expect(shown_paths(page)).to_have_text(answered(address, f"k=20&id={query}&label=red-right"))
    page.get_by_label("Path", exact=True).fill("*/0.jpg")
    page.keyboard.press("Enter")
    expect(shown_paths(page)).to_have_text(["red-right/0.jpg"])
    page.get_by_role("button", name="Remove Label red-right").click()
    expect(shown_paths(page)).to_have_text(answered(address, f"k=20&id={query}&path=*/0.jpg"))
    page.get_by_label("Path", exact=True).fill("nowhere/*")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Clear the filters").click()
    expect(shown_paths(page)).to_have_count(19)


def test_only_matches_are_shown_where_the_index_tells_them(
    page: Page, address: str, workspace: Workspace, many_discs: Path, tiny_run: Path
) -> None:
    update_index(many_discs, workspace.index_for_gallery(many_discs), tiny_run / "encoder.onnx", device="cpu", false_matches=0.1)
    only = page.get_by_role("checkbox", name="Only matches")
    page.goto(f"{address}/?index=many-discs&id=1&k=100")
    everything = answered(address, "index=many-discs&id=1&k=100")
    expect(shown_paths(page)).to_have_count(len(everything))
    page.locator("photo-search summary").click()
    only.check()
    matches = answered(address, "index=many-discs&id=1&k=100&min_score=auto")
    assert 0 < len(matches) < len(everything)
    expect(shown_paths(page)).to_have_text(matches)
    assert "min_score=auto" in page.url
    page.reload()
    expect(shown_paths(page)).to_have_text(matches)
    page.get_by_role("button", name="Remove Only matches").click()
    expect(shown_paths(page)).to_have_count(len(everything))
    page.go_back()
    expect(shown_paths(page)).to_have_text(matches)
    page.locator("photo-search summary").click()
    expect(only).to_be_checked()
    page.get_by_label("Index").select_option("photos")
    expect(only).to_be_disabled()
    expect(only).not_to_be_checked()
    expect(only).to_have_accessible_description(
        "The index is not calibrated: 20 photos are too few to tell what a score means; it takes 100."
    )

    page.route("**/v1/search?*", lambda route: route.fulfill(json={**NO_RESULTS, "verdict": "no match"}))
    page.goto(f"{address}/?index=many-discs&id=1&min_score=auto")
    expect(page.locator("photo-search .notice")).to_contain_text("No match")
    page.unroute("**/v1/search?*")
    page.get_by_role("button", name="Show the nearest anyway").click()
    expect(shown_paths(page)).to_have_count(20)


def test_copies_are_grouped_when_that_is_asked(
    page: Page, address: str, workspace: Workspace, photos: Path, tiny_run: Path, opened: OpenIndex
) -> None:
    shutil.copy(photos / "blue-left" / "1.jpg", photos / "blue-left" / "copy.jpg")
    update_index(photos, workspace.find_index(), tiny_run / "encoder.onnx", device="cpu")
    query = opened.catalogue.item_at("blue-left/0.jpg")
    assert query is not None
    page.goto(f"{address}/?id={query.id}")
    expect(shown_paths(page)).to_have_count(20)
    page.locator("photo-search summary").click()
    page.get_by_role("checkbox", name="Group copies").check()
    grouped = answered(address, f"k=20&id={query.id}&group=true")
    assert len(grouped) == 19
    expect(shown_paths(page)).to_have_text(grouped)
    expect(page.locator("photo-search .copies")).to_have_text(["+ 1 copy"])
    expect(page.locator("photo-search .chip.filter")).to_have_text(["Copies grouped"])
    page.locator("photo-search .card", has_text="+ 1 copy").locator(".photo").click()
    expect(page.get_by_role("dialog").locator("dl")).to_contain_text("copy.jpg (exact)")
    page.go_back()
    page.go_back()
    expect(shown_paths(page)).to_have_count(20)
    expect(page.get_by_role("checkbox", name="Group copies")).not_to_be_checked()


def test_busy_server_is_asked_again_when_it_said(page: Page, photos: Path) -> None:
    asked: list[Route] = []

    def busy(route: Route) -> None:
        asked.append(route)
        if len(asked) > 1:
            route.continue_()
        else:
            problem = {"status": 503, "detail": "Too many ask at once."}
            route.fulfill(status=503, headers={"Retry-After": "1"}, json=problem)

    page.route("**/v1/search?*", busy)
    page.locator("photo-search input[type=file]").set_input_files(photos / "blue-left" / "2.jpg")
    expect(page.locator("photo-search .notice")).to_contain_text("Too many ask at once.")
    expect(page.locator("photo-search .card")).to_have_count(20)
    expect(page.locator("photo-search .notice")).to_have_count(0)
    assert len(asked) == 2


def test_what_cannot_be_searched_has_its_own_state(page: Page, photos: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    with large.open("wb") as file:
        file.truncate(51 * 1024**2)
    page.locator("photo-search input[type=file]").set_input_files(large)
    expect(page.locator("photo-search .notice")).to_contain_text("large.jpg has 51 MB")
    empty = {"status": 400, "detail": "the index photos must hold photos, but it has none that can be read"}
    page.route("**/v1/items?*", lambda route: route.fulfill(json={"items": [], "total": 0}))
    page.reload()
    expect(page.locator("photo-search .notice")).to_contain_text("This index is empty")
    page.unroute("**/v1/items?*")
    blind = {**empty, "status": 422, "detail": "the index photos has imported vectors and no encoder"}
    page.route("**/v1/search?*", lambda route: route.fulfill(status=422, json=blind))
    page.locator("photo-search input[type=file]").set_input_files(photos / "blue-left" / "2.jpg")
    expect(page.locator("photo-search .notice")).to_contain_text("This index cannot see photos")
    page.get_by_role("button", name="Show photos of the index").click()
    expect(page.locator("photo-search .card")).to_have_count(4)


@pytest.fixture
def hostile(workspace: Workspace, photos: Path, tiny_run: Path) -> Iterator[str]:
    for number, name in enumerate(HOSTILE):
        (photos / name).mkdir()
        shutil.copy(photos / "blue-left" / f"{number}.jpg", photos / name / f"{name}.jpg")
    update_index(photos, workspace.find_index(), tiny_run / "encoder.onnx", device="cpu")
    with serving(workspace, device="cpu") as address:
        yield address


def test_hostile_names_are_text(hostile: str, browser: Browser, photos: Path) -> None:
    page = browser.new_page()
    alarms: list[str] = []
    page.on("dialog", lambda dialog: (alarms.append(dialog.message), dialog.dismiss()))
    page.goto(hostile, wait_until="domcontentloaded")
    page.locator("photo-search input[type=file]").set_input_files(photos / "blue-left" / "0.jpg")
    expect(page.locator("photo-search .card")).to_have_count(20, timeout=30_000)
    for name in HOSTILE:
        expect(page.locator("photo-search .card .label").get_by_text(name, exact=True)).to_have_count(1)
        page.get_by_role("button", name=f"Open {name}/{name}.jpg", exact=True).click()
        expect(page.get_by_role("dialog").get_by_role("heading", level=2)).to_have_text(name)
        expect(page.get_by_role("dialog").locator("dd").first).to_be_visible()
        page.get_by_role("dialog").get_by_role("button", name="Close").click()
    assert (
        page.evaluate("() => document.querySelector('photo-search').shadowRoot.querySelectorAll('img[src=x], b b').length") == 0
    )
    assert alarms == []
    page.close()


def test_every_width_and_both_schemes_can_be_used(page: Page, photos: Path) -> None:
    search_by(page, photos / "blue-left" / "2.jpg")
    page.locator("photo-search [data-act=more]").nth(3).click()
    page.locator("photo-search .photo").first.click()
    page.get_by_role("dialog").locator(".neighbour").first.wait_for()
    for width in (390, 1024, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(WIDER_THAN_WINDOW) <= 0
    for scheme in ("light", "dark"):
        check_accessible(page)
        page.get_by_role("dialog").get_by_role("button", name="Close").click()
        check_accessible(page)
        for width in (390, 1024, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate(WIDER_THAN_WINDOW) <= 0
        if scheme == "light":
            page.get_by_role("button", name="Switch to dark colours").click()
            expect(page.locator("body")).to_have_class("dark")
            page.locator("photo-search .photo").first.click()
            page.get_by_role("dialog").locator(".neighbour").first.wait_for()
    page.reload()
    expect(page.get_by_role("button", name="Switch to light colours")).to_be_visible()  # what was chosen stays
