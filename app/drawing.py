"""A drawing of lines, shapes, text and photos, written as SVG, PDF or PNG; the product needs no plotting library for its figures.

Lengths are in points, 1/72 inch, from the upper left corner. Text is in the sans-serif font of whoever opens the SVG; in the
PDF in Helvetica and Symbol, which every reader has (ISO 32000-1, 9.6.2.2), without characters beyond Windows-1252 and λ.
"""

import base64
import io
import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from itertools import pairwise
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]
_SMOOTHING = 3  # times as many pixels are drawn as the PNG has, each way
_FONTS = ("DejaVuSans", "Arial", "LiberationSans-Regular", "Helvetica")
_SPELLED = {"λ": "lambda", "⁺": "+", "−": "-", "·": "-", "→": "->", "’": "'"}


@dataclass(frozen=True)
class Path:
    """A line through points, or with ``fill`` a shape; colours are #rrggbb, and a stroke of None is none."""

    points: Sequence[Point]
    stroke: str | None = None
    fill: str | None = None
    width: float = 1.0
    dash: tuple[float, float] | None = None
    closed: bool = False


@dataclass(frozen=True)
class Text:
    at: Point
    text: str
    size: float = 8.0
    colour: str = "#1b1c1e"
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False


@dataclass(frozen=True)
class Picture:
    """A photo as JPEG bytes, filling a square from its upper left corner."""

    at: Point
    side: float
    jpeg: bytes


@dataclass
class Drawing:
    """What is drawn, first things lowest."""

    width: float
    height: float
    parts: list[Path | Text | Picture] = field(default_factory=list)

    def add(self, *parts: Path | Text | Picture) -> None:
        self.parts.extend(parts)


def circle(centre: Point, radius: float, count: int = 40) -> list[Point]:
    """Corners of a polygon that looks like a circle."""
    return [_at(centre, radius, 2 * math.pi * i / count) for i in range(count)]


def star(centre: Point, radius: float) -> list[Point]:
    return [_at(centre, radius * (0.45 if i % 2 else 1), math.pi * i / 5 - math.pi / 2) for i in range(10)]


def diamond(centre: Point, radius: float) -> list[Point]:
    return [_at(centre, radius, math.pi * i / 2) for i in range(4)]


def _at(centre: Point, radius: float, angle: float) -> Point:
    return centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)


