"""The figure's marks lie where the numbers are."""

import io

import pytest
from PIL import Image

from app.drawing import Path, Picture, Text, to_svg
from app.figures import WIDTH, ruler_figure, ticks
from indexing.hardness import HardnessLens, Look
from indexing.search import OpenIndex


@pytest.fixture
def look(opened: OpenIndex) -> Look:
    return HardnessLens(opened).look(opened.catalogue.items("blue-left")[0].id)


def photo(_: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (8, 8), "grey").save(target, "JPEG")
    return target.getvalue()


def middle(path: Path) -> float:
    xs = [x for x, _ in path.points]
    return (min(xs) + max(xs)) / 2


@pytest.mark.parametrize("place", [None, 0, 100])
def test_marks_lie_at_their_distances(look: Look, place: int | None) -> None:
    drawing = ruler_figure(look, photo, place=place)
    at = look.own if place is None else place
    texts = {part.text: part.at[0] for part in drawing.parts if isinstance(part, Text)}
    numbers = [part for part in drawing.parts if isinstance(part, Text) and (part.anchor, part.colour) == ("middle", "#62625e")]
    scale = sorted((float(part.text), part.at[0]) for part in numbers)
    (zero, start), (last, end) = scale[0], scale[-1]
    assert zero == 0

    def distances(corners: int, colour: str, *, stroked: bool) -> list[float]:
        found = [
            (part.points[0][1], middle(part))
            for part in drawing.parts
            if isinstance(part, Path) and part.closed and len(part.points) == corners and part.points[0][1] < drawing.height - 30
            if (part.stroke if stroked else part.fill) == colour
        ]
        return [(x - start) / (end - start) * last for _, x in sorted(found)]

    close = {"abs": 0.005 * last}
    assert distances(40, "#b3380a", stroked=False) == pytest.approx([n.photo.distance for n in look.negatives], **close)
    pulled = [x for x in distances(4, "#b3380a", stroked=True) if x >= 0]  # the frames of photos lie left of the scale
    assert pulled == pytest.approx([n.pulled[at] for n in look.negatives], **close)
    assert distances(10, "#2f55d4", stroked=True) == pytest.approx([n.reembedded[at] for n in look.negatives], **close)
    assert f"λ = {look.shares[at]:.3f}" in texts
    assert len([part for part in drawing.parts if isinstance(part, Picture)]) == 2 + 4 * len(look.negatives)


def test_photos_that_are_gone_leave_their_frames(look: Look) -> None:
    drawing = ruler_figure(look, lambda _: None)
    assert not [part for part in drawing.parts if isinstance(part, Picture)]
    assert "d⁺" in to_svg(drawing)
    assert drawing.width == WIDTH


@pytest.mark.parametrize("most", [0.003, 0.7, 1.0, 13.0, 4000.0])
def test_ticks_are_few_and_round(most: float) -> None:
    found = ticks(most)
    assert found[0] == 0
    assert 3 <= len(found) <= 8
    assert most * 0.6 < found[-1] <= most
