"""The report as a file of its own: what it shows, that nothing gets out of it, and how a browser lays it out."""

import base64
import dataclasses
import html
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from cli.chromium import FLAGS, find_chromium
from hdml.comparison import Answer, Comparison, Disagreement, conclude
from hdml.report import (
    SHOWN_DISAGREEMENTS,
    Axis,
    axis_of_arms,
    axis_of_differences,
    interval_of,
    picture,
    to_html,
    to_markdown,
    write_report,
)
from tests.hdml.conftest import arm, pair
from tests.hdml.elements import Elements

HOSTILE = (
    """</h1></style><script>document.title='taken'</script><img src=x onerror="document.title='taken'">{{ 7 * 7 }} | `a` & '"""
)


def renamed(comparison: Comparison, text: str) -> Comparison:
    """The same comparison with hostile words wherever a user's own may stand."""
    names = {one.name: f"{one.name} {text}" for one in comparison.arms}
    arms = tuple(dataclasses.replace(one, name=names[one.name], description=text) for one in comparison.arms)
    paired = tuple(dataclasses.replace(one, arm=names[one.arm], against=names[one.against]) for one in comparison.paired)
    answers = {
        names[name]: Answer(Path(text), text, answer.right) for name, answer in comparison.disagreements[0].answers.items()
    }
    method, reference = names[comparison.method], names[comparison.reference]
    return dataclasses.replace(
        comparison,
        data=text,
        method=method,
        reference=reference,
        arms=arms,
        paired=paired,
        verdict=conclude(arms, paired, method=method, reference=reference),
        disagreements=(Disagreement(Path(text), text, answers),),
        dropped=(text,),
        protocol={text: text},
        command=text,
    )


def test_report_is_three_files_and_the_json_names_the_page(comparison: Comparison, tmp_path: Path) -> None:
    page = write_report(comparison, tmp_path / "new" / "report")
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json", "report.md"]
    found = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert found == json.loads(json.dumps(comparison.to_json(page)))
    assert found["report"] == str(page)


def test_page_says_the_verdict_first_and_shows_every_figure(comparison: Comparison) -> None:
    shown = Elements(to_html(comparison))
    text = " ".join(shown.text.split())
    headline, _, rest = comparison.verdict.partition(". ")
    assert text.index(headline) < text.index(rest) < text.index("plain 41.0 ± 1.0")
    for told in (
        "46.1 ± 1.0",
        "1.5 GB",
        "Seeds 3 and 4: time was up.",
        "20 in 4 classes",
        "hdml compare discs/ --seeds 3",
        "1.20×",
    ):
        assert told in text
    assert text.count("▲better") == 3  # the page's, and those of the two measures


def test_page_asks_nothing_of_anybody(comparison: Comparison) -> None:
    page = to_html(comparison)
    for tag, _ in Elements(page).elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "form"}
    assert all(address.startswith("data:") for address in Elements(page).addresses())
    assert "url(" not in page
    assert "@import" not in page
    policy = next(attributes["content"] for _, attributes in Elements(page).elements if attributes.get("http-equiv"))
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_photos_are_small_copies_without_the_originals_metadata(comparison: Comparison) -> None:
    query = comparison.photos / comparison.disagreements[0].query
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    Image.open(query).resize((900, 600)).save(query, exif=exif)
    assert b"where I live" in query.read_bytes()
    found = Elements(to_html(comparison)).pictures()
    assert len(found) == 4  # the query, and an answer of each arm
    assert found[0].size == (200, 133)
    assert all(max(one.size) <= 200 and not one.getexif() for one in found)
    assert picture(query) is not None
    assert base64.b64decode((picture(query) or "").partition(",")[2]).find(b"where I live") == -1


def test_photo_that_cannot_be_read_is_said_to_be_so(comparison: Comparison) -> None:
    (comparison.photos / "blue-left" / "0.jpg").write_bytes(b"no photo")
    (comparison.photos / "blue-left" / "1.jpg").unlink()
    shown = Elements(to_html(comparison))
    assert shown.text.count("cannot be read") == 2
    assert len(shown.pictures()) == 2


