"""Hostile questions to a real server: damaged photos, and paths, ids and bodies that nobody sends in good faith.

    python benchmarks/fuzz.py [--uploads N] [--questions N] [--rounds N] [--seed N] [--json FILE]

``hdml serve`` runs over a small gallery, page and all. It is sent photos of six formats, damaged as ``mutations.py`` damages
them, as forms and as bare bodies; then addresses that lead out of the gallery, ids and parameters that are none, JSON that is
too deep, too large or of the wrong kind, and requests that are hardly HTTP. A fault is an answer of 500 or more, one that tells
of our code or holds what lies in a file outside of the gallery, a connection that ends without an answer, or a traceback in the
server's log. The memory of the server is told before, when it has been searched with whole photos of all formats, and after each
round of as many new ones; all that is counted is of all rounds.
"""

import argparse
import http.client
import json
import random
import sys
import tempfile
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mutations import IMAGE_DAMAGES, whole_images
from PIL import Image
from served import HDML, HOST, free_port, running
from trials import draw_gallery, write_small_encoder

from indexing.indexer import update_index
from indexing.workspace import Workspace

CANARY = "canary-7f3b0c5e-not-to-be-read"
_WARM_UP = 5  # photos, each in all formats
_PATIENCE_S = 60.0
_TELLTALE = ("Traceback (most recent call last)", 'File "', ".py\\", "site-packages")
_JSON = {"Content-Type": "application/json"}

Headers = dict[str, str]


