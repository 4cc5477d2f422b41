"""Damage photos and the files of an index, and see that each gives a right answer or one sentence.

    python benchmarks/mutations.py [--images N] [--files N] [--seed N] [--json FILE]

Images of six formats are damaged (bits, lengths, spans, headers, sizes, EXIF, names). Each is decoded in a process of its own,
as a query, and all are indexed together with photos that are whole, by ``hdml index``: each is found by its own vector or listed
with a reason, if it is no query either, and every whole photo is indexed.

Then the files of an index are damaged, one at a time, and in processes of their own (a) photos are searched with, (b) the lens
looks, (c) the index is verified and (d) brought up to date. For a bundle, it is unpacked and searched. Each must give what the
whole index gives, or one sentence, and after (c) and (d) every item must be there; where the catalogue itself is damaged, every
photo after (d). SQLite keeps no checksums, so that a damaged catalogue may give another answer in (a) or (d); then (c) must tell.
"""

import argparse
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from trials import (
    Contents,
    Ended,
    draw_gallery,
    in_child,
    read_contents,
    same_answers,
    same_row,
    write_small_encoder,
    write_small_synthesizer,
)

SEED = 1903
HDML = Path(sys.executable).with_name("hdml")
_LIMIT_S = 60.0  # beside other work; an image takes milliseconds
_QUERIES = 3

Damage = Callable[[bytes, random.Random], bytes]


# Images