def test_hostile_names_stay_text(comparison: Comparison) -> None:
    hostile = renamed(comparison, HOSTILE)
    harmless, shown = Elements(to_html(renamed(comparison, "word"))), Elements(to_html(hostile))
    assert [tag for tag, _ in shown.elements] == [tag for tag, _ in harmless.elements]
    assert [set(attributes) for _, attributes in shown.elements] == [set(attributes) for _, attributes in harmless.elements]
    assert shown.text.count(HOSTILE) > 10


def test_markdown_keeps_hostile_names_in_their_cells(comparison: Comparison) -> None:
    hostile, harmless = to_markdown(renamed(comparison, HOSTILE + "\n\n# no | heading")), to_markdown(renamed(comparison, "word"))

    def shape(text: str) -> list[int]:
        """Cells of each line of a table; code blocks apart, which show what they hold as it is."""
        return [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if not line.startswith("    ")]

    assert [cells for cells in shape(hostile) if cells] == [cells for cells in shape(harmless) if cells]
    outside = "\n".join(line for line in hostile.splitlines() if not line.startswith("    "))
    assert re.search(r"(?<!\\)<", outside) is None
    assert re.search(r"(?<!\\)`", outside) is None


def test_markdown_has_the_verdict_and_the_tables(comparison: Comparison) -> None:
    text = to_markdown(comparison).replace("\\", "")
    assert text.index(comparison.verdict) < text.index("## Arms")
    told = comparison.paired[0]
    assert "| plain | 41.0 ± 1.0 | 66.0 ± 1.0 | 41.0 ± 1.0 | 66.0 ± 1.0 | 10 s | 1.5 GB | what plain is |" in text
    assert f"| hdml | plain | MAP@R | +{100 * told.difference:.1f} | +" in text
    assert "| blue-left/0.jpg (blue-left) | wrong: blue-right/2.jpg (blue-right) | right: blue-left/1.jpg (blue-left) |" in text
    assert "- Seeds 3 and 4: time was up." in text
    assert "\n    hdml compare discs/ --seeds 3\n" in text


def test_file_names_that_are_not_utf8_do_not_stop_the_report(comparison: Comparison, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(b"blue-left/caf\xe9.jpg"))
    (comparison.photos / "blue-left" / "0.jpg").rename(comparison.photos / odd)
    found = dataclasses.replace(comparison.disagreements[0], query=odd)
    page = write_report(dataclasses.replace(comparison, disagreements=(found,)), tmp_path)
    assert "caf?.jpg" in page.read_text(encoding="utf-8")
    assert "cannot be read" not in page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report.json").read_text())["disagreements"][0]["query"] == odd.as_posix()


def test_only_the_first_disagreements_are_shown_and_all_are_counted(comparison: Comparison) -> None:
    many = comparison.disagreements * (SHOWN_DISAGREEMENTS + 5)
    told = f"{SHOWN_DISAGREEMENTS} of {SHOWN_DISAGREEMENTS + 5} photos"
    for shown in (to_html, to_markdown):
        assert told in shown(dataclasses.replace(comparison, disagreements=many))
        assert "1 of 70 photos" in shown(dataclasses.replace(comparison, disagreements_in_all=70))
        assert "every arm is right about the same photos" in shown(dataclasses.replace(comparison, disagreements=()))
    assert len(Elements(to_html(dataclasses.replace(comparison, disagreements=many))).pictures()) == 4 * SHOWN_DISAGREEMENTS


def test_single_seed_has_dots_but_no_intervals(comparison: Comparison) -> None:
    plain, hdml = arm("plain", (0.4,)), arm("hdml", (0.45,))
    arms, pairs = (plain, hdml), (pair(hdml, plain),)
    verdict = conclude(arms, pairs, method="hdml", reference="plain")
    page = to_html(dataclasses.replace(comparison, arms=arms, paired=pairs, verdict=verdict))
    shown = Elements(page)
    key = 2  # of each figure's key, one line and one dot
    assert sum(attributes.get("class") == "interval" for _, attributes in shown.elements) == key
    assert sum(attributes.get("class") == "seed" for _, attributes in shown.elements) == key + 2 * 2 + 1
    assert "no interval" in shown.text
    assert "With 1 seed nothing can be concluded" in shown.text