@dataclass
class Told:
    """What came of all questions: how many of each status, and what should not be."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def ask(self, port: int, method: str, target: str, body: bytes = b"", headers: Headers | None = None) -> None:
        """Ask, by an address exactly as it is given, and judge the answer."""
        what = f"{method} {target[:120]!r} {body[:60]!r}"
        connection = http.client.HTTPConnection(HOST, port, timeout=_PATIENCE_S)
        try:
            connection.putrequest(method, "/", skip_host=True, skip_accept_encoding=True)
            # http.client itself refuses some of these addresses.
            connection._buffer[0] = f"{method} {target} HTTP/1.1".encode("utf-8", "surrogateescape")  # type: ignore[attr-defined]
            for name, value in {"Host": f"{HOST}:{port}", "Content-Length": str(len(body)), **(headers or {})}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            self.judge(what, answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            self.faults.append(f"{what}: no answer: {error!r}")
        finally:
            connection.close()

    def judge(self, what: str, status: int, body: bytes) -> None:
        self.statuses[status] += 1
        text = body.decode("utf-8", "replace")
        if status >= 500:
            self.faults.append(f"{what}: {status} {text[:200]}")
        if CANARY in text or "root:x:0" in text:
            self.faults.append(f"{what}: a file outside of the gallery was read")
        if "<script" not in text and any(word in text for word in _TELLTALE):
            self.faults.append(f"{what}: tells of the code: {text[:200]}")


def uploads(draw: random.Random, photos: list[Path], count: int) -> Iterator[tuple[str, bytes, Headers]]:
    """Target, body and headers of damaged photos, sent in turn as a form, as bytes, and as a form that is damaged itself."""
    damages = list(IMAGE_DAMAGES.values())
    for number in range(count):
        with Image.open(draw.choice(photos)) as photo:
            name, whole = draw.choice(list(whole_images(photo.convert("RGB")).items()))
        damaged = draw.choice(damages)(whole, draw)
        if number % 3 == 0:
            yield "/v1/search?k=5", damaged, {"Content-Type": "image/jpeg"}
            continue
        boundary = "----boundary"
        file_name = draw.choice((name, "../../../etc/passwd", 'a".jpg', "\u202egpj.exe", "x" * 5000, ""))
        form = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{file_name}"\r\n'
            f"Content-Type: image/jpeg\r\n\r\n"
        ).encode()
        form += damaged + f"\r\n--{boundary}--\r\n".encode()
        if number % 3 == 2:
            form = draw.choice(damages[:1] + damages[2:6])(form, draw)
        yield "/v1/search?k=5", form, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


_ROUTES = ["/v1/search", "/v1/search/batch", "/v1/embed", "/v1/why", "/v1/feedback", "/v1/items", "/v1/items/1", "/v1/labels"]
_READ = ["/image/1", "/v1/lens", "/v1/indexes", "/v1/statistics", "/v1/failures", "/v1/generations", "/v1/runs", "/openapi.json"]
_FILES = [
    "/page/{}",
    "/assets/{}",
    "/static/{}",
    "/image/{}",
    "/gradio_api/file={}",
    "/file={}",
    "/v1/items/{}",
    "/v1/runs/{}",
    "/{}",
]
_PARAMETERS = [
    "index",
    "id",
    "k",
    "min_score",
    "label",
    "path",
    "attribute",
    "since",
    "size",
    "limit",
    "offset",
    "anchor",
    "more",
    "crop",
]
_HEADERS = ["Host", "Origin", "Cookie", "Authorization", "X-Request-ID", "Range", "If-None-Match", "X-Forwarded-Host", "Accept"]
_METHODS = ("GET", "POST", "TRACE", "PROPFIND", "X" * 50)
_ADDRESSES = ("//", "/%2e%2e/%2e%2e/", "/..;/", "/.git/config", "/v1//search", "*", "/" + "a/" * 2000)
_NUMBERS = ["-1", "0", "1e309", "nan", "0x1", "1.5", "9223372036854775808", "-9223372036854775809", "١", "1,1", "true"]
_WORDS = ("'; DROP TABLE items;--", "\0", "\x7f", "%", "%zz", "{{7*7}}", "<script>alert(1)</script>", "\U0001f600", "(a+)+$")
_LONG = ("9" * 40, "a" * 3000, "*" * 200, "[" * 200, "\u202e")


def hostile_values(outside: Path, draw: random.Random) -> list[str]:
    """What a parameter, a path or an id is given."""
    up = "../" * draw.randrange(1, 12)
    paths = [str(outside), f"{up}{str(outside)[1:]}", f"{up}etc/passwd", "/etc/passwd", f"file://{outside}", f"~/{outside.name}"]
    return [*paths, *_NUMBERS, *_WORDS, *_LONG]


def encoded(value: str, draw: random.Random) -> str:
    """A value in an address: as it should be, with its slashes, or encoded twice."""
    once = urllib.parse.quote(value, safe="")
    return draw.choice((once, urllib.parse.quote(value), urllib.parse.quote(once, safe="")))


def hostile_json(draw: random.Random) -> bytes:
    deep = draw.choice((50, 1000, 50_000))
    number = draw.choice(("1e400", "-1", "NaN", "Infinity", "9" * 400, "1.0000000000000001", "true", "null"))
    return draw.choice(
        (
            b"[" * deep + b"]" * deep,
            b'{"a":' * deep + b"1" + b"}" * deep,
            f'{{"vector": [{number}], "k": {number}, "id": {number}}}'.encode(),
            f'{{"vector": [{",".join([number] * draw.choice((1, 31, 32, 33, 5000)))}]}}'.encode(),
            b'{"id": 1, "id": 2, "more": [1, 1, 1], "less": ["x"], "filters": {"path": "../../*", "label": [null]}}',
            b'{"queries": [' + b",".join([b'{"id": 1}'] * draw.choice((0, 1, 5000))) + b"]}",
            b'{"queries": {"id": [[]]}, "item": "x", "index": "../../..", "mark": {}}',
            b'"' + b"\\u0000\\ud800" * 50 + b'"',
            draw.randbytes(draw.randrange(1, 400)),
            b"\xff\xfe{",
            b"",
        )
    )


def questions(outside: Path, draw: random.Random, count: int) -> Iterator[tuple[str, str, bytes, Headers]]:
    """Method, target, body and headers."""
    for _ in range(count):
        value = draw.choice(hostile_values(outside, draw))
        written, kind = encoded(value, draw), draw.randrange(5)
        if kind == 0:
            yield draw.choice(("GET", "HEAD", "POST")), draw.choice(_FILES).format(written), b"", {}
        elif kind == 1:
            asked = "&".join(f"{draw.choice(_PARAMETERS)}={written}" for _ in range(draw.choice((1, 2, 5))))
            yield draw.choice(("GET", "POST")), f"{draw.choice([*_ROUTES, *_READ])}?{asked}", b"", {}
        elif kind == 2:
            yield draw.choice(("POST", "POST", "DELETE", "PUT")), draw.choice(_ROUTES), hostile_json(draw), _JSON
        elif kind == 3:
            plain = "".join(character for character in value if " " <= character < "\x7f")
            given = draw.choice((plain, "a" * 8000, "bytes=0-,0-,0-"))
            yield "GET", draw.choice(["/", *_READ]), b"", {draw.choice(_HEADERS): given}
        else:
            yield draw.choice(_METHODS), draw.choice(_ADDRESSES), b"", {}


def memory(port: int) -> float:
    """Megabytes that the server has resident."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_PATIENCE_S)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return next(float(line.split()[1]) for line in lines if line.startswith("process_resident_memory_bytes ")) / 1024**2