def to_svg(drawing: Drawing) -> str:
    """The drawing as an SVG file of its own, photos inside it."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{drawing.width:g}pt" height="{drawing.height:g}pt" '
        f'viewBox="0 0 {drawing.width:g} {drawing.height:g}" font-family="Helvetica, Arial, sans-serif">',
        f'<rect width="{drawing.width:g}" height="{drawing.height:g}" fill="#ffffff"/>',
    ]
    for part in drawing.parts:
        match part:
            case Path():
                corners = " ".join(f"{x:.2f},{y:.2f}" for x, y in part.points)
                dash = f' stroke-dasharray="{part.dash[0]:g} {part.dash[1]:g}"' if part.dash else ""
                style = f'fill="{part.fill or "none"}" stroke="{part.stroke or "none"}" stroke-width="{part.width:g}"{dash}'
                parts.append(f'<{"polygon" if part.closed else "polyline"} points="{corners}" {style}/>')
            case Text(at=(x, y)):
                weight = ' font-weight="bold"' if part.bold else ""
                style = f'font-size="{part.size:g}" fill="{part.colour}" text-anchor="{part.anchor}"{weight}'
                parts.append(f'<text x="{x:.2f}" y="{y:.2f}" {style}>{escape(_printable(part.text))}</text>')
            case Picture(at=(x, y)):
                source = "data:image/jpeg;base64," + base64.b64encode(_square(part.jpeg)).decode("ascii")
                parts.append(f'<image x="{x:.2f}" y="{y:.2f}" width="{part.side:g}" height="{part.side:g}" href="{source}"/>')
    return "\n".join([*parts, "</svg>", ""])


def to_png(drawing: Drawing, *, dpi: int = 300) -> bytes:
    """The drawing as a PNG file."""
    scale = dpi / 72 * _SMOOTHING
    size = round(drawing.width * scale), round(drawing.height * scale)
    image = Image.new("RGB", size, "#ffffff")
    pen = ImageDraw.Draw(image)
    for part in drawing.parts:
        match part:
            case Path():
                corners = [(x * scale, y * scale) for x, y in part.points]
                if part.fill:
                    pen.polygon(corners, fill=part.fill)
                if part.stroke:
                    outline = [*corners, corners[0]] if part.closed else corners
                    for piece in _dashed(outline, [length * scale for length in part.dash] if part.dash else None):
                        pen.line(piece, fill=part.stroke, width=max(1, round(part.width * scale)), joint="curve")
            case Text(at=(x, y)):
                font, spell = _font(round(part.size * scale))
                place = {"start": "ls", "middle": "ms", "end": "rs"}[part.anchor]
                heavy = round(part.size * scale / 40) if part.bold else 0
                written = spell(_printable(part.text))
                pen.text((x * scale, y * scale), written, part.colour, font, place, stroke_width=heavy, stroke_fill=part.colour)
            case Picture(at=(x, y)):
                side = round(part.side * scale)
                with Image.open(io.BytesIO(_square(part.jpeg))) as photo:
                    image.paste(photo.resize((side, side), Image.Resampling.LANCZOS), (round(x * scale), round(y * scale)))
    smooth = image.resize((size[0] // _SMOOTHING, size[1] // _SMOOTHING), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    smooth.save(target, "PNG", dpi=(dpi, dpi), optimize=True)
    return target.getvalue()


def to_pdf(drawing: Drawing) -> bytes:
    """The drawing as a PDF file of one page, vectors and text as such."""
    pictures, content = [part.jpeg for part in drawing.parts if isinstance(part, Picture)], []
    names = iter(range(len(pictures)))
    for part in drawing.parts:
        match part:
            case Path():
                content.append(_pdf_path(part, drawing.height))
            case Text():
                content.append(_pdf_text(part, drawing.height))
            case Picture(at=(x, y), side=side):
                place = f"{side:.2f} 0 0 {side:.2f} {x:.2f} {drawing.height - y - side:.2f}"
                content.append(f"q {place} cm /I{next(names)} Do Q".encode())
    images = "".join(f"/I{i} {7 + i} 0 R " for i in range(len(pictures)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {drawing.width:.2f} {drawing.height:.2f}] /Contents 4 0 R /Resources "
            f"<< /Font << /F 5 0 R /B 6 0 R /S {7 + len(pictures)} 0 R >> /XObject << {images}>> >> >>"
        ).encode(),
        _stream("/Filter /FlateDecode", zlib.compress(b"\n".join(content))),
        *(f"<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>".encode() for name in _PDF_FONTS),
        *(_pdf_image(_square(jpeg)) for jpeg in pictures),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Symbol >>",
    ]
    return _pdf_file(objects)


_PDF_FONTS = ("Helvetica", "Helvetica-Bold")


def _pdf_path(path: Path, height: float) -> bytes:
    corners = [f"{x:.2f} {height - y:.2f}" for x, y in path.points]
    paint = {(True, True): "B", (True, False): "f", (False, True): "S"}[bool(path.fill), bool(path.stroke)]
    dash = f"[{path.dash[0]:g} {path.dash[1]:g}] 0 d" if path.dash else "[] 0 d"
    colours = [f"{_rgb(path.fill)} rg"] if path.fill else []
    colours += [f"{_rgb(path.stroke)} RG {path.width:g} w {dash} 1 j"] if path.stroke else []
    line = f"{corners[0]} m {' '.join(f'{corner} l' for corner in corners[1:])}{' h' if path.closed else ''} {paint}"
    return " ".join([*colours, line]).encode()


def _pdf_text(text: Text, height: float) -> bytes:
    """Runs of one font each; the raised plus is a plus that is raised."""
    written, size = [], text.size
    for run in re.findall(r"λ|−|⁺|[^λ−⁺]+", _printable(text.text)):
        if run in "λ−":
            written.append(b"/S %g Tf (%s) Tj" % (size, b"l" if run == "λ" else b"-"))
        elif run == "⁺":
            written.append(b"/F %g Tf %g Ts (+) Tj 0 Ts" % (0.7 * size, 0.35 * size))
        else:
            letters = re.sub(rb"([()\\])", rb"\\\1", run.encode("cp1252", "replace"))
            written.append(b"/%s %g Tf (%s) Tj" % (b"B" if text.bold else b"F", size, letters))
    length = text_width(text.text, size)
    x = text.at[0] - {"start": 0.0, "middle": length / 2, "end": length}[text.anchor]
    return f"BT {_rgb(text.colour)} rg {x:.2f} {height - text.at[1]:.2f} Td ".encode() + b" ".join(written) + b" ET"


def _pdf_image(jpeg: bytes) -> bytes:
    with Image.open(io.BytesIO(jpeg)) as photo:
        width, height = photo.size
    about = f"/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceRGB /BitsPerComponent 8"
    return _stream(f"{about} /Filter /DCTDecode", jpeg)


def _stream(about: str, content: bytes) -> bytes:
    return f"<< {about} /Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream"


def _pdf_file(objects: Sequence[bytes]) -> bytes:
    file, places = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj\n" % number + content + b"\nendobj\n"
    table = len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + b"".join(b"%010d 00000 n \n" % place for place in places)
    file += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(file)


def text_width(text: str, size: float) -> float:
    """About how long a text is in Helvetica, whose letters are about as wide as those of Pillow's own font."""
    font = ImageFont.load_default(100)
    alike = _printable(text).replace("λ", "l").replace("⁺", "+").replace("−", "-")
    return float(font.getlength(alike)) * size / 100


