"""What a drawing is written as, read back: SVG by an XML parser, PNG by Pillow, PDF by its own table of objects."""

import io
import re
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import app.drawing
from app.drawing import Drawing, Path, Picture, Text, circle, diamond, star, text_width, to_pdf, to_png, to_svg

SVG = "{http://www.w3.org/2000/svg}"


def jpeg(colour: str, size: tuple[int, int] = (30, 20)) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", size, colour).save(target, "JPEG", quality=95)
    return target.getvalue()


@pytest.fixture
def drawing() -> Drawing:
    drawing = Drawing(200, 100)
    drawing.add(Path([(10, 50), (190, 50)], "#ff0000", width=4, dash=(20, 20)))
    drawing.add(Path([(150, 10), (190, 10), (190, 40), (150, 40)], fill="#0000ff", closed=True))
    drawing.add(Picture((20, 60), 30, jpeg("lime")))
    drawing.add(Text((10, 20), "λ = 0.5, d⁺ & <b>(é)\\", 10))
    return drawing


def test_svg_holds_what_was_drawn_and_escapes_text(drawing: Drawing) -> None:
    root = ElementTree.fromstring(to_svg(drawing))
    assert root.get("viewBox") == "0 0 200 100"
    assert root.find(f"{SVG}polyline").get("points") == "10.00,50.00 190.00,50.00"
    assert root.find(f"{SVG}polygon").get("fill") == "#0000ff"
    assert root.find(f"{SVG}text").text == "λ = 0.5, d⁺ & <b>(é)\\"
    assert root.find(f"{SVG}image").get("href").startswith("data:image/jpeg;base64,")


def test_control_characters_and_half_characters_break_no_file() -> None:
    drawing = Drawing(50, 50)
    drawing.add(Text((0, 10), "a\x00b\udcff\x1b"))
    assert ElementTree.fromstring(to_svg(drawing)).find(f"{SVG}text").text == "a?b??"
    assert b"(a?b??)" in page_of(to_pdf(drawing))
    assert to_png(drawing, dpi=72)


def test_png_has_its_pixels_where_they_were_drawn(drawing: Drawing) -> None:
    with Image.open(io.BytesIO(to_png(drawing, dpi=72))) as image:
        assert image.size == (200, 100)
        assert image.getpixel((170, 25)) == pytest.approx((0, 0, 255), abs=12)
        assert image.getpixel((20, 50)) == pytest.approx((255, 0, 0), abs=12)
        assert image.getpixel((40, 50)) == (255, 255, 255)  # a gap of the dashes
        assert image.getpixel((60, 50)) == pytest.approx((255, 0, 0), abs=12)
        red, green, blue = image.getpixel((35, 75))
        assert green > 240 > 20 > red + blue
        assert np.asarray(image.crop((10, 8, 60, 24))).min() < 90  # the text


def test_png_writes_without_any_font_of_the_system(drawing: Drawing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.drawing, "_FONTS", ())
    app.drawing._font.cache_clear()
    _, spell = app.drawing._font(30)
    assert spell("λ = 0.5, d⁺ é") == "lambda = 0.5, d+ ?"
    assert to_png(drawing, dpi=72)
    app.drawing._font.cache_clear()


def objects_of(pdf: bytes) -> list[bytes]:
    """The objects of a PDF by its cross-reference table."""
    table = int(re.search(rb"startxref\n(\d+)", pdf)[1])
    count = int(re.match(rb"xref\n0 (\d+)", pdf[table:])[1])
    places = [int(place) for place in re.findall(rb"(\d{10}) 00000 n ", pdf[table:])]
    assert len(places) == count - 1
    for number, place in enumerate(places, 1):
        assert pdf[place:].startswith(b"%d 0 obj\n" % number)
    return [pdf[place:].split(b"\nendobj\n")[0].split(b"obj\n", 1)[1] for place in places]


def page_of(pdf: bytes) -> bytes:
    content = objects_of(pdf)[3]
    length = int(re.search(rb"/Length (\d+)", content)[1])
    return zlib.decompress(content.split(b"stream\n", 1)[1][:length])


def test_pdf_has_vectors_text_and_photos_at_their_places(drawing: Drawing) -> None:
    pdf = to_pdf(drawing)
    page = page_of(pdf)
    assert b"/MediaBox [0 0 200.00 100.00]" in pdf
    assert b"1.000 0.000 0.000 RG 4 w [20 20] 0 d 1 j 10.00 50.00 m 190.00 50.00 l S" in page
    assert b"0.000 0.000 1.000 rg 150.00 90.00 m 190.00 90.00 l 190.00 60.00 l 150.00 60.00 l h f" in page
    assert b"30.00 0 0 30.00 20.00 10.00 cm /I0 Do" in page
    assert b"/S 10 Tf (l) Tj /F 10 Tf ( = 0.5, d) Tj /F 7 Tf 3.5 Ts (+) Tj 0 Ts" in page
    assert rb" & <b>\(" + b"\xe9" + rb"\)\\) Tj" in page
    photo = next(content for content in objects_of(pdf) if b"/DCTDecode" in content)
    with Image.open(io.BytesIO(photo.split(b"stream\n", 1)[1].rsplit(b"\nendstream", 1)[0])) as image:
        assert (image.size, image.mode) == ((20, 20), "RGB")  # its middle


def test_grey_photos_are_drawn_too() -> None:
    target = io.BytesIO()
    Image.new("L", (9, 9), 80).save(target, "JPEG")
    drawing = Drawing(40, 40)
    drawing.add(Picture((0, 0), 40, target.getvalue()))
    assert b"/DeviceRGB" in to_pdf(drawing)
    with Image.open(io.BytesIO(to_png(drawing, dpi=72))) as image:
        assert image.getpixel((20, 20)) == pytest.approx((80, 80, 80), abs=3)


def test_shapes_lie_around_their_centres() -> None:
    for shape, reach in ((circle((5, 6), 2), 2), (star((5, 6), 2), 2), (diamond((5, 6), 2), 2)):
        assert max(((x - 5) ** 2 + (y - 6) ** 2) ** 0.5 for x, y in shape) == pytest.approx(reach)
    assert text_width("wide", 20) == pytest.approx(2 * text_width("wide", 10))
