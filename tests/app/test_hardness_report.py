"""The files of ``hdml hardness``: the numbers are the lens's, the page opens by itself in a real browser, text is text."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from app.hardness_report import look_around, to_html, write_report
from cli.chromium import FLAGS, find_chromium
from indexing.errors import HdmlError
from indexing.hardness import HardnessLens
from indexing.indexer import update_index
from indexing.search import OpenIndex


@pytest.fixture
def lens(opened: OpenIndex) -> HardnessLens:
    return HardnessLens(opened)


def test_report_looks_from_where_the_loss_is_high_or_from_what_is_named(lens: HardnessLens, opened: OpenIndex) -> None:
    report = look_around(lens)
    anchors = [look.anchor.id for look in report.looks]
    expected = [start.id for start in (*report.survey.pulled[:3], *report.survey.hardest[:3])]
    assert anchors == list(dict.fromkeys(expected))
    named, other, *_ = (item.id for item in opened.catalogue.items("blue-left"))
    report = look_around(lens, [named], other)
    assert [(look.anchor.id, look.positive.id) for look in report.looks] == [(named, other)]
    with pytest.raises(HdmlError, match="one anchor that it belongs to, but 2 were given"):
        look_around(lens, [named, other], other)


def test_files_hold_the_numbers_of_the_lens(lens: HardnessLens, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report = look_around(lens)
    written = write_report(report, lens, tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    assert {path.suffix for path in written} == {".html", ".json", ".svg", ".pdf", ".png"}
    assert json.loads((tmp_path / "out" / "hardness.json").read_text()) == json.loads(json.dumps(asdict(report)))
    assert told[-1] == (20, 20)
    assert "—" not in (tmp_path / "out" / "ruler.svg").read_text()


def test_page_needs_nothing_beside_itself_and_moves(lens: HardnessLens, tmp_path: Path) -> None:
    report = look_around(lens, kind="tsne")
    write_report(report, lens, tmp_path / "out")
    asked, errors = [], []
    chromium = find_chromium()
    assert chromium, "there is no Chromium for the page's tests; install one with: python tools/chromium.py"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url) if not request.url.startswith("data:") else None)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "out" / "hardness.html").as_uri())
        expect(page.locator(".value")).to_have_text("λ = 0.500")
        first = report.looks[0]
        expect(page.locator("svg.ruler text.synthetic").first).to_have_text(f"{first.negatives[0].reembedded[first.own]:.3f}")
        page.get_by_role("slider").press("Home")
        expect(page.locator("svg.ruler text.synthetic").first).to_have_text(f"{first.negatives[0].reembedded[0]:.3f}")
        page.locator("#anchors button").last.click()
        last = report.looks[-1]
        expect(page.locator("article.card h3").first).to_have_text(last.negatives[0].photo.label or "")
        assert page.locator("svg.map line.pull").count() == 0  # the map is t-SNE, on which a pull is no line
        expect(page.locator("svg.map path.steps")).to_have_count(len(last.negatives))
        assert page.get_by_role("button", name="principal components").count() == 0  # a file has the one map
        assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 1)")
        browser.close()
    assert (len(asked), errors) == (1, [])


def test_labels_with_markup_stay_text(lens: HardnessLens, opened: OpenIndex, photos: Path, tiny_run: Path) -> None:
    bad = "</script><img src=x>"
    (photos / "blue-left").rename(photos / bad.replace("/", "∕"))
    update_index(photos, opened.path, tiny_run / "encoder.onnx", device="cpu")
    page = to_html(look_around(lens), {})
    assert "<img src=x>" not in page
    assert page.count("</script") == 2
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert bad.replace("/", "∕") in {look["anchor"]["label"] for look in json.loads(data[1])["looks"]} | {
        negative["photo"]["label"] for look in json.loads(data[1])["looks"] for negative in look["negatives"]
    }
