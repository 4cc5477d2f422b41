"""The lens as a plotly figure: plain dictionaries, so that neither the server nor a test needs plotly to make one.

The anchor is the centre. A point's distance from the centre is its true distance from the anchor; its direction is a projection
(:class:`indexing.hardness.Compass`). A pulled negative therefore lies exactly on the line from the anchor to its negative.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from indexing.hardness import Look, Negative, Photo

Point = tuple[float, float]
_PICTURE = 0.115  # side of a photo in the figure, in units of the outermost radius


class Palette(NamedTuple):
    """Colours of the figure; those of the page's style sheet."""

    ink: str
    muted: str
    grid: str
    same_label: str
    negative: str
    synthetic: str


LIGHT = Palette("#1b1c1e", "#8b8a86", "#e2dfd9", "#15803d", "#c2410c", "#2f55d4")
DARK = Palette("#ececea", "#85868a", "#303236", "#4ade80", "#fb923c", "#8fa8ff")


def lens_figure(look: Look, index: str, *, dark: bool = False) -> dict[str, Any]:
    """The figure of a look, ready for ``Plotly.newPlot``; photos are drawn from the image route of that index."""
    colours = DARK if dark else LIGHT
    radius = 1.12 * max(
        [look.positive.distance, *(photo.distance for photo in look.neighbors)]
        + [max(negative.photo.distance, negative.synthetic_distance) for negative in look.negatives]
    )
    radius = radius or 1.0  # a gallery of identical photos has no extent
    traces = [
        *_surroundings(look, colours),
        *(_journey(negative, colours) for negative in look.negatives),
        *_tuple_members(look, colours),
    ]
    pictured = [(look.anchor, colours.ink), (look.positive, colours.same_label)]
    pictured += [(negative.photo, colours.negative) for negative in look.negatives]
    return {"data": traces, "layout": _layout(look, index, pictured, radius, colours)}


def place(distance: float, angle: float) -> Point:
    return distance * math.cos(angle), distance * math.sin(angle)


def _surroundings(look: Look, colours: Palette) -> list[dict[str, Any]]:
    shown = {look.positive.id, *(negative.photo.id for negative in look.negatives)}
    others = [photo for photo in look.neighbors if photo.id not in shown]
    same = [photo for photo in others if photo.label == look.anchor.label]
    different = [photo for photo in others if photo.label != look.anchor.label]
    return [
        _photos("other labels nearby", different, colours.muted, size=6, opacity=0.55),
        _photos("anchor’s label nearby", same, colours.same_label, size=7, opacity=0.8),
    ]


def _tuple_members(look: Look, colours: Palette) -> list[dict[str, Any]]:
    negatives = look.negatives
    pulled = [place(negative.pulled_distance, negative.photo.angle) for negative in negatives]
    synthetic = [place(negative.synthetic_distance, negative.synthetic_angle) for negative in negatives]
    diamond = {"symbol": "diamond-open", "size": 10, "color": colours.negative, "line": {"width": 2}}
    star = {"symbol": "star", "size": 13, "color": colours.synthetic, "line": {"width": 0}}
    return [
        _photos("positive", [look.positive], colours.same_label, size=9),
        _photos("negatives", [negative.photo for negative in negatives], colours.negative, size=9),
        _derived("pulled negatives", negatives, pulled, [n.pulled_distance for n in negatives], diamond),
        _derived("synthetics", negatives, synthetic, [n.synthetic_distance for n in negatives], star),
    ]


def _photos(name: str, photos: Sequence[Photo], colour: str, *, size: int, opacity: float = 1.0) -> dict[str, Any]:
    marker = {"size": size, "color": colour, "opacity": opacity, "line": {"width": 0}}
    trace = _scatter(name, [place(photo.distance, photo.angle) for photo in photos], marker)
    trace["customdata"] = [[photo.id, photo.label, photo.distance] for photo in photos]
    return trace


def _derived(
    name: str, negatives: Sequence[Negative], points: Sequence[Point], distances: Sequence[float], marker: dict[str, Any]
) -> dict[str, Any]:
    """Points that are no photos: hovering over one shows the negative that it comes from."""
    trace = _scatter(name, points, marker)
    trace["customdata"] = [
        [negative.photo.id, negative.photo.label, distance] for negative, distance in zip(negatives, distances, strict=True)
    ]
    return trace