@cache
def _font(size: int) -> tuple[Any, Callable[[str], str]]:
    """A font, and what turns a text into one that it can write: Pillow's own has the letters of ASCII alone."""
    for name in _FONTS:
        try:
            return ImageFont.truetype(f"{name}.ttf", size), str
        except OSError:
            continue
    return ImageFont.load_default(size), _spelled


def _spelled(text: str) -> str:
    return "".join(_SPELLED.get(letter, letter) for letter in text).encode("ascii", "replace").decode("ascii")


def _square(jpeg: bytes) -> bytes:
    """The middle of a photo, as a JPEG of three channels."""
    with Image.open(io.BytesIO(jpeg)) as photo:
        side = min(photo.size)
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        middle = photo.convert("RGB").crop((left, top, left + side, top + side))
    target = io.BytesIO()
    middle.save(target, "JPEG", quality=90)
    return target.getvalue()


def _rgb(colour: str | None) -> str:
    assert colour is not None
    return " ".join(f"{int(colour[i : i + 2], 16) / 255:.3f}" for i in (1, 3, 5))


def _dashed(corners: list[Point], dash: list[float] | None) -> list[list[Point]]:
    """The pieces of a line that are drawn."""
    if dash is None:
        return [corners]
    pieces, left, on = [], dash[0], True
    current = [corners[0]]
    for start, end in pairwise(corners):
        length, done = math.dist(start, end), 0.0
        while length - done > left:
            done += left
            point = start[0] + (end[0] - start[0]) * done / length, start[1] + (end[1] - start[1]) * done / length
            if on:
                pieces.append([*current, point])
            on, current = not on, [point]
            left = dash[0] if on else dash[1]
        left -= length - done
        if on:
            current.append(end)
    return [*pieces, current] if on and len(current) > 1 else pieces


def _printable(text: str) -> str:
    """Without control characters and half characters, which neither XML nor fonts have."""
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else "?" for letter in clean)
