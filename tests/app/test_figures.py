"""The lens's figure is true: points lie where the numbers say, and pulled negatives on the line to the anchor."""

import math
from dataclasses import asdict
from typing import Any

import pytest
from fastapi.testclient import TestClient
from plotly.graph_objects import Figure

from app.figures import lens_figure
from indexing.hardness import HardnessLens, Look
from indexing.search import OpenIndex


@pytest.fixture
def look(opened: OpenIndex) -> Look:
    return HardnessLens(opened).look(opened.catalogue.items("blue-left")[0].id)


def trace(figure: dict[str, Any], name: str) -> list[tuple[float, float]]:
    (found,) = [trace for trace in figure["data"] if trace["name"] == name]
    return list(zip(found["x"], found["y"], strict=True))


def test_every_point_is_at_its_true_distance_from_the_anchor(look: Look) -> None:
    figure = lens_figure(look, "photos")
    for name, distances in {
        "positive": [look.positive.distance],
        "negatives": [negative.photo.distance for negative in look.negatives],
        "pulled negatives": [negative.pulled_distance for negative in look.negatives],
        "synthetics": [negative.synthetic_distance for negative in look.negatives],
    }.items():
        assert [math.hypot(x, y) for x, y in trace(figure, name)] == pytest.approx(distances)


def test_pulled_negatives_lie_on_the_line_to_their_negatives(look: Look) -> None:
    figure = lens_figure(look, "photos")
    for (x, y), (pulled_x, pulled_y) in zip(trace(figure, "negatives"), trace(figure, "pulled negatives"), strict=True):
        assert x * pulled_y - y * pulled_x == pytest.approx(0, abs=1e-9)
        assert x * pulled_x + y * pulled_y > 0


def test_every_neighbour_is_shown_once(look: Look) -> None:
    figure = lens_figure(look, "photos")
    names = ("positive", "negatives", "other labels nearby", "anchor’s label nearby")
    shown = [point[0] for trace in figure["data"] if trace["name"] in names for point in trace["customdata"]]
    assert len(shown) == len(set(shown))
    assert {photo.id for photo in look.neighbors} <= set(shown)


@pytest.mark.parametrize("dark", [False, True])
def test_plotly_accepts_the_figure(look: Look, dark: bool) -> None:
    figure = Figure(lens_figure(look, "photos", dark=dark))
    pictures = [image.source for image in figure.layout.images]
    assert pictures[0] == f"/image/{look.anchor.id}?index=photos&size=96"
    assert len(pictures) == 2 + len(look.negatives)


def test_route_answers_the_numbers_and_the_figure(client: TestClient, look: Look) -> None:
    answer = client.get(f"/v1/lens?anchor={look.anchor.id}&positive={look.positive.id}&theme=dark").json()
    numbers = asdict(look)
    assert {name: answer[name] for name in numbers} == numbers
    assert answer["figure"] == lens_figure(look, "photos", dark=True)
    surprising = client.get("/v1/lens").json()
    assert len(surprising["negatives"]) == 3
