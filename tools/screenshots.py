"""Pictures of the page over a workspace, for the README and docs/tour.md: every part of it, in three widths, light and dark.

``make screenshots`` takes those of the demo's workspace that the documents show; ``--every`` takes the others too.
"""

import argparse
import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx
import uvicorn
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from app.server import create_app
from cli.chromium import FLAGS, find_chromium
from indexing.workspace import Workspace

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (1440, 1024, 390)
SHOWN = {
    *(f"{part}-light-1440" for part in ("search", "examples", "detail", "lens", "gallery", "runs")),
    *("lens-dark-1440", "search-light-390", "lens-light-390"),
}
IMAGES = Path(__file__).parent.parent / "docs" / "images"
# Whether every picture of an element that lies in the window is loaded.
DRAWN = """(name) => [...document.querySelector(name).shadowRoot.querySelectorAll("img")].every((img) => {
    const { top, left } = img.getBoundingClientRect();
    return !img.checkVisibility() || top > innerHeight || left > innerWidth || (img.complete && img.naturalWidth > 0);
})"""


def main() -> None:
    """Serve the workspace on a free port and photograph its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, default=Path("demo-workspace"))
    parser.add_argument("--query", type=Path, help="a photo; by default the last one of the newest index's gallery")
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--every", action="store_true", help="every part in every width, light and dark")
    arguments = parser.parse_args()
    workspace = Workspace(arguments.workspace)
    query = arguments.query or max(workspace.indexes()[0].gallery.rglob("*.jpg"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    chromium = find_chromium()  # before Playwright's loop runs, since looking may start one of its own
    if chromium is None:
        sys.exit("there is no Chromium to take pictures with; install one with: python tools/chromium.py")
    with serving(workspace) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        # The first search opens the encoder, which is not what a picture is to tell of.
        httpx.post(f"{address}/v1/search", content=query.read_bytes(), timeout=120).raise_for_status()
        for scheme in SCHEMES:
            for width in WIDTHS:
                if not arguments.every and not any(name.endswith(f"-{scheme}-{width}") for name in SHOWN):
                    continue
                page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
                for name, shot in photograph(page, address, query):
                    if arguments.every or f"{name}-{scheme}-{width}" in SHOWN:
                        save(shot, arguments.out / f"{name}-{scheme}-{width}.jpg")
                page.close()
        browser.close()


@contextmanager
def serving(workspace: Workspace, *, device: str = "auto") -> Iterator[str]:
    """The address of the real server over a workspace, on a free port; it runs while the context lasts."""
    server = uvicorn.Server(uvicorn.Config(create_app(workspace, device=device), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
        if not thread.is_alive():
            raise RuntimeError("the server ended before it had started")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def photograph(page: Page, address: str, query: Path) -> Iterator[tuple[str, bytes]]:
    """A name and a PNG file of every part of the page in turn, each once all its pictures are loaded."""
    page.set_default_timeout(120_000)
    page.goto(address, wait_until="domcontentloaded")
    page.locator("photo-search input[type=file]").set_input_files(query)
    page.locator("photo-search .status").get_by_text(" ms").wait_for()
    yield "search", shoot(page, "photo-search")

    page.locator("photo-search [data-act=more]").nth(1).click()
    page.locator("photo-search .chip.more").wait_for()
    page.locator("photo-search [data-act=less]").nth(4).click()
    page.locator("photo-search .chip.less").wait_for()
    page.locator("photo-search .status").get_by_text(" ms").wait_for()
    yield "examples", shoot(page, "photo-search")

    page.locator("photo-search .photo").nth(2).click()
    page.locator("photo-search dialog button", has_text="Why?").click()
    page.locator("photo-search dialog").get_by_text("Warm:").wait_for()
    yield "detail", shoot(page, "photo-search")
    page.keyboard.press("Escape")

    page.locator("photo-search [data-act=lens]").nth(1).click()
    page.locator("hardness-lens .end.negative").first.wait_for()
    page.locator("hardness-lens .tile").first.wait_for()
    page.wait_for_timeout(1500)  # the pictures of the map tell nobody that they are loaded
    yield "lens", shoot(page, "hardness-lens")

    page.get_by_role("tab", name="Gallery").click()
    page.locator("photo-gallery").get_by_role("tab", name="Figures").click()
    page.locator("photo-gallery").get_by_role("heading", name="How well a search finds").wait_for()
    yield "gallery", shoot(page, "photo-gallery")

    page.get_by_role("tab", name="Runs").click()
    page.locator("training-runs svg").first.wait_for()
    yield "runs", shoot(page, "training-runs")


def shoot(page: Page, element: str) -> bytes:
    """The window, once the pictures of an element that lie in it are loaded."""
    page.mouse.move(0, 0)
    page.wait_for_function(DRAWN, arg=element)
    return page.screenshot()


def save(shot: bytes, file: Path) -> None:
    Image.open(io.BytesIO(shot)).convert("RGB").save(file, quality=85, optimize=True)


if __name__ == "__main__":
    main()
