"""The ruler of a look as a figure for papers and talks: distances true to scale, at the model's own λ or at any other."""

import math
from collections.abc import Callable

from app.drawing import Drawing, Path, Picture, Point, Text, circle, diamond, star, text_width
from indexing.hardness import Look, Negative, Photo

WIDTH = 504.0  # points, 7 inches: the text width of a paper in one column
_ROW = 34.0
_TOP, _BOTTOM = 62.0, 52.0
_LEFT, _RIGHT = 132.0, 96.0  # of the scale, beside which stand the photos
_SIDE = 26.0  # of a photo
_INK, _MUTED, _GRID = "#1b1c1e", "#62625e", "#e2dfd9"
_SAME, _NEGATIVE, _SYNTHETIC, _PAPER = "#15803d", "#b3380a", "#2f55d4", "#ffffff"

Jpeg = Callable[[int], bytes | None]
"""A small JPEG of an item by its id, or None where there is none."""


def ruler_figure(look: Look, jpeg: Jpeg, *, place: int | None = None) -> Drawing:
    """The ruler, synthetics measured from the anchor that is embedded again.

    Args:
        place: of λ among ``look.shares``; the model's own by default.
    """
    place = look.own if place is None else place
    rows = len(look.negatives) + 1
    drawing = Drawing(WIDTH, _TOP + rows * _ROW + _BOTTOM)
    farthest = [look.positive.distance, look.reembedded_positive]
    farthest += [max(n.photo.distance, n.pulled[place], n.reembedded[place]) for n in look.negatives]
    most = 1.05 * max(farthest) or 1.0

    def x(distance: float) -> float:
        return _LEFT + distance / most * (WIDTH - _LEFT - _RIGHT)

    bottom = _TOP + rows * _ROW
    _heading(drawing, look, place)
    _scale(drawing, look, x, most, bottom)
    _photo(drawing, look.anchor, jpeg, (1, 22), _INK, "Anchor")
    middle = _TOP + _ROW / 2
    _photo(drawing, look.positive, jpeg, (1, middle - _SIDE / 2), _SAME, "Positive")
    drawing.add(Path(circle((x(look.positive.distance), middle), 3.6), fill=_SAME, closed=True))
    again = star((x(look.reembedded_positive), middle), 5)
    drawing.add(Path(again, stroke=_SAME, fill=_PAPER, width=0.9, closed=True))
    for row, negative in enumerate(look.negatives, 1):
        _row(drawing, negative, jpeg, x, _TOP + (row + 0.5) * _ROW, place)
    _legend(drawing, bottom + 40)
    return drawing


def _heading(drawing: Drawing, look: Look, place: int) -> None:
    share = f"λ = {look.shares[place]:.3f}"
    own = ", the model’s own" if place == look.own else ""
    stage = f", after step {look.training.chosen} of {look.training.steps}" if own and look.training else ""
    drawing.add(Text((0, 12), share, 12, bold=True))
    drawing.add(Text((1.25 * text_width(share, 12) + 12, 12), f"{own}{stage}; {look.loss} loss".removeprefix(", "), 8, _MUTED))
    drawing.add(Text((WIDTH, 12), "photos nearest to the synthetic", 7, _MUTED, "end"))


def _scale(drawing: Drawing, look: Look, x: Callable[[float], float], most: float, bottom: float) -> None:
    zone = [(x(0), _TOP), (x(look.positive.distance), _TOP), (x(look.positive.distance), bottom), (x(0), bottom)]
    drawing.add(Path(zone, fill="#eef6f0", closed=True))
    for tick in ticks(most):
        drawing.add(Path([(x(tick), _TOP), (x(tick), bottom)], _GRID, width=0.6))
        drawing.add(Text((x(tick), bottom + 10), f"{tick:g}", 7, _MUTED, "middle"))
    drawing.add(Text((x(most), bottom + 20), "distance from the anchor", 7, _MUTED, "end"))
    drawing.add(Path([(x(0), _TOP), (x(0), bottom)], _MUTED, width=0.8))
    for distance, name, dash, lift in (
        (look.positive.distance, "d⁺", (4.0, 3.0), 6.0),
        (look.reembedded_positive, "d⁺ embedded again", (0.8, 2.4), 16.0),
    ):
        drawing.add(Path([(x(distance), _TOP - lift + 2), (x(distance), bottom)], _SAME, width=1.1, dash=dash))
        drawing.add(Text((x(distance), _TOP - lift), f"{name} {distance:.3f}", 7, _SAME, "middle", bold=True))


