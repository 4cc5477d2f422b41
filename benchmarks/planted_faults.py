"""A set drawn as the built-in one is, with faults planted in it, and which ones: what benchmarks/audit.py looks for."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from hdml.butterflies import write_butterflies

COUNTS = {"exact": 30, "re-encoded": 150, "mirrored": 60, "cropped": 60, "labels": 64, "outliers": 16, "unreadable": 6}
EMPTY, TINY = "Empty-class", "Tiny-class"


@dataclass
class Planted:
    """What was planted, by paths relative to the gallery.

    Attributes:
        copies: kind → original → its copy.
        labels: photo that was moved → the class it is of.
        outliers: photos of no butterfly.
        unreadable: files that are no photos.
    """

    copies: dict[str, dict[str, str]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    outliers: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def plant(folder: Path, seed: int) -> Planted:
    """Draw a set into ``folder``, plant faults and note them in the file beside it; the seed decides everything."""
    write_butterflies(folder, seed=seed)
    rng = np.random.default_rng(seed)
    photos = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.jpg"))]
    classes = sorted(path.name for path in folder.iterdir())
    chosen = iter(rng.permutation(len(photos)).tolist())
    planted = Planted()
    for kind, copy in COPIES.items():
        planted.copies[kind] = {}
        for number in range(COUNTS[kind]):
            original = photos[next(chosen)]
            copied, suffix = copy((folder / original).read_bytes(), rng)
            name = f"{original.split('/')[0]}/{kind}-{number:03d}{suffix}"
            (folder / name).write_bytes(copied)
            planted.copies[kind][original] = name
    for number in range(COUNTS["labels"]):
        photo = photos[next(chosen)]
        label = photo.split("/")[0]
        other = str(rng.choice([name for name in classes if name != label]))
        shutil.move(folder / photo, folder / other / f"moved-{number:03d}.jpg")
        planted.labels[f"{other}/moved-{number:03d}.jpg"] = label
    for number in range(COUNTS["outliers"]):
        name = f"{rng.choice(classes)}/stranger-{number:03d}.jpg"
        STRANGERS[number % len(STRANGERS)](rng).save(folder / name, quality=90)
        planted.outliers.append(name)
    for number in range(COUNTS["unreadable"]):
        name = f"{rng.choice(classes)}/broken-{number:03d}.jpg"
        whole = (folder / photos[0]).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2] if number % 2 else b"")
        planted.unreadable.append(name)
    (folder / EMPTY).mkdir()
    (folder / TINY).mkdir()
    shutil.move(folder / photos[next(chosen)], folder / TINY / "001.jpg")
    folder.with_suffix(".json").write_text(json.dumps(asdict(planted), indent=1), encoding="utf-8")
    return planted


def _exact(content: bytes, _: np.random.Generator) -> tuple[bytes, str]:
    return content, ".jpg"


def _written_anew(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    return _written(_decoded(content), rng)


def _mirrored(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    return _written(_decoded(content).transpose(Image.Transpose.FLIP_LEFT_RIGHT), rng)


def _cropped(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """60 to 95 % of each side, anywhere."""
    photo = _decoded(content)
    share = rng.uniform(0.65, 0.95)
    width, height = (round(side * np.clip(share * rng.uniform(0.92, 1.08), 0.6, 0.95)) for side in photo.size)
    left, top = rng.integers(photo.width - width + 1), rng.integers(photo.height - height + 1)
    return _written(photo.crop((left, top, left + width, top + height)), rng)


def _decoded(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def _written(photo: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """Another size, 0.5 to 1.5 of the sides, and another format or quality."""
    scale = rng.uniform(0.5, 1.5)
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
    suffix = str(rng.choice([".jpg", ".jpg", ".webp", ".png"]))
    target = io.BytesIO()
    photo.save(target, {".jpg": "JPEG", ".webp": "WEBP", ".png": "PNG"}[suffix], quality=int(rng.integers(40, 95)))
    return target.getvalue(), suffix


COPIES: dict[str, Callable[[bytes, np.random.Generator], tuple[bytes, str]]] = {
    "exact": _exact,
    "re-encoded": _written_anew,
    "mirrored": _mirrored,
    "cropped": _cropped,
}


def _noise(rng: np.random.Generator) -> Image.Image:
    side = int(rng.choice([8, 16, 128]))
    return Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).resize((128, 128), Image.Resampling.NEAREST)


def _stripes(rng: np.random.Generator) -> Image.Image:
    photo = Image.new("RGB", (128, 128), _colour(rng))
    draw, step = ImageDraw.Draw(photo), int(rng.integers(6, 24))
    for place in range(0, 256, 2 * step):
        draw.line((place, 0, place - 128, 128), fill=_colour(rng), width=step)
    return photo


def _page(rng: np.random.Generator) -> Image.Image:
    """Lines of something like print."""
    photo = Image.new("RGB", (128, 128), (250, 249, 246))
    draw = ImageDraw.Draw(photo)
    for y in range(8, 120, int(rng.integers(8, 13))):
        x = 8
        while x < 110:
            width = int(rng.integers(4, 20))
            draw.rectangle((x, y, min(x + width, 120), y + 4), fill=(30, 30, 34))
            x += width + 4
    return photo


def _blocks(rng: np.random.Generator) -> Image.Image:
    """A street of boxes below a plain sky."""
    photo = Image.new("RGB", (128, 128), (150, 190, 230))
    draw = ImageDraw.Draw(photo)
    for x in range(0, 128, 22):
        top = int(rng.integers(20, 90))
        draw.rectangle((x, top, x + 20, 128), fill=_colour(rng))
        for y in range(top + 4, 124, 10):
            draw.rectangle((x + 4, y, x + 8, y + 4), fill=(250, 230, 140))
    return photo.filter(ImageFilter.GaussianBlur(0.6))


def _gradient(rng: np.random.Generator) -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 1, 128), np.linspace(0, 1, 128))
    ends = rng.uniform(0, 255, (3, 3))
    return Image.fromarray((across[..., None] * ends[0] + down[..., None] * ends[1] + ends[2]).clip(0, 255).astype(np.uint8))


def _board(rng: np.random.Generator) -> Image.Image:
    squares = np.indices((8, 8)).sum(0) % 2
    colours = np.array([_colour(rng), _colour(rng)], np.uint8)
    return Image.fromarray(colours[squares]).resize((128, 128), Image.Resampling.NEAREST)


def _bubbles(rng: np.random.Generator) -> Image.Image:
    photo = Image.new("RGB", (128, 128), _colour(rng))
    draw = ImageDraw.Draw(photo)
    for x, y, radius in rng.integers((0, 0, 3), (128, 128, 14), (40, 3)).tolist():
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=_colour(rng), width=2)
    return photo


def _night(rng: np.random.Generator) -> Image.Image:
    """Almost black, with a few lights."""
    photo = Image.new("RGB", (128, 128), (6, 6, 12))
    draw = ImageDraw.Draw(photo)
    for x, y in rng.integers(0, 128, (12, 2)).tolist():
        draw.ellipse((x, y, x + 3, y + 3), fill=(255, 240, 200))
    return photo.filter(ImageFilter.GaussianBlur(1))


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


STRANGERS = (_noise, _stripes, _page, _blocks, _gradient, _board, _bubbles, _night)