def whole_images(photo: Image.Image) -> dict[str, bytes]:
    """A photo in many formats, by a name with the format's extension."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    deep = Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 257)
    turned = [photo.rotate(angle) for angle in (90, 180)]
    variants: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "rgb.jpg": (photo, {"exif": exif}),
        "progressive.jpg": (photo, {"progressive": True}),
        "cmyk.jpg": (photo.convert("CMYK"), {}),
        "grey.jpg": (photo.convert("L"), {}),
        "rgb.png": (photo, {"exif": exif}),
        "palette.png": (photo.quantize(32), {}),
        "deep.png": (deep, {}),
        "clear.png": (photo.convert("RGBA"), {}),
        "lossy.webp": (photo, {"exif": exif}),
        "lossless.webp": (photo, {"lossless": True}),
        "moving.webp": (photo, {"save_all": True, "append_images": turned}),
        "still.gif": (photo, {}),
        "moving.gif": (photo, {"save_all": True, "append_images": turned}),
        "rgb.bmp": (photo, {}),
        "palette.bmp": (photo.quantize(16), {}),
        "rgb.tiff": (photo, {"exif": exif}),
        "packed.tiff": (photo, {"compression": "tiff_lzw"}),
        "cmyk.tiff": (photo.convert("CMYK"), {}),
        "deep.tiff": (deep, {}),
        "pages.tiff": (photo, {"save_all": True, "append_images": turned}),
    }
    made = {}
    for name, (image, options) in variants.items():
        target = io.BytesIO()
        image.save(target, Image.registered_extensions()[Path(name).suffix], **options)
        made[name] = target.getvalue()
    return made


def flip_bits(data: bytes, draw: random.Random) -> bytes:
    return _flipped(data, draw, 0, len(data), draw.choice((1, 3, 20)))


def flip_header(data: bytes, draw: random.Random) -> bytes:
    return _flipped(data, draw, 0, min(64, len(data)), draw.choice((1, 2, 5)))


def _flipped(data: bytes, draw: random.Random, start: int, end: int, count: int) -> bytes:
    changed = bytearray(data)
    for _ in range(count):
        changed[draw.randrange(start, end)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def truncate(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.choice((0, 1, draw.randrange(2, 40), draw.randrange(len(data)), len(data) - 1))]


def zero_span(data: bytes, draw: random.Random) -> bytes:
    return _span(data, draw, lambda length: bytes(length))


def random_span(data: bytes, draw: random.Random) -> bytes:
    return _span(data, draw, draw.randbytes)


def _span(data: bytes, draw: random.Random, of: Callable[[int], bytes]) -> bytes:
    start = draw.randrange(len(data))
    length = draw.randrange(1, max(2, len(data) - start))
    return data[:start] + of(length) + data[start + length :]


def repeat_span(data: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(data))
    return data[:start] + data[start // 2 :]


def giant(data: bytes, draw: random.Random) -> bytes:
    """The same file with another width and height in its header."""
    width, height = draw.choice(((60_000, 60_000), (65_535, 1), (14_000, 14_000), (2**31 - 1, 2**31 - 1), (0, 0)))
    changed = bytearray(data)
    if data.startswith(b"\x89PNG"):
        changed[16:24] = struct.pack(">II", width, height)
        changed[29:33] = struct.pack(">I", zlib.crc32(bytes(changed[12:29])))
    elif data.startswith(b"\xff\xd8"):
        start = next(at for at in range(len(data) - 9) if data[at] == 0xFF and data[at + 1] in (0xC0, 0xC2))
        changed[start + 5 : start + 9] = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
    elif data.startswith(b"GIF"):
        changed[6:10] = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
    elif data.startswith(b"BM"):
        changed[18:26] = struct.pack("<II", width, height)
    elif data.startswith(b"RIFF") and data[12:16] == b"VP8X":
        changed[24:30] = struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]
    elif data.startswith(b"RIFF"):
        changed[26:30] = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
    else:  # TIFF, as Pillow writes it: entries of twelve bytes, the first of a directory whose place is at 4
        (first,) = struct.unpack_from("<I", data, 4)
        (entries,) = struct.unpack_from("<H", data, first)
        for at in range(first + 2, first + 2 + 12 * entries, 12):
            (tag,) = struct.unpack_from("<H", data, at)
            if tag in (256, 257):
                struct.pack_into("<HII", changed, at + 2, 4, 1, (width, height)[tag - 256])
    return bytes(changed)


def spoil_exif(data: bytes, draw: random.Random) -> bytes:
    """Bits of the EXIF block, or one of nonsense where there is none."""
    start = data.find(b"Exif\0\0")
    if start >= 0:
        return _flipped(data, draw, start + 6, min(len(data), start + 60), 8)
    if data.startswith(b"\xff\xd8"):
        block = b"Exif\0\0" + draw.choice((b"II*\0\x08\0\0\0", b"MM\0*", b"")) + draw.randbytes(draw.randrange(60))
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    return _flipped(data, draw, 0, len(data), 2)


IMAGE_DAMAGES: dict[str, Damage] = {
    "bits flipped": flip_bits,
    "bits of the header flipped": flip_header,
    "cut short": truncate,
    "a span of zeros": zero_span,
    "a span of noise": random_span,
    "a span repeated": repeat_span,
    "another size in the header": giant,
    "EXIF spoiled": spoil_exif,
}
_SPLICED, _MISNAMED = "the header of another format", "another extension"


@dataclass
class Outcome:
    """A damaged file: what was done to it, what it came to (``right``, ``sentence``), and what should not be."""

    file: str
    damage: str
    came_to: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def judge(self, use: str, ended: Ended, *, right: bool) -> None:
        """Note what a child came to."""
        if ended.sentence is not None:
            self.came_to[use] = f"sentence: {ended.sentence}"
            if not _is_sentence(ended.sentence):
                self.faults.append(f"{use}: not one sentence: {ended.sentence!r}")
        elif ended.fault is not None:
            self.faults.append(f"{use}: {ended.fault}")
        else:
            self.came_to[use] = "right" if right else "another answer"
            if not right:
                self.faults.append(f"{use}: another answer than the whole index gives")


def _is_sentence(text: str) -> bool:
    return 0 < len(text) < 1000 and len(text.splitlines()) == 1 and "Traceback" not in text


def damaged_images(whole: dict[str, bytes], count: int, draw: random.Random) -> list[tuple[str, str, bytes]]:
    """Name, what was done and content of each; every damage to every kind of image in turn."""
    ways = [*IMAGE_DAMAGES, _SPLICED, _MISNAMED]
    made = []
    for number in range(count):
        name = list(whole)[number % len(whole)]
        way = ways[(number + number // len(whole)) % len(ways)]
        other = draw.choice([one for one in whole if Path(one).suffix != Path(name).suffix])
        kept = name
        if way == _SPLICED:
            cut = draw.randrange(4, 200)
            content = whole[other][:cut] + whole[name][cut:]
        elif way == _MISNAMED:
            content, kept = whole[name], f"{Path(name).stem}{Path(other).suffix}"
        else:
            content = IMAGE_DAMAGES[way](whole[name], draw)
        made.append((f"{number:03}-{kept}", way, content))
    return made


def try_images(folder: Path, count: int, draw: random.Random) -> list[Outcome]:
    """Damage images, query with each and index them all."""
    gallery, workspace = folder / "gallery", folder / "workspace"
    draw_gallery(gallery / "whole", species=5, images=6)
    write_small_encoder(workspace / "runs" / "small" / "encoder.onnx")
    photos = sorted(gallery.rglob("*.jpg"))
    with Image.open(photos[0]) as opened:
        images = damaged_images(whole_images(opened.convert("RGB")), count, draw)
    (gallery / "damaged").mkdir()
    outcomes = []
    for name, way, content in images:
        (gallery / "damaged" / name).write_bytes(content)
        outcomes.append(Outcome(name, way))
    report = _index(gallery, workspace)
    reasons = {failure["path"]: failure["reason"] for failure in report["failed"]}
    index = workspace / "indexes" / "gallery"
    rows = {row.path: row for row in (in_child(lambda: read_contents(index), folder).answer or {}).values()}
    lost = [photo for photo in photos if rows[photo.relative_to(gallery).as_posix()].state != "ready"]
    if lost or set(reasons) - {f"damaged/{name}" for name, _, _ in images}:
        raise SystemExit(f"whole photos must be indexed beside damaged ones, but are not: {lost or reasons}")
    for outcome in outcomes:
        path = f"damaged/{outcome.file}"
        file = gallery / path
        ended = in_child(lambda file=file: _best(index, file), folder, limit_s=_LIMIT_S)  # type: ignore[misc]
        readable = path not in reasons
        outcome.judge("query", ended, right=readable and ended.answer is not None and ended.answer > 1 - 1e-4)
        outcome.came_to["index"] = f"sentence: {reasons[path]}" if path in reasons else "right"
        if path in reasons and not _is_sentence(reasons[path]):
            outcome.faults.append(f"index: not one sentence: {reasons[path]!r}")
        if readable != (ended.sentence is None) or readable != (path in rows and rows[path].state == "ready"):
            outcome.faults.append("the index and a query do not agree on whether it can be read")
    return outcomes


def _index(gallery: Path, workspace: Path) -> dict[str, Any]:
    command: list[str | Path] = [HDML, "index", gallery, "--workspace", workspace, "--device", "cpu", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise SystemExit(f"hdml index must succeed beside damaged photos, but ended with {done.returncode}: {done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _best(index: Path, photo: Path) -> float:
    """The score of the first result; the index holds the photo itself if it can be read."""
    from indexing.search import OpenIndex

    with OpenIndex(index, device="cpu") as opened:
        return opened.search_photo(photo.read_bytes(), k=1)[0].score


# Files of an index

FILE_DAMAGES: dict[str, Damage] = {
    "bits flipped": flip_bits,
    "bits of the header flipped": flip_header,
    "cut short": truncate,
    "a span of zeros": zero_span,
    "a span of noise": random_span,
    "a span repeated": repeat_span,
}


def change_digit(data: bytes, draw: random.Random) -> bytes:
    places = [at for at, byte in enumerate(data) if chr(byte).isdigit()]
    changed = bytearray(data)
    changed[draw.choice(places)] = ord(draw.choice('0123456789-e"'))
    return bytes(changed)


def other_json(_: bytes, draw: random.Random) -> bytes:
    return draw.choice((b"[]", b"{}", b"null", b'"text"', b"[" * 100_000, b'{"settings": 3}', b"\xff\xfe{}"))


_CATALOGUE = ("catalogue.sqlite", "catalogue.sqlite-wal")
SHARES = {  # of the damaged files, by what is damaged
    "catalogue.sqlite": 24,
    "catalogue.sqlite-wal": 10,
    "base": 20,
    "manifest": 10,
    "encoder.onnx": 12,
    "synthesizer.onnx": 6,
    "run.json": 4,
    "bundle": 14,
}


@dataclass(frozen=True)
class Whole:
    """An index before damage.

    Attributes:
        rows: what it holds.
        answers: what its searches find now, and what they found before the changes in the write-ahead log: SQLite passes over a
            log that is damaged, as over one whose last commit is not finished.
        looks: what the lens shows, likewise.
    """

    rows: Contents
    answers: list[Any]
    looks: list[Any]


def try_files(folder: Path, count: int, draw: random.Random) -> list[Outcome]:
    """Damage the files of an index and of its bundle, one at a time."""
    gallery, index = folder / "gallery", folder / "index"
    draw_gallery(gallery, species=12, images=9)
    run = folder / "run"
    write_small_encoder(run / "encoder.onnx")
    write_small_synthesizer(run / "synthesizer.onnx")
    (run / "run.json").write_text(json.dumps({"name": "small", "method": "hdml", "finished": "2026-01-02T03:04:05+00:00"}))
    queries = sorted(gallery.rglob("*.jpg"))[:: 108 // _QUERIES]
    _must(in_child(lambda: _make(gallery, index, run, folder / "index.hdml"), folder))
    before: Whole = _must(in_child(lambda: _whole(index, queries), folder))
    _must(in_child(lambda: _add_and_die(gallery, index), folder), died=True)
    index.rename(folder / "kept")
    after: Whole = _must(in_child(lambda: _whole(_laid_out(folder), queries), folder))
    whole = Whole(after.rows, after.answers + before.answers, after.looks + before.looks)
    outcomes = []
    total = sum(SHARES.values())
    for target, share in SHARES.items():
        ways = dict(FILE_DAMAGES)
        if target in ("manifest", "run.json"):
            ways = {"a digit changed": change_digit, "other JSON": other_json, "cut short": truncate, "bits flipped": flip_bits}
        for number in range(round(count * share / total)):
            way = list(ways)[number % len(ways)]
            outcome = Outcome(target, way)
            if target == "bundle":
                _try_bundle(folder, ways[way], draw, queries, outcome)
            else:
                _try_file(folder, ways[way], draw, queries, whole, outcome)
            outcomes.append(outcome)
    return outcomes


def _make(gallery: Path, index: Path, run: Path, bundle: Path) -> None:
    from indexing.bundle import pack_index
    from indexing.indexer import update_index

    update_index(gallery, index, run / "encoder.onnx", device="cpu", workers=2)
    pack_index(index, bundle)


def _add_and_die(gallery: Path, index: Path) -> None:
    """Leaves a write-ahead log, as a process does that was killed."""
    from indexing.indexer import update_index

    with Image.open(sorted(gallery.rglob("*.jpg"))[0]) as image:
        for number in range(4):
            image.rotate(20 * number + 10).save(gallery / f"new-{number}.jpg")
    update_index(
        gallery, index, index / "encoder.onnx", device="cpu", workers=2, progress=lambda _: os.kill(os.getpid(), signal.SIGKILL)
    )


def _must(ended: Ended, *, died: bool = False) -> Any:
    if (ended.signal == signal.SIGKILL) != died or (not died and ended.fault is not None):
        raise SystemExit(f"the index must be made before it is damaged, but: {ended.fault}")
    return ended.answer


def _laid_out(folder: Path) -> Path:
    index = folder / "index"
    shutil.rmtree(index, ignore_errors=True)
    shutil.copytree(folder / "kept", index)
    return index


def _whole(index: Path, queries: list[Path]) -> Whole:
    return Whole(read_contents(index) or {}, [_search(index, queries)], [_look(index)])


def _search(index: Path, queries: list[Path]) -> Any:
    from indexing.search import OpenIndex

    with OpenIndex(index, device="cpu") as opened:
        found = [opened.search_photo(query) for query in queries]
    return [[(result.id, result.path, result.score) for result in results] for results in found]


def _look(index: Path) -> Any:
    from indexing.hardness import HardnessLens
    from indexing.search import OpenIndex

    with OpenIndex(index, device="cpu") as opened:
        look = HardnessLens(opened).look(1)
    return [negative.distances[look.own] for negative in look.negatives]


def _same_look(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and bool(np.allclose(one, other, atol=1e-4))


def _verify(index: Path) -> list[str]:
    from indexing.upkeep import verify_index

    found = verify_index(index)
    return found.faults + found.mended + found.behind


def _update(index: Path) -> None:
    from indexing.indexer import update_index

    update_index(index.parent / "gallery", index, index / "encoder.onnx", device="cpu", workers=2)


def _try_file(folder: Path, damage: Damage, draw: random.Random, queries: list[Path], whole: Whole, outcome: Outcome) -> None:
    names = {"base": "index.*.faiss", "manifest": "index.*.json"}
    index = _laid_out(folder)
    (file,) = index.glob(names.get(outcome.file, outcome.file))
    file.write_bytes(damage(file.read_bytes(), draw))
    damaged = folder / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(index, damaged)

    def again() -> None:
        shutil.rmtree(index, ignore_errors=True)
        shutil.copytree(damaged, index)

    ended = in_child(lambda: _search(index, queries), folder, limit_s=_LIMIT_S)
    moments = slice(None) if outcome.file == "catalogue.sqlite-wal" else slice(1)
    right = any(same_answers(ended.answer, answers) for answers in whole.answers[moments]) if ended.answer else False
    outcome.judge("search", ended, right=right)
    again()
    ended = in_child(lambda: _look(index), folder, limit_s=_LIMIT_S)
    right = any(_same_look(ended.answer, look) for look in whole.looks[moments]) if ended.answer else False
    outcome.judge("lens", ended, right=right)
    for use, work in (("verify", lambda: _verify(index)), ("update", lambda: _update(index))):
        again()
        ended = in_child(work, folder, limit_s=_LIMIT_S)
        in_place = outcome.file in _CATALOGUE
        told = use == "verify" and bool(ended.answer)
        by_id = use == "verify" or not in_place
        outcome.judge(use, ended, right=(told and in_place) or _nothing_lost(folder, index, whole, by_id=by_id))
        if use == "verify" and ended.answer:
            outcome.came_to[use] = f"sentence: {ended.answer[0]}"
            outcome.faults += [f"verify: not one sentence: {fault!r}" for fault in ended.answer if not _is_sentence(fault)]
    if outcome.file in _CATALOGUE and outcome.came_to.get("verify", "").startswith("sentence"):
        outcome.faults = [fault for fault in outcome.faults if "another answer" not in fault]


def _nothing_lost(folder: Path, index: Path, whole: Whole, *, by_id: bool) -> bool:
    """Whether every photo is ready still, and where that is asked the same item with the same vector."""
    rows: Contents = in_child(lambda: read_contents(index), folder).answer or {}
    photos = {row.path for row in rows.values() if row.state == "ready"}
    if by_id:
        return all(item in rows and same_row(row, rows[item]) for item, row in whole.rows.items())
    return photos == {row.path for row in whole.rows.values()}


def _try_bundle(folder: Path, damage: Damage, draw: random.Random, queries: list[Path], outcome: Outcome) -> None:
    from indexing.bundle import unpack_bundle

    damaged = folder / "damaged.hdml"
    data = (folder / "index.hdml").read_bytes()
    damaged.write_bytes(damage(data, draw))

    def answers(file: Path) -> Any:
        shutil.rmtree(folder / "bundles", ignore_errors=True)
        return _search(unpack_bundle(file, folder / "bundles"), queries)

    expected = in_child(lambda: answers(folder / "index.hdml"), folder).answer
    ended = in_child(lambda: answers(damaged), folder, limit_s=_LIMIT_S)
    outcome.judge("search", ended, right=ended.answer is not None and same_answers(ended.answer, expected))


# Telling


_KINDS = ("right", "sentence", "another answer")


def table(outcomes: list[Outcome], column: Callable[[Outcome], str]) -> str:
    """Outcomes by one of their properties, as Markdown."""
    uses = list(dict.fromkeys(use for outcome in outcomes for use in outcome.came_to))
    lines = [f"| | files | {' | '.join(uses)} | faults |", "|---" * (len(uses) + 3) + "|"]
    for name in dict.fromkeys(map(column, outcomes)):
        group = [outcome for outcome in outcomes if column(outcome) == name]
        cells = []
        for use in uses:
            counts = Counter(outcome.came_to.get(use, "").split(":")[0] for outcome in group)
            cells.append(", ".join(str(counts[kind]) for kind in _KINDS) if counts.keys() & set(_KINDS) else "–")
        lines.append(f"| {name} | {len(group)} | {' | '.join(cells)} | {sum(bool(outcome.faults) for outcome in group)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Damage photos and the files of an index.")
    parser.add_argument("--images", type=int, default=300, help="number of damaged images (default: 300)")
    parser.add_argument("--files", type=int, default=100, help="number of damaged files of an index (default: 100)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"draws the damages (default: {SEED})")
    parser.add_argument("--json", type=Path, help="also write every outcome to this file")
    options = parser.parse_args()
    import faiss  # noqa: F401 - once, for all children
    import onnxruntime  # noqa: F401

    import indexing.bundle
    import indexing.hardness
    import indexing.upkeep  # noqa: F401

    found: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for what, attempt, count in (("images", try_images, options.images), ("files", try_files, options.files)):
            place = Path(folder, what)
            place.mkdir()
            found[what] = attempt(place, count, random.Random(options.seed))
    outcomes = [*found["images"], *found["files"]]
    for outcome in outcomes:
        for fault in outcome.faults:
            print(f"{outcome.file}, {outcome.damage}: {fault}")
    print(table(found["images"], lambda outcome: outcome.damage), "\n")
    print(table(found["files"], lambda outcome: outcome.file))
    if options.json is not None:
        told: dict[str, Any] = {"seed": options.seed, **{what: [asdict(outcome) for outcome in of] for what, of in found.items()}}
        text = json.dumps(told, indent=1, ensure_ascii=False).replace(folder, "TRIAL")
        options.json.write_text(text + "\n", encoding="utf-8")
    raise SystemExit(any(outcome.faults for outcome in outcomes))


if __name__ == "__main__":
    main()