def ticks(most: float) -> list[float]:
    """Round numbers from 0 to at most ``most``, six to fourteen of them or so."""
    power = 10.0 ** math.floor(math.log10(most / 7))
    step = next(size * power for size in (1, 2, 5, 10) if most / (size * power) <= 7)
    return [round(step * i, 12) for i in range(int(most / step + 1e-9) + 1)]


def _row(drawing: Drawing, negative: Negative, jpeg: Jpeg, x: Callable[[float], float], y: float, place: int) -> None:
    real, pulled, made = x(negative.photo.distance), x(negative.pulled[place]), x(negative.reembedded[place])
    _photo(
        drawing,
        negative.photo,
        jpeg,
        (0, y - _SIDE / 2),
        _NEGATIVE,
        negative.photo.label or "",
        f"d = {negative.photo.distance:.3f}",
    )
    drawing.add(Path([(x(0), y), (WIDTH - _RIGHT, y)], _GRID, width=0.6))
    drawing.add(Path([(real, y), (pulled, y)], "#d98d70", width=2))
    drawing.add(Path(_arc(pulled, made, y), _SYNTHETIC, width=0.9, dash=(2, 2)))
    drawing.add(Path(diamond((pulled, y), 4.6), stroke=_NEGATIVE, fill=_PAPER, width=1.1, closed=True))
    drawing.add(Path(circle((real, y), 3.0), fill=_NEGATIVE, closed=True))
    fill = _SYNTHETIC if negative.label_kept[place] else _PAPER
    drawing.add(Path(star((made, y), 5.6), stroke=_SYNTHETIC, fill=fill, width=0.9, closed=True))
    drawing.add(Text((made, y - 8), f"{negative.reembedded[place]:.3f}", 7, _SYNTHETIC, "middle", bold=True))
    for column, (item, _) in enumerate(negative.nearest[place]):
        if (content := jpeg(item)) is not None:
            drawing.add(Picture((WIDTH - _RIGHT + 9 + column * (_SIDE + 3), y - _SIDE / 2), _SIDE, content))


def _photo(drawing: Drawing, photo: Photo, jpeg: Jpeg, at: Point, colour: str, name: str, more: str | None = None) -> None:
    x, y = at
    content = jpeg(photo.id)
    if content is not None:
        drawing.add(Picture(at, _SIDE, content))
    frame = [(x, y), (x + _SIDE, y), (x + _SIDE, y + _SIDE), (x, y + _SIDE)]
    drawing.add(Path(frame, stroke=colour, width=1.4, closed=True))
    drawing.add(Text((x + _SIDE + 6, y + 11), _shortened(name), 8, bold=True))
    drawing.add(Text((x + _SIDE + 6, y + 21), _shortened(photo.label or "" if more is None else more), 7, _MUTED))


def _shortened(text: str) -> str:
    return text if len(text) <= 20 else text[:19] + "…"


def _arc(start: float, end: float, y: float) -> list[Point]:
    """A quadratic curve between two places of a line, above it."""
    return [(start + (end - start) * t / 20, y - 26 * (t / 20) * (1 - t / 20)) for t in range(21)]


def _legend(drawing: Drawing, y: float) -> None:
    at = 0.0
    for marks, text in (
        ([Path(circle((5, y - 2.5), 3.4), fill=_SAME, closed=True)], "positive"),
        ([Path(circle((5, y - 2.5), 3.4), fill=_NEGATIVE, closed=True)], "real negative"),
        ([Path(diamond((5, y - 2.5), 4.2), stroke=_NEGATIVE, fill=_PAPER, closed=True)], "pulled"),
        ([Path(star((5, y - 2.5), 5.2), stroke=_SYNTHETIC, fill=_SYNTHETIC, closed=True)], "synthetic, label kept"),
        ([Path(star((5, y - 2.5), 5.2), stroke=_SYNTHETIC, fill=_PAPER, closed=True)], "synthetic, label lost"),
    ):
        for mark in marks:
            moved = [(x + at, height) for x, height in mark.points]
            drawing.add(Path(moved, mark.stroke, mark.fill, 0.9, closed=True))
        drawing.add(Text((at + 14, y), text, 7, _MUTED))
        at += 14 + text_width(text, 7) + 16
