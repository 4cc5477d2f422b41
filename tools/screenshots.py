"""Screenshots of the page over a workspace, for the README: search and lens, light and dark.

Run after ``make demo``: python -m tools.screenshots --workspace demo-workspace --query PHOTO
"""

import argparse
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from app.server import create_app
from cli.chromium import find_chromium
from indexing.workspace import Workspace

IMAGES = Path(__file__).parent.parent / "docs" / "images"
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
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
    arguments = parser.parse_args()
    workspace = Workspace(arguments.workspace)
    query = arguments.query or max(workspace.indexes()[0].gallery.rglob("*.jpg"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    chromium = find_chromium()  # before Playwright's loop runs, since looking may start one of its own
    if chromium is None:
        sys.exit("there is no Chromium to take pictures with; install one with: python tools/chromium.py")
    with serving(workspace) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for scheme in ("light", "dark"):
            for width in (1440, 390):
                page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
                photograph(page, address, query, arguments.out, f"{scheme}-{width}")
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


def photograph(page: Page, address: str, query: Path, out: Path, name: str) -> None:
    """Search, wait for every thumbnail, photograph; then the lens."""
    page.goto(address, wait_until="domcontentloaded")
    page.locator("photo-search input[type=file]").set_input_files(query)
    page.locator("photo-search .status").get_by_text(" ms").wait_for()
    page.wait_for_function(DRAWN, arg="photo-search")
    save(page, out / f"search-{name}.jpg")
    page.locator("photo-search [data-act=lens]").nth(1).click()
    page.locator("hardness-lens .end.negative").first.wait_for()
    page.locator("hardness-lens .tile").first.wait_for()
    page.wait_for_function(DRAWN, arg="hardness-lens")
    page.wait_for_timeout(1500)  # the pictures of the map tell nobody that they are loaded
    save(page, out / f"lens-{name}.jpg")


def save(page: Page, file: Path) -> None:
    shot = file.with_suffix(".png")
    page.screenshot(path=shot)
    Image.open(shot).convert("RGB").save(file, quality=85, optimize=True)
    shot.unlink()


if __name__ == "__main__":
    main()
