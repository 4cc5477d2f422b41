"""What the reports share: one HTML file that needs nothing beside itself, photos as small copies inside it, all text escaped."""

import base64
import io
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from indexing.errors import UnreadableImage
from indexing.preprocess import open_rgb

_PICTURE = 200  # pixels of a photo's longer side: sharp at 100 on a fine screen


def templates(folder: Path) -> Environment:
    """The templates of a folder, and those of this one that they share."""
    return Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def picture(photo: Path) -> str | None:
    """A small JPEG copy as a data URI, none of the original's bytes or metadata in it; None when the photo cannot be read."""
    try:
        image = open_rgb(photo, shorter_side=_PICTURE)
    except UnreadableImage:
        return None  # the page says so in its place
    image.thumbnail((_PICTURE, _PICTURE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    target = io.BytesIO()
    image.save(target, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode("ascii")


def printable(text: str) -> str:
    """Without the half characters by which Python names files whose names are not UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def in_bytes(value: int | None) -> str:
    """Such as 12 MB."""
    if value is None:
        return "–"
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB" if value >= 1e6 else f"{value / 1e3:.0f} kB"
