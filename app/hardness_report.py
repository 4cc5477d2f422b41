"""The hardness lens in files: one HTML page that needs nothing beside itself, a figure for papers, and the numbers as JSON."""

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.drawing import to_pdf, to_png, to_svg
from app.figures import ruler_figure
from app.thumbnails import Thumbnails
from indexing.errors import HdmlError, UnknownItem
from indexing.hardness import HardnessLens, Look, Map, MapKind, Replay
from indexing.hardness_survey import Survey, survey
from indexing.page import printable, templates
from indexing.writing import write_whole

LOOKS = 3  # anchors of each kind that are looked from unless one is named
_PAGE = Path(__file__).parent / "page"
_MODULES = ("draw", "shares", "ruler", "cards", "map", "stage", "survey", "replay")  # of page/lens, each after those it imports
_PICTURE, _DOT, _PRINTED = 96, 48, 160  # longer sides in pixels: of what a look shows, of the map's photos, and in the figure


@dataclass(frozen=True)
class Report:
    """What was looked at: the first look is the one of the figure."""

    index: str
    model: str
    looks: list[Look]
    map: Map
    survey: Survey
    replay: Replay | None


def look_around(lens: HardnessLens, anchors: Sequence[int] = (), positive: int | None = None, *, kind: MapKind = "pca") -> Report:
    """Look from some anchors, or from those with the highest loss: of which all negatives are pulled, and then of all.

    Args:
        anchors: ids.
        positive: id of the positive of the only anchor.
        kind: of the map.

    Raises:
        NoTsne: there can be no such map.
        HdmlError: an anchor can have no lens, or a positive is given and there is not one anchor.
    """
    if positive is not None and len(anchors) != 1:
        raise HdmlError(f"a positive needs one anchor that it belongs to, but {len(anchors)} were given; say --anchor ID once")
    drawn = lens.map(kind)
    found = survey(lens)
    chosen = list(anchors) or [start.id for start in (*found.pulled[:LOOKS], *found.hardest[:LOOKS])]
    looks = [lens.look(anchor, positive, kind) for anchor in dict.fromkeys(chosen)]
    return Report(lens.opened.name, lens.model, looks, drawn, found, lens.replay())


def write_report(
    report: Report, lens: HardnessLens, out: Path, *, progress: Callable[[int, int], None] | None = None
) -> list[Path]:
    """Write hardness.html, hardness.json and ruler.svg, .pdf and .png into a folder, each of which appears when it is whole.

    Args:
        progress: told how many photos of how many are drawn.

    Raises:
        HdmlError: something cannot be written.
    """
    thumbnails = Thumbnails(lens.opened.path, limit=0)  # each is drawn once, and none kept
    drawing = ruler_figure(report.looks[0], lambda item: _jpeg(thumbnails, lens, item, _PRINTED))
    files = {
        "hardness.html": to_html(report, _pictures(report, lens, thumbnails, progress)).encode(),
        "hardness.json": (json.dumps(as_json(report), indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace"),
        "ruler.svg": to_svg(drawing).encode(),
        "ruler.pdf": to_pdf(drawing),
        "ruler.png": to_png(drawing),
    }
    for name, content in files.items():
        write_whole(out / name, content)
    return [out / name for name in files]


def as_json(report: Report) -> dict[str, Any]:
    """The report as programs read it, and as the page's own script does."""
    return asdict(report)


def to_html(report: Report, pictures: dict[int, str]) -> str:
    """The page, which runs the scripts of the web page's lens.

    Args:
        pictures: of items by their ids, as data URIs.
    """
    # Within a script element only "<" could end it, or begin a comment.
    data = printable(json.dumps({**as_json(report), "pictures": pictures}, ensure_ascii=False)).replace("<", "\\u003c")
    frame = (_PAGE / "frame.css").read_text(encoding="utf-8")
    colours = "".join(block.group() for block in re.finditer(r"^(:root|\.dark) \{.*?\}$", frame, re.MULTILINE | re.DOTALL))
    style = "\n".join([colours, *((_PAGE / name).read_text(encoding="utf-8") for name in ("elements.css", "lens.css"))])
    script = "\n".join(_inlined((_PAGE / "lens" / f"{name}.js").read_text(encoding="utf-8")) for name in _MODULES)
    page = templates(Path(__file__).parent).get_template("hardness.html.jinja")
    return page.render(name=printable(report.index), model=report.model, style=style, script=script, data=data)


def _inlined(module: str) -> str:
    """A module as a part of one script: nothing is imported, since all that is exported is there."""
    return re.sub(r"^export ", "", re.sub(r"^import [^;]*;\n", "", module, flags=re.MULTILINE), flags=re.MULTILINE)


def _pictures(
    report: Report, lens: HardnessLens, thumbnails: Thumbnails, progress: Callable[[int, int], None] | None
) -> dict[int, str]:
    sizes = {dot.id: _DOT for dot in report.map.dots}
    for look in report.looks:
        photos = [look.anchor, look.positive, *(negative.photo for negative in look.negatives)]
        sizes |= dict.fromkeys([*(photo.id for photo in photos), *look.names], _PICTURE)
    for members in report.replay.tuples if report.replay else ():
        sizes |= {photo.id: _PICTURE for photo in members if photo.id is not None}
    pictures = {}
    for done, (item, size) in enumerate(sizes.items(), 1):
        if (content := _jpeg(thumbnails, lens, item, size)) is not None:
            pictures[item] = "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
        if progress is not None:
            progress(done, len(sizes))
    return pictures


def _jpeg(thumbnails: Thumbnails, lens: HardnessLens, item: int, size: int) -> bytes | None:
    try:
        return thumbnails.thumbnail(lens.opened, item, size).content
    except UnknownItem:
        return None  # gone since it was indexed: the page has an empty frame in its place
