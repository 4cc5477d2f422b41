"""The lens in a real browser: what it draws is what the route answers, at every λ, by pointer and by keyboard."""

import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from indexing.hardness import HardnessLens, Look
from indexing.indexer import update_index
from indexing.search import OpenIndex
from indexing.workspace import Workspace
from tests.conftest import TINY, draw_photos, tiny_training, write_tiny_synthesizer
from tools.screenshots import serving

ALONE = """<!doctype html><html lang="en"><head><title>The lens</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/page/frame.css"><script type="module" src="/page/lens.js"></script></head>
<body><hardness-lens></hardness-lens></body></html>"""
# What the Lens button of a card does.
LOOK = "async ([index, id]) => (await import('/page/dom.js')).openLens(index, id)"
# The same, until what it shows has taken the place of the look before, which may have been one from the same photo.
LOOKED = """async ([index, id]) => {
    const view = document.querySelector("hardness-lens").shadowRoot.querySelector(".lens > .stage");
    const shown = new Promise((done) => new MutationObserver(done).observe(view, { childList: true }));
    (await import("/page/dom.js")).openLens(index, id);
    await shown;
}"""
# Horizontal places of a kind of mark of the ruler, from top to bottom, and of the ends of its scale: 0 and the last tick.
MARKS = """(kind) => {
    const root = document.querySelector("hardness-lens").shadowRoot, ruler = root.querySelector(".hero svg.ruler");
    const middle = (mark) => { const { x, y, width, height } = mark.getBBox(); return [x + width / 2, y + height / 2]; };
    return [...ruler.querySelectorAll(kind)].map(middle).sort((a, b) => a[1] - b[1]).map(([x]) => x);
}"""
TICKS = """() => [...document.querySelector("hardness-lens").shadowRoot.querySelectorAll(".hero svg.ruler line.grid + text")]
    .map((text) => [+text.textContent, +text.getAttribute("x")])"""
DOT = """() => {
    const root = document.querySelector("hardness-lens").shadowRoot, mark = root.querySelectorAll("svg.map rect.border.other")[0];
    const { left, top, width, height } = mark.getBoundingClientRect();
    return [left + width / 2, top + height / 2];
}"""