def test_dots_lie_where_their_values_are(comparison: Comparison) -> None:
    axis = axis_of_arms(comparison.arms, "map_at_r")
    row = next(
        html.unescape(found)
        for found in re.findall(r'<svg height="46".*?</svg></div>', to_html(comparison))
        if "hdml: MAP@R" in found
    )
    places = [float(place) for place in re.findall(r'class="seed" cx="([\d.]+)%"', row)]
    values = [axis.low + place / 100 * (axis.high - axis.low) for place in places]
    assert values == pytest.approx([0.45, 0.463, 0.47], abs=1e-4 * (axis.high - axis.low))


def test_axis_draws_what_lies_beyond_at_its_ends_and_has_round_ticks() -> None:
    axis = Axis(-0.013, 0.042)
    assert [axis.at(value) for value in (-1.0, -0.013, 0.0145, 0.042, 7.0)] == ["0.00%", "0.00%", "50.00%", "100.00%", "100.00%"]
    assert axis.ticks() == pytest.approx([-0.01, 0.0, 0.01, 0.02, 0.03, 0.04])
    for low, high in ((0.0, 1.0), (0.4, 0.41), (-0.3, 0.2), (0.93, 0.99)):
        ticks = Axis(low, high).ticks()
        assert 3 <= len(ticks) <= 7
        assert low - 1e-9 <= min(ticks) < max(ticks) <= high + 1e-9


def test_axis_of_differences_holds_zero_the_margin_and_every_seed_but_no_endless_interval() -> None:
    pairs = [pair(arm("hdml", (0.45, 0.50)), arm("plain", (0.44, 0.44)))]
    assert pairs[0].high > 0.3  # two seeds: twelve standard errors
    axis = axis_of_differences(pairs, 0.01)
    assert axis.low < -0.01 < 0.06 < axis.high < 0.3
    assert not axis.holds(pairs[0].high)
    endless = [dataclasses.replace(pairs[0], low=-math.inf, high=math.inf)]
    assert math.isfinite(axis_of_differences(endless, 0.01).low)


def test_axis_of_arms_holds_every_seed_but_no_endless_interval() -> None:
    arms = [arm("plain", (0.40, 0.44)), arm("hdml", (0.43, 0.46))]
    assert interval_of(arms[0], "map_at_r")[1] > 0.6
    axis = axis_of_arms(arms, "map_at_r")
    assert 0.3 < axis.low < 0.40 < 0.46 < axis.high < 0.6
    near_one = axis_of_arms([arm("plain", (0.97, 0.98, 0.99), higher=0.0)], "map_at_r")
    assert 0.99 < near_one.high < 1.01


def test_band_is_as_wide_as_the_margin_of_the_verdicts(comparison: Comparison) -> None:
    page = to_html(dataclasses.replace(comparison, margin=0.02))
    axis = axis_of_differences([one for one in comparison.paired if one.measure == "map_at_r"], 0.02)
    (x, width), *_ = re.findall(r'class="band" x="([\d.]+)%" width="([\d.]+)%"', page)
    assert float(width) == pytest.approx(100 * 0.04 / (axis.high - axis.low), abs=0.01)
    assert axis.low + float(x) / 100 * (axis.high - axis.low) == pytest.approx(-0.02, abs=1e-4)
    assert "± 2 points no difference in use" in page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = find_chromium()  # before Playwright's loop runs, since looking may start one of its own
    assert chromium, "there is no Chromium for the report's tests; install one with: python tools/chromium.py"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [390, 1440])
def test_browser_shows_the_page_whole_without_error_or_request(
    width: int, browser: Browser, comparison: Comparison, tmp_path: Path
) -> None:
    file = write_report(renamed(comparison, HOSTILE), tmp_path)
    page, asked, errors = browser.new_page(viewport={"width": width, "height": 900}), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(file.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert errors == []
    assert page.title() == f"{HOSTILE} · comparison of training arms · hdml"
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


def test_browser_draws_photos_and_follows_the_systems_dark_mode(browser: Browser, comparison: Comparison, tmp_path: Path) -> None:
    file, grounds = write_report(comparison, tmp_path), []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(file.as_uri())
        assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert grounds == ["rgb(250, 249, 247)", "rgb(20, 21, 23)"]
