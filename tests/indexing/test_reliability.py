"""The page about scores: whole, self-contained, and with the figures of the calibration."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from indexing.calibration import Calibration, calibrate_vectors
from indexing.catalogue import Catalogue
from indexing.errors import HdmlError
from indexing.reliability import to_html, write_reliability
from tests.indexing.test_calibration import as_vectors, things


@pytest.fixture
def found() -> Calibration:
    vectors, numbers = things(60, 10)
    made = calibrate_vectors(as_vectors(vectors), np.arange(len(vectors)), numbers)
    assert isinstance(made, Calibration)
    return made


@pytest.fixture
def index_dir(tmp_path: Path, found: Calibration) -> Path:
    with Catalogue.create(tmp_path, gallery=tmp_path, fingerprint="f00d", dimension=32) as catalogue:
        catalogue.set_calibration(found.to_json())
    return tmp_path


class _Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_whole_and_loads_nothing(index_dir: Path, found: Calibration) -> None:
    target = index_dir / "pages" / "scores.html"
    write_reliability(index_dir, target)
    assert [path.name for path in target.parent.iterdir()] == ["scores.html"]
    page = _Balanced()
    page.feed(target.read_text(encoding="utf-8"))
    assert page.open == []
    assert not [attributes for _, attributes in page.seen if {"src", "href"} & attributes.keys()]
    assert [tag for tag, _ in page.seen].count("svg") == 2


def test_page_tells_what_the_calibration_does(found: Calibration) -> None:
    page = to_html(found, "<b>name")
    assert "&lt;b&gt;name" in page
    assert f"match from {found.match:.4f}, no match below {found.unsure:.4f}" in page
    rows = re.findall(r"<tr class=\"(\w+)\"><td>([\d.]+)", page)
    assert [float(asked) / 100 for _, asked in rows] == [point.asked for point in found.check.curve]
    assert [asked for name, asked in rows if name == "chosen"] == ["1"]


def test_points_lie_where_the_rates_are(found: Calibration) -> None:
    """Both axes are logarithmic, and alike: a point on the diagonal has what was asked."""
    page = to_html(found, "name")
    points = [(float(x), float(y)) for x, y in re.findall(r'<circle class="held" r="3.4" cx="([\d.]+)" cy="([\d.]+)"', page)]
    ((x0, y0), (x1, y1)) = (
        tuple(map(float, corner.split(",")))
        for corner in re.search(r'asked" stroke-dasharray="2 4" points="([^"]+)"', page)[1].split()
    )
    for (x, y), point in zip(points, found.check.curve, strict=True):
        across, up = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        assert 0.0005 * 2000**across == pytest.approx(point.asked, rel=0.02)
        assert 0.0005 * 2000**up == pytest.approx(max(point.achieved.share, 0.0005), rel=0.03)


def test_gallery_without_pairs_has_a_page_too() -> None:
    vectors, numbers = things(200, 1)
    made = calibrate_vectors(as_vectors(vectors), np.arange(200), numbers)
    assert isinstance(made, Calibration)
    assert "nothing is known of what two photos of one thing score" in to_html(made, "name")


def test_index_without_a_calibration_is_a_sentence(tmp_path: Path) -> None:
    with Catalogue.create(tmp_path, gallery=tmp_path, fingerprint="f00d", dimension=32) as catalogue:
        with pytest.raises(
            HdmlError, match=r'needs a calibrated index, but .* is not: nobody has looked; run "hdml index" again'
        ):
            write_reliability(tmp_path, tmp_path / "page.html")
        catalogue.set_calibration({"basis": None, "sequence": 0, "asked": 0.01, "reason": "3 photos are too few"})
        with pytest.raises(HdmlError, match="is not: 3 photos are too few"):
            write_reliability(tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_page_that_cannot_be_written_is_a_sentence(index_dir: Path) -> None:
    (index_dir / "file").write_text("")
    with pytest.raises(HdmlError, match=r"page\.html cannot be written"):
        write_reliability(index_dir, index_dir / "file" / "page.html")