@pytest.fixture(scope="module")
def lenses(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Workspace:
    """The index ``reds``, of two labels, and ``photos``, the newest, of a run that watched a tuple; tests leave them be."""
    folder = tmp_path_factory.mktemp("lenses")
    photos, reds, run = draw_photos(folder / "photos"), folder / "reds", folder / "run"
    for label in ("red-right", "blue-right"):
        shutil.copytree(photos / label, reds / label)
    run.mkdir()
    shutil.copy(tiny_encoder, run / "encoder.onnx")
    training = tiny_training(photos, ("blue-left/0.jpg", "blue-left/1.jpg", "green-left/2.jpg"))
    write_tiny_synthesizer(run / "synthesizer.onnx", TINY, share=0.37, training=training)
    place = Workspace(folder / "workspace")
    for gallery in (reds, photos):
        update_index(gallery, place.index_for_gallery(gallery), run / "encoder.onnx", device="cpu")
    return place


@pytest.fixture
def opened(lenses: Workspace) -> Iterator[OpenIndex]:
    with OpenIndex(lenses.find_index("photos"), device="cpu") as index:
        yield index


@pytest.fixture(scope="module")
def address(lenses: Workspace) -> Iterator[str]:
    with serving(lenses, device="cpu") as address:
        yield address


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One for all tests, so that the page's own files are loaded once."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    """The lens without the rest of the page, which takes far longer to load than it; just opened."""
    with watched(context, address) as page:
        page.route(f"{address}/alone", lambda route: route.fulfill(body=ALONE, content_type="text/html"))
        page.goto(f"{address}/alone", wait_until="domcontentloaded")
        expect(page.locator("hardness-lens .end.negative")).to_have_count(3, timeout=30_000)
        yield page


@pytest.fixture
def whole_page(context: BrowserContext, address: str) -> Iterator[Page]:
    """The page as people have it, its lens just opened."""
    with watched(context, address) as page:
        page.goto(address, wait_until="domcontentloaded")
        page.get_by_role("tab", name="Hardness lens").click()
        expect(page.locator("hardness-lens .end.negative")).to_have_count(3, timeout=30_000)
        yield page


@contextmanager
def watched(context: BrowserContext, address: str) -> Iterator[Page]:
    """An empty page; fails afterwards when it met an error or asked another host for anything."""
    page = context.new_page()
    foreign, errors = [], []
    page.on(
        "request",
        lambda request: foreign.append(request.url) if not request.url.startswith((address, "blob:", "data:")) else None,
    )
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(30_000)
    yield page
    page.close()
    assert foreign == []
    assert [error for error in errors if "422 (Unprocessable" not in error] == []


def look_from(page: Page, opened: OpenIndex, label: str) -> Look:
    """Look from the first photo of a label, on the page and here."""
    anchor = opened.catalogue.items(label)[0]
    page.evaluate(LOOKED, [opened.name, anchor.id])
    expect(page.locator("hardness-lens .status")).to_contain_text(anchor.path)
    return HardnessLens(opened).look(anchor.id)


def distances(page: Page, kind: str) -> list[float]:
    """What the marks of a kind stand for, by the ruler's own ticks."""
    ticks = page.evaluate(TICKS)
    (zero, start), (last, end) = ticks[0], ticks[-1]
    assert zero == 0
    return [(x - start) / (end - start) * last for x in page.evaluate(MARKS, kind)]


def check_ruler(page: Page, look: Look, place: int) -> None:
    close = {"abs": 0.01 * look.negatives[-1].photo.distance}
    assert distances(page, "circle.negative") == pytest.approx([n.photo.distance for n in look.negatives], **close)
    assert distances(page, "polygon.pulled") == pytest.approx([n.pulled[place] for n in look.negatives], **close)
    assert distances(page, "polygon.synthetic") == pytest.approx([n.reembedded[place] for n in look.negatives], **close)
    assert distances(page, "circle.same") == pytest.approx([look.positive.distance], **close)
    lost = page.locator("hardness-lens .hero svg.ruler polygon.lost")
    expect(lost).to_have_count(sum(not n.label_kept[place] for n in look.negatives))


def slider(page: Page) -> Locator:
    return page.locator("hardness-lens").get_by_role("slider", name="λ")


def wait_for(page: Page, met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not met() and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert met()


def test_ruler_moves_with_the_slider_and_keeps_to_the_numbers(whole_page: Page, opened: OpenIndex) -> None:
    page = whole_page
    look = look_from(page, opened, "blue-left")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/v1/" in request.url else None)
    value = page.locator("hardness-lens .hero .value")
    expect(value).to_have_text("λ = 0.370")
    expect(page.locator("hardness-lens .hero .said")).to_have_text("the model’s own, after step 32 of 40")
    check_ruler(page, look, look.own)
    for share in (0, 0.8, 1):
        slider(page).fill(str(share))
        expect(value).to_have_text(f"λ = {share:.2f}")
        check_ruler(page, look, look.shares.index(share))
    page.locator("hardness-lens").get_by_role("button", name="Model’s own λ").click()
    expect(value).to_have_text("λ = 0.370")
    check_ruler(page, look, look.own)
    assert [url for url in asked if "/v1/lens?" in url] == []  # all of it in the browser


def test_slider_is_moved_by_keys_one_step_at_a_time(page: Page, opened: OpenIndex) -> None:
    look = look_from(page, opened, "blue-left")
    slider(page).focus()
    value = page.locator("hardness-lens .hero .value")
    for key, place in (("ArrowLeft", look.own - 1), ("PageDown", look.own - 11), ("Home", 0), ("ArrowRight", 1), ("End", 100)):
        slider(page).press(key)
        expect(value).to_have_text(f"λ = {look.shares[place]:.2f}")
        expect(slider(page)).to_have_attribute("aria-valuetext", f"{look.shares[place]:.2f}, {said(look, place)}")


def said(look: Look, place: int) -> str:
    """When training had this λ, by its stages of 1, 0.7, 0.37 and 0.3."""
    share = look.shares[place]
    if share < 0.3:
        return "harder than training ever got"
    return f"as at about step {16 if share >= 0.7 else 32 if share >= 0.37 else 40} of 40"


def test_stages_of_training_are_marked_where_their_shares_are_on_the_slider(page: Page, opened: OpenIndex) -> None:
    look_from(page, opened, "blue-left")
    place = page.evaluate(
        """() => {
            const root = document.querySelector("hardness-lens").shadowRoot, box = root.querySelector(".hero input[type=range]");
            const { left, width } = box.getBoundingClientRect(), chart = root.querySelector("svg.course").getBoundingClientRect();
            const middle = (mark) => { const r = mark.getBoundingClientRect(); return r.left + r.width / 2; };
            const marks = [...root.querySelectorAll("svg.course circle")].map(middle);
            return [marks.map((x) => (x - left - 10) / (width - 20)), chart.width - width];
        }"""
    )
    assert sorted(place[0]) == pytest.approx([0.3, 0.37, 0.7, 1.0], abs=0.01)
    assert place[1] == pytest.approx(0, abs=1)


def test_cards_tell_how_hard_each_synthetic_is_and_the_ruler_can_start_at_the_real_anchor(page: Page, opened: OpenIndex) -> None:
    look = look_from(page, opened, "green-left")
    for share in (0.0, 1.0):
        slider(page).fill(str(share))
        place = look.shares.index(share)
        for row, negative in enumerate(look.negatives):
            card = page.locator("hardness-lens article.card").nth(row)
            expect(card).to_contain_text("label kept" if negative.label_kept[place] else "label lost")
            expect(card.locator("tbody tr").nth(0)).to_contain_text(f"{negative.photo.distance:.3f}")
            expect(card.locator("tbody tr").nth(0)).to_contain_text(f"{negative.reembedded[place]:.3f}")
            expect(card.locator("tbody tr").nth(1)).to_contain_text(f"{negative.losses[place]:.3f}")
            nearest = [look.names[item].path for item, _ in negative.nearest[place]]
            titles = card.locator("header button").evaluate_all("(photos) => photos.map((photo) => photo.title)")
            assert [title.split(",")[0] for title in titles] == [negative.photo.path, *nearest]
    page.locator("hardness-lens").get_by_role("button", name="the real anchor").click()
    close = {"abs": 0.01 * look.negatives[-1].photo.distance}
    assert distances(page, "polygon.synthetic") == pytest.approx([n.distances[place] for n in look.negatives], **close)
    expect(page.locator("hardness-lens .hero svg.ruler line.again")).to_have_count(0)


def test_summary_is_of_all_labels_or_of_one(page: Page, opened: OpenIndex) -> None:
    lens = page.locator("hardness-lens")
    expect(lens.locator(".labels tbody tr")).to_have_count(4)
    expect(lens.locator(".survey .note")).to_contain_text("20 anchors, 60 tuples")
    lens.locator(".labels").get_by_role("button", name="red-right").click()
    expect(lens.locator(".labels tbody tr")).to_have_count(1)
    expect(lens.locator(".survey .note")).to_contain_text("5 anchors, 15 tuples")
    expect(lens.get_by_label("Labels of the summary")).to_have_value("red-right")


def test_map_shows_photos_and_can_be_looked_from(page: Page, opened: OpenIndex) -> None:
    look = look_from(page, opened, "blue-left")
    page.locator("hardness-lens svg.map").scroll_into_view_if_needed()
    expect(page.locator("hardness-lens svg.map image")).to_have_count(5)
    page.locator("hardness-lens").get_by_role("button", name="the whole gallery").click()
    expect(page.locator("hardness-lens svg.map circle.dot")).to_have_count(20)
    page.locator("hardness-lens").get_by_role("button", name="around the anchor").click()
    x, y = page.evaluate(DOT)
    page.mouse.move(x, y)
    expect(page.locator("hardness-lens .hint")).to_contain_text("Click to look from it.")
    page.mouse.click(x, y)
    expect(page.locator("hardness-lens .status")).not_to_contain_text(look.anchor.path)


def test_map_by_neighbours_is_placed_on_demand_and_kept_for_the_next_look(page: Page, opened: OpenIndex) -> None:
    page.route("**/v1/lens/map?*", lambda route: route.fulfill(json={**route.fetch().json(), "trustworthiness": 0.9876}))
    look = look_from(page, opened, "blue-left")
    panel = page.locator("hardness-lens").get_by_role("region", name="Map")
    expect(panel.locator("line.pull")).to_have_count(3)
    HardnessLens(opened).map("tsne")  # so that the server, in this process, need not load the package, which takes long
    panel.get_by_role("button", name="t-SNE").click()
    expect(panel.locator(".note")).to_contain_text("t-SNE by cosine similarity")
    expect(panel.locator(".note")).to_contain_text("Trustworthiness 0.988 of 1")
    expect(panel.locator("line.pull, line.ray")).to_have_count(0)  # a pull is no line there
    for share in (1.0, 0.0):
        slider(page).fill(str(share))
        place = look.shares.index(share)
        expect(page.locator("hardness-lens .hero .value")).to_have_text(f"λ = {share:.2f}")
        expect(panel.locator("path.steps")).to_have_count(3)
        steps = str(panel.locator("path.steps").first.get_attribute("d")).count("h0")
        assert steps == len(look.shares) - place
    page.evaluate(LOOK, [opened.name, look.negatives[0].photo.id])
    expect(page.locator("hardness-lens .status")).to_contain_text(look.negatives[0].photo.path)
    expect(panel.locator(".note")).to_contain_text("t-SNE by cosine similarity")
    expect(panel.get_by_role("button", name="t-SNE")).to_have_attribute("aria-pressed", "true")
    panel.get_by_role("button", name="principal components").click()
    expect(panel.locator("line.pull")).to_have_count(3)


def test_map_without_the_package_is_offered_with_what_to_install(page: Page, opened: OpenIndex) -> None:
    page.route("**/v1/lens/map?*", lambda route: route.fulfill(json={**route.fetch().json(), "kinds": ["pca"]}))
    look_from(page, opened, "blue-left")
    panel = page.locator("hardness-lens").get_by_role("region", name="Map")
    expect(panel.get_by_role("button", name="t-SNE")).to_be_disabled()
    expect(panel.locator(".note")).to_contain_text('pip install "hdml[tsne]"')


def test_map_is_loaded_once_for_all_looks(whole_page: Page, opened: OpenIndex) -> None:
    page = whole_page  # since routes, as the lens alone has one, turn off what browsers keep
    look_from(page, opened, "blue-left")
    with page.expect_response("**/v1/lens/map?*") as answered:
        look_from(page, opened, "green-left")
    sizes = answered.value.request.sizes()
    assert sizes["responseBodySize"] == 0  # what the browser has is still right
    expect(page.locator("hardness-lens svg.map image")).to_have_count(5)


def test_hardest_and_most_confused_photos_are_offered(page: Page) -> None:
    lens = page.locator("hardness-lens")
    lens.get_by_label("Where to look").select_option("hardest")
    expect(lens.locator(".starts button")).to_have_count(4)
    expect(lens.locator(".starts figcaption").first).to_contain_text("loss ")
    title = lens.locator(".starts button").first.get_attribute("aria-label")
    lens.locator(".starts button").first.click()
    expect(lens.locator(".status")).to_contain_text(str(title).removeprefix("Look from "))
    lens.get_by_label("Where to look").select_option("confused")
    expect(lens.get_by_label("Label of the anchor")).to_be_hidden()
    lens.get_by_label("Where to look").select_option("label")
    expect(lens.locator(".starts button")).to_have_count(5)


def test_play_sweeps_through_every_share_and_ends_at_the_models_own(page: Page, opened: OpenIndex) -> None:
    look_from(page, opened, "blue-left")
    page.evaluate("() => { window.setInterval = ((real) => (work) => real(work, 1))(window.setInterval); }")
    page.evaluate(
        """() => {
            const value = document.querySelector("hardness-lens").shadowRoot.querySelector(".hero .value");
            window.seen = [];
            new MutationObserver(() => window.seen.push(value.textContent)).observe(value, { childList: true });
        }"""
    )
    page.locator("hardness-lens .hero").get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("() => window.seen.includes('λ = 0.00')")
    expect(page.locator("hardness-lens .hero").get_by_role("button", name="Play", exact=True)).to_be_visible()
    expect(page.locator("hardness-lens .hero .value")).to_have_text("λ = 0.370")
    assert len(set(page.evaluate("window.seen"))) == 101


def test_replay_plays_what_the_run_watched(page: Page, opened: OpenIndex) -> None:
    replay = HardnessLens(opened).replay()
    assert replay is not None
    panel = page.locator("hardness-lens").get_by_role("region", name="Replay")
    expect(panel.locator(".value")).to_have_text("step 32")
    expect(panel.locator(".end.watched button")).to_have_count(3)
    for position, look in enumerate(replay.looks):
        panel.get_by_role("slider").fill(str(position))
        expect(panel.locator(".value")).to_have_text(f"step {look.step}")
        expect(panel.locator(".said")).to_contain_text(f"λ = {look.share:.3f} · {sum(look.label_kept)} of 1")
        told = f"real {look.d_an[0]:.1f}".removesuffix(".0")
        label = panel.locator("svg.ruler").get_attribute("aria-label")
        assert label is not None
        assert told in label
    panel.get_by_role("button", name="Play", exact=True).click()
    expect(panel.locator(".value")).to_have_text("step 40")
    expect(panel.get_by_role("button", name="Play", exact=True)).to_be_visible()


def test_narrow_windows_hold_all_of_it(whole_page: Page, opened: OpenIndex) -> None:
    page = whole_page
    look = look_from(page, opened, "blue-left")
    for width in (1024, 390):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        check_ruler(page, look, look.own)


def test_newest_look_is_shown_whichever_answer_comes_first(page: Page, opened: OpenIndex) -> None:
    first, second = opened.catalogue.items("blue-left")[:2]
    late: list[Route] = []
    page.route(f"**/v1/lens?*anchor={first.id}", lambda route: late.append(route))
    page.evaluate(LOOK, ["photos", first.id])
    wait_for(page, lambda: bool(late))
    page.evaluate(LOOK, ["photos", second.id])
    expect(page.locator("hardness-lens .status")).to_contain_text(second.path)
    late[0].continue_()
    page.wait_for_timeout(500)
    expect(page.locator("hardness-lens .status")).to_contain_text(second.path)


def test_strip_says_how_many_more_photos_there_are(page: Page) -> None:
    def more(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(json={**answer.json(), "total": 1205})

    page.route("**/v1/items?*label=*", more)
    page.locator("hardness-lens").get_by_role("button", name="Surprise me").click()
    expect(page.locator("hardness-lens .starts")).to_contain_text("and 1200 more")
    expect(page.locator("hardness-lens .starts button")).to_have_count(5)


def test_lens_recovers_from_an_anchor_without_a_look(page: Page) -> None:
    page.route("**/v1/lens?*anchor=*", lambda route: route.fulfill(status=422, json={"detail": "It is the only photo."}))
    page.locator("hardness-lens .end.negative button").first.click()
    expect(page.locator("hardness-lens .status.failed")).to_have_text("It is the only photo.")
    expect(page.locator("hardness-lens .end.negative")).to_have_count(0)
    page.locator("hardness-lens").get_by_role("button", name="Surprise me").click()
    expect(page.locator("hardness-lens .end.negative")).to_have_count(3)


def test_lens_shows_the_index_that_it_was_opened_from(lenses: Workspace, whole_page: Page) -> None:
    page = whole_page
    lens, labels = page.locator("hardness-lens"), page.locator("hardness-lens").get_by_label("Label of the anchor")
    with OpenIndex(lenses.find_index("reds"), device="cpu") as reds:
        red = reds.catalogue.items("red-right")[0]
    page.evaluate(LOOK, ["reds", red.id])
    expect(lens.locator(".status")).to_contain_text(red.path)
    expect(lens.get_by_label("Index")).to_have_value("reds")
    expect(labels.locator("option")).to_have_text(["blue-right (5)", "red-right (5)"])
    expect(labels).to_have_value("red-right")
    expect(lens.locator(".starts .chosen")).to_have_count(1)
    expect(lens.locator(".labels tbody tr")).to_have_count(2)
    lens.get_by_label("Index").select_option("photos")
    expect(labels.locator("option")).to_have_count(4)
    expect(lens.locator(".end.negative")).to_have_count(3)
    expect(lens.locator(".labels tbody tr")).to_have_count(4)


def test_hostile_label_is_shown_as_text(whole_page: Page, opened: OpenIndex) -> None:
    page = whole_page

    def hostile(route: Route) -> None:
        answer = route.fetch().json()
        bad = "<img src=x onerror=alert(1)>"
        for negative in answer["negatives"]:
            negative["photo"]["label"] = bad
        for name in answer["names"].values():
            name["label"] = name["path"] = bad
        route.fulfill(json=answer)

    page.route("**/v1/lens?*", hostile)
    page.locator("hardness-lens").get_by_role("button", name="Surprise me").click()
    expect(page.locator("hardness-lens .end.negative b").first).to_have_text("<img src=x onerror=alert(1)>")
    assert page.locator("hardness-lens img[src=x]").count() == 0
    assert math.isfinite(distances(page, "circle.same")[0])