def search_whole(port: int, photos: list[Path], told: Told) -> None:
    for photo in photos[:_WARM_UP]:
        with Image.open(photo) as opened:
            for whole in whole_images(opened.convert("RGB")).values():
                told.ask(port, "POST", "/v1/search?k=5", whole)


def main() -> None:
    parser = argparse.ArgumentParser(description="Hostile questions to a real server.")
    parser.add_argument("--uploads", type=int, default=1000, help="damaged photos (default: 1000)")
    parser.add_argument("--questions", type=int, default=500, help="hostile addresses, ids and bodies (default: 500)")
    parser.add_argument("--rounds", type=int, default=3, help="of as many of both (default: 3)")
    parser.add_argument("--seed", type=int, default=1903)
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        outside = home / "outside.txt"
        outside.write_text(CANARY)
        draw_gallery(home / "gallery")
        (home / "gallery" / "notes.txt").write_text(CANARY)  # inside, but no photo
        write_small_encoder(home / "encoder.onnx")
        workspace = Workspace(home / "workspace")
        update_index(home / "gallery", workspace.index_for_gallery(home / "gallery"), home / "encoder.onnx", device="cpu")
        photos = sorted((home / "gallery").rglob("*.jpg"))
        figures = fuzz(home, photos, outside, draw, options)
    print(json.dumps(figures, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if figures["faults"] else 0)


def fuzz(home: Path, photos: list[Path], outside: Path, draw: random.Random, options: argparse.Namespace) -> dict[str, Any]:
    port, log = free_port(), home / "server.log"
    command: list[str | Path] = [HDML, "serve", "--no-open", "--device", "cpu", "--port", str(port)]
    command += ["--workspace", home / "workspace"]
    whole, damaged, hostile = Told(), Told(), Told()
    with running(command, port, ready="/readyz", log=log):
        search_whole(port, photos, whole)
        sizes = [memory(port)]
        for _ in range(options.rounds):
            for target, body, headers in uploads(draw, photos, options.uploads):
                damaged.ask(port, "POST", target, body, headers)
            for method, target, body, headers in questions(outside, draw, options.questions):
                hostile.ask(port, method, target, body, headers)
            sizes.append(memory(port))
        search_whole(port, photos, whole)
    faults = [*whole.faults, *damaged.faults, *hostile.faults]
    if "Traceback" in log.read_text(encoding="utf-8", errors="replace"):
        faults.append(f"a traceback in the log: {log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
    if set(whole.statuses) != {200}:
        faults.append(f"whole photos were answered with {dict(whole.statuses)}")
    return {
        "uploads": dict(sorted(damaged.statuses.items())),
        "questions": dict(sorted(hostile.statuses.items())),
        "faults": faults,
        "memory_mb": {"before": sizes[0], "after_rounds": sizes[1:]},
    }


if __name__ == "__main__":
    main()