def _scatter(name: str, points: Sequence[Point], marker: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "marker": marker,
        "hoverinfo": "none",  # the page shows its own, with the photo
    }


def _journey(negative: Negative, colours: Palette) -> dict[str, Any]:
    """From the negative to where it was pulled, and on to the synthetic."""
    points = [
        place(negative.photo.distance, negative.photo.angle),
        place(negative.pulled_distance, negative.photo.angle),
        place(negative.synthetic_distance, negative.synthetic_angle),
    ]
    line = {"color": colours.synthetic, "width": 1.2, "dash": "dot"}
    return {**_scatter("", points, {}), "mode": "lines", "line": line, "showlegend": False, "hoverinfo": "skip"}


def _layout(look: Look, index: str, pictured: Sequence[tuple[Photo, str]], radius: float, colours: Palette) -> dict[str, Any]:
    axis = {"visible": False, "range": [-radius, radius], "constrain": "domain"}
    step = _ring_step(radius)
    rings = [step * i for i in range(1, int(radius / step) + 1)]
    shapes = [_circle(ring, colours.grid) for ring in rings]
    shapes.append(_circle(look.positive.distance, colours.same_label, width=1.6, dash="dash"))
    shapes += [_ray(negative.photo, colours.negative) for negative in look.negatives]
    shapes += [_frame(photo, colour, radius) for photo, colour in pictured]
    notes = [_note(ring, f"{ring:g}", colours.muted) for ring in rings]
    notes.append(_note(-look.positive.distance, "d⁺", colours.same_label))
    return {
        "xaxis": axis,
        "yaxis": {**axis, "scaleanchor": "x"},
        "shapes": shapes,
        "annotations": notes,
        "images": [_picture(photo, index, radius) for photo, _ in pictured],
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": colours.ink},
        "legend": {"orientation": "h", "x": 0.5, "xanchor": "center", "y": 0, "yanchor": "top"},
        "hovermode": "closest",
        "dragmode": "pan",
    }


def _ring_step(radius: float) -> float:
    """A round distance that puts three to eight rings below the radius: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(radius))
    return next(step for step in (power / 5, power / 2, power, 2.0 * power) if radius / step <= 8)


def _circle(radius: float, colour: str, *, width: float = 1.0, dash: str = "solid") -> dict[str, Any]:
    line = {"color": colour, "width": width, "dash": dash}
    return {"type": "circle", "x0": -radius, "x1": radius, "y0": -radius, "y1": radius, "line": line, "layer": "below"}


def _ray(photo: Photo, colour: str) -> dict[str, Any]:
    x, y = place(photo.distance, photo.angle)
    line = {"color": colour, "width": 1}
    return {"type": "line", "x0": 0, "y0": 0, "x1": x, "y1": y, "line": line, "layer": "below", "opacity": 0.55}


def _frame(photo: Photo, colour: str, radius: float) -> dict[str, Any]:
    (x, y), half = place(photo.distance, photo.angle), 0.53 * _PICTURE * radius
    line = {"color": colour, "width": 2.5}
    return {"type": "rect", "x0": x - half, "x1": x + half, "y0": y - half, "y1": y + half, "line": line, "layer": "above"}


def _note(height: float, text: str, colour: str) -> dict[str, Any]:
    font = {"size": 11, "color": colour}
    return {"x": 0, "y": height, "text": text, "showarrow": False, "font": font, "yanchor": "bottom", "xanchor": "center"}


def _picture(photo: Photo, index: str, radius: float) -> dict[str, Any]:
    x, y = place(photo.distance, photo.angle)
    side = _PICTURE * radius
    source = f"/image/{photo.id}?" + urlencode({"index": index, "size": 96})
    anchors = {"xref": "x", "yref": "y", "xanchor": "center", "yanchor": "middle", "sizing": "fill", "layer": "above"}
    return {"source": source, "x": x, "y": y, "sizex": side, "sizey": side, **anchors}
