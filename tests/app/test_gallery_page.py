"""Gallery and runs in a real browser: scrolling, keyboard, filters, marks, figures and curves; hostile names as text."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from indexing.indexer import update_index
from indexing.search import OpenIndex
from indexing.workspace import Workspace
from tests.app.test_runs import RECORD, ROWS, write_run
from tools.screenshots import serving

FURNISHED = """() => [...document.querySelector("photo-gallery").shadowRoot.querySelectorAll(".cell")].every(
    (cell) => cell.firstChild
)"""
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def workspace(request: pytest.FixtureRequest, workspace: Workspace, photos: Path) -> Workspace:
    """With 3 photos more, or another number, of a hostile label; a file that cannot be read; and two runs, one damaged."""
    (photos / HOSTILE).mkdir()
    for number in range(getattr(request, "param", 3)):
        Image.new("RGB", (40, 40), (number % 256, number // 2, 90)).save(photos / HOSTILE / f"{number:03}.png")
    (photos / "torn.jpg").write_bytes(b"no photo")
    update_index(photos, workspace.find_index(), workspace.newest_encoder(), device="cpu")
    write_run(workspace.runs_dir / HOSTILE, RECORD, ROWS)
    (workspace.runs_dir / "empty").mkdir()
    return workspace


@pytest.fixture
def page(browser: Browser, workspace: Workspace, opened: OpenIndex) -> Iterator[Page]:
    """The page with its gallery open; fails afterwards when it met an error or asked another host for anything."""
    count = opened.item_count
    with serving(workspace, device="cpu") as address:
        page = browser.new_page(viewport={"width": 1024, "height": 800})
        foreign, errors = [], []
        page.on("request", lambda request: request.url.startswith((address, "blob:", "data:")) or foreign.append(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
        page.set_default_timeout(30_000)
        page.goto(address, wait_until="domcontentloaded")
        page.get_by_role("tab", name="Gallery").click()
        expect(page.locator("photo-gallery .status")).to_contain_text(f"{count} photos in photos", timeout=30_000)
        yield page
        page.close()
        assert (foreign, errors) == ([], [])


@pytest.mark.parametrize("workspace", [300], indirect=True)
def test_all_photos_are_reached_by_scrolling_and_few_are_held(page: Page, opened: OpenIndex) -> None:
    cells = page.locator("photo-gallery .cell button")
    expect(cells.first).to_have_attribute("title", "blue-left/0.jpg")
    seen: set[str] = set()
    for _ in range(60):
        page.wait_for_function(FURNISHED)
        assert cells.count() < 200
        seen |= {str(cell.get_attribute("title")) for cell in cells.all()}
        if len(seen) == 320:
            break
        page.mouse.wheel(0, 500)
        page.wait_for_timeout(50)
    assert seen == {item.path for item in opened.catalogue.items()}


def test_arrow_keys_walk_and_enter_opens_a_photo(page: Page) -> None:
    page.locator("photo-gallery .cell button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    last = page.locator(f'photo-gallery .cell button[title="{HOSTILE}/002.png"]')
    expect(last).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    dialog = page.locator("photo-gallery dialog")
    expect(dialog.locator("dd").first).to_have_text(f"{HOSTILE}/001.png")
    page.keyboard.press("ArrowRight")
    expect(dialog.locator("dd").first).to_have_text(f"{HOSTILE}/002.png")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(last).to_be_focused()


def test_filters_narrow_and_are_cleared(page: Page) -> None:
    gallery = page.locator("photo-gallery")
    gallery.get_by_label("Label").select_option("blue-left")
    expect(gallery.locator(".status").first).to_have_text("5 photos match in photos")
    expect(gallery.locator(".cell button")).to_have_count(5)
    gallery.get_by_label("Path, as a glob").fill("*/[01].jpg")
    expect(gallery.locator(".status").first).to_have_text("2 photos match in photos")
    gallery.get_by_label("Least pixels of the shorter side").fill("5000")
    expect(gallery.locator(".empty")).to_contain_text("No photo passes these filters")
    gallery.get_by_role("button", name="Clear").click()
    expect(gallery.locator(".status").first).to_have_text("23 photos in photos")
    gallery.get_by_label("Order").select_option("path")
    expect(gallery.locator(".cell button").first).to_have_attribute("title", f"{HOSTILE}/000.png")


def test_results_are_marked_unmarked_and_listed(page: Page, opened: OpenIndex) -> None:
    gallery = page.locator("photo-gallery")
    gallery.locator(".cell button").first.click()
    right = gallery.locator(".similar").get_by_role("button", name="Right").first
    wrong = gallery.locator(".similar").get_by_role("button", name="Wrong").first
    right.click()
    expect(right).to_have_attribute("aria-pressed", "true")
    wrong.click()
    expect(wrong).to_have_attribute("aria-pressed", "true")
    expect(right).to_have_attribute("aria-pressed", "false")
    (mark,) = opened.catalogue.marks()
    assert (mark.right, mark.query_path) == (False, "blue-left/0.jpg")
    page.keyboard.press("Escape")
    gallery.locator(".cell button").first.click()  # what was said is shown again
    expect(gallery.locator(".similar").get_by_role("button", name="Wrong").first).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    gallery.get_by_role("tab", name="Marks").click()
    expect(gallery.locator(".marked li")).to_have_count(1)
    expect(gallery.locator("code")).to_have_text("hdml train PHOTOS --feedback photos")
    gallery.get_by_role("button", name="Take back").click()
    expect(gallery.locator(".empty")).to_contain_text("Nothing is marked yet")
    assert opened.catalogue.marks() == []


def test_a_photo_that_was_sent_is_marked_by_the_same_buttons(page: Page, opened: OpenIndex, photos: Path) -> None:
    item = opened.catalogue.item_at("blue-left/1.jpg")
    page.evaluate(
        """async ([bytes, id]) => {
            const { marks } = await import("/page/marks.js");
            const file = new File([new Uint8Array(bytes)], "mine.jpg", { type: "image/jpeg" });
            document.body.append(marks("photos", { file, crop: [0, 0, 0.5, 1] }, { id, path: "one" }));
        }""",
        [list((photos / "blue-left" / "2.jpg").read_bytes()), item.id],
    )
    page.locator("body > result-marks").get_by_role("button", name="Right: one").click()
    expect(page.locator("body > result-marks").get_by_role("button", name="Right: one")).to_have_attribute("aria-pressed", "true")
    (mark,) = opened.catalogue.marks()
    kept = opened.catalogue.query_photo(mark.id)
    assert kept is not None
    assert (kept.name, mark.item) == ("mine.jpg", item.id)
    with Image.open(photos / "blue-left" / "2.jpg") as whole:
        assert Image.open(io.BytesIO(kept.jpeg)).size == (whole.width // 2, whole.height)


def test_a_photo_of_the_gallery_is_searched_from(page: Page, opened: OpenIndex) -> None:
    gallery = page.locator("photo-gallery")
    gallery.locator(".cell button").first.click()
    expect(gallery.locator(".similar li")).to_have_count(8)
    with page.expect_response(lambda response: "/v1/search" in response.url and "k=8" not in response.url) as answered:
        gallery.get_by_role("button", name="Search from it").click()
    assert f"id={opened.catalogue.item_at('blue-left/0.jpg').id}" in answered.value.url
    expect(page.get_by_role("tab", name="Search")).to_have_attribute("aria-selected", "true")


def test_figures_and_what_could_not_be_read_are_shown(page: Page) -> None:
    gallery = page.locator("photo-gallery")
    gallery.get_by_role("tab", name="Figures").click()
    expect(gallery.locator(".head")).to_contain_text("23")
    expect(gallery.locator(".bars .of").first).to_have_text("blue-left")
    expect(gallery.locator(".bars .of").last).to_have_text(HOSTILE)
    expect(gallery.locator("section", has_text="How well a search finds")).to_contain_text("every photo is compared with")
    expect(gallery.locator("section", has_text="Generations")).to_contain_text("searched by")
    gallery.locator(".bars button").last.click()
    expect(gallery.locator(".status").first).to_have_text("3 photos match in photos")
    gallery.get_by_role("tab", name="Unreadable (1)").click()
    expect(gallery.get_by_role("rowheader")).to_have_text("torn.jpg")
    assert page.locator("photo-gallery img[src=x]").count() == 0


def test_runs_are_shown_with_curves_and_damaged_ones_with_the_reason(page: Page, workspace: Workspace) -> None:
    page.get_by_role("tab", name="Runs").click()
    runs = page.locator("training-runs")
    row = runs.locator("tr", has_text=HOSTILE)
    expect(row).to_contain_text("20.0 → 80.0")
    expect(runs.locator("tr", has_text="tiny")).to_contain_text("photos")
    expect(runs.locator(".damaged")).to_contain_text("empty: it has no run.json")
    expect(runs.locator(".panels section").first).to_contain_text("R@1")
    expect(runs.locator(".chart path").first).to_be_visible()
    expect(runs.locator(".legend b").first).to_have_text(f"{ROWS[-1]['validation']['recall_at_k']['1']:.3f}")
    row.get_by_role("checkbox").uncheck()
    expect(runs.locator(".panels section")).to_have_count(0)
    assert page.locator("training-runs img[src=x]").count() == 0
    going = {name: value for name, value in RECORD.items() if name not in ("finished", "after")}
    write_run(workspace.runs_dir / "going", {**going, "status": "training"}, ROWS[:3])
    page.get_by_role("tab", name="Gallery").click()
    page.get_by_role("tab", name="Runs").click()
    expect(runs.locator("tr", has_text="going")).to_contain_text("step 3 of 6")
    with (workspace.runs_dir / "going" / "log.jsonl").open("a") as log:
        log.write(json.dumps(ROWS[3]) + "\n")
    expect(runs.locator("tr", has_text="going")).to_contain_text("step 4 of 6", timeout=20_000)
