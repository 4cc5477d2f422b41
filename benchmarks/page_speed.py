"""How soon the page is there over a large gallery, and how soon results are painted after a photo is chosen, in a real Chromium.

    python benchmarks/page_speed.py [--items N] [--rounds N] [--keep FOLDER] [--json FILE]

N files in folders of 100, copies of a few drawn photos, are indexed with an untrained ResNet-18 at 64 px and served by ``hdml
serve``. Each round opens the gallery and the search page with an empty browser cache, and chooses a photo that the server has not
seen. Of the gallery, the clock runs from navigation until 20 thumbnails are decoded; of the search page, until a photo can be
chosen and the photos that it starts with are decoded; of an upload, from the choice until every result in the window is decoded
and two frames later, painted. What is beyond inference is that less the median of ``/v1/embed`` with the same photo. The first
round finds no thumbnails on the server's disk and is told apart. Targets: 2.5 s, 2.5 s, and 1.0 s beyond inference.
"""

import argparse
import io
import json
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, FilePayload, sync_playwright
from reindex import make_gallery
from served import HDML, HOST, free_port, running

from cli.chromium import FLAGS, find_chromium

THUMBNAILS = 20
PHOTO_SIDE = 1600
# Milliseconds, since navigation or a mark, after which some photos of an element, or all in the window, are decoded and painted.
_PAINTED = """async ([name, photos, least, mark]) => {
    const frame = () => new Promise(requestAnimationFrame);
    for (;;) {
        const root = document.querySelector(name)?.shadowRoot;
        const seen = [...(root?.querySelectorAll(photos) ?? [])].filter((img) => {
            const { top, width } = img.getBoundingClientRect();
            return width > 0 && top < innerHeight;
        });
        const decoded = seen.filter((img) => img.complete && img.naturalWidth > 0);
        if (seen.length > 0 && decoded.length >= (least ?? seen.length)) {
            await Promise.all(decoded.map((img) => img.decode()));
            await frame();
            await frame();
            return performance.now() - (mark ? performance.getEntriesByName(mark).at(-1).startTime : 0);
        }
        await frame();
    }
}"""
_MARK_CHOICE = """() => document.querySelector("photo-search").shadowRoot.querySelector("input[type=file]")
    .addEventListener("change", () => performance.mark("chosen"), { capture: true })"""
GALLERY = ["photo-gallery", "img", THUMBNAILS, None]
START = ["photo-search", ".card img", None, None]
RESULTS = ["photo-search", ".card:has(.value) img", None, "chosen"]


def make_index(home: Path, items: int) -> Path:
    """The workspace of an index of so many photos, made where it is not there yet."""
    workspace, gallery = home / "workspace", home / "gallery"
    if not gallery.exists():
        make_gallery(gallery, items)
        network = ["--backbone", "resnet18", "--weights", "none", "--image-size", "64"]
        subprocess.run([HDML, "export", *network, "--workspace", workspace], check=True)
    subprocess.run([HDML, "index", gallery, "--device", "cpu", "--workspace", workspace], check=True)
    return workspace


def photo_of(number: int) -> bytes:
    """A photo that no cache has seen."""
    gradient = Image.linear_gradient("L").resize((PHOTO_SIDE, PHOTO_SIDE)).rotate(7 * number)
    file = io.BytesIO()
    Image.merge("RGB", [gradient, gradient.rotate(90), gradient.rotate(180)]).save(file, "JPEG", quality=90)
    return file.getvalue()


def visit(browser: Browser, address: str, number: int) -> dict[str, float]:
    """One round: seconds of each of what is measured."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(60_000)
    page.goto(f"{address}/?tab=gallery", wait_until="commit")
    gallery = page.evaluate(_PAINTED, GALLERY)
    page.close()
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(60_000)
    page.goto(address, wait_until="commit")
    start = page.evaluate(_PAINTED, START)
    page.evaluate(_MARK_CHOICE)
    photo = photo_of(number)
    upload: FilePayload = {"name": "query.jpg", "mimeType": "image/jpeg", "buffer": photo}
    page.locator("photo-search input[type=file]").set_input_files(upload)
    painted = page.evaluate(_PAINTED, RESULTS)
    page.close()
    embedding = []
    for turn in range(3):  # of photos unseen, too
        began = time.perf_counter()
        httpx.post(f"{address}/v1/embed", content=photo_of(1000 + 3 * number + turn), timeout=60).raise_for_status()
        embedding.append(time.perf_counter() - began)
    seconds = {"gallery": gallery / 1000, "search page": start / 1000, "upload to painted": painted / 1000}
    return {**seconds, "embedding": median(embedding), "upload beyond inference": painted / 1000 - median(embedding)}


def main() -> None:
    parser = argparse.ArgumentParser(description="How soon the page is there, and results are painted.")
    parser.add_argument("--items", type=int, default=100_000, help="photos (default: 100000)")
    parser.add_argument("--rounds", type=int, default=11, help="visits (default: 11)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the photos and the index are, or are to stay")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    chromium = find_chromium()  # before Playwright's loop runs, since looking may start one of its own
    if chromium is None:
        raise SystemExit("there is no Chromium; install one with: python tools/chromium.py")
    with tempfile.TemporaryDirectory() as folder:
        workspace, port = make_index(options.keep or Path(folder), options.items), free_port()
        command: list[str | Path] = [HDML, "serve", "--no-open", "--device", "cpu", "--port", str(port), "--workspace", workspace]
        with running(command, port, ready="/readyz"), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            rounds = [visit(browser, f"http://{HOST}:{port}", number) for number in range(options.rounds)]
            browser.close()
    print("| | first, s | then, s: median (least–most) |\n|---|---|---|")
    for name in rounds[0]:
        first, *others = (each[name] for each in rounds)
        print(f"| {name} | {first:.2f} | {median(others):.2f} ({min(others):.2f}–{max(others):.2f}) |")
    if options.json is not None:
        figures: dict[str, Any] = {"items": options.items, "rounds": rounds}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
