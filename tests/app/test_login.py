"""The page behind a token, in a real browser: it logs in once, and then everything on the page works."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import expect, sync_playwright

from app.access import COOKIE
from app.server import Service, create_app
from app.tokens import Token
from cli.chromium import FLAGS, find_chromium
from indexing.workspace import Workspace

SECRET = "a-secret-for-tests-0123456789"


@pytest.fixture
def guarded(workspace: Workspace) -> Iterator[str]:
    api = create_app(workspace, device="cpu", service=Service(token=Token(SECRET)))
    server = uvicorn.Server(uvicorn.Config(api, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_person_logs_in_and_searches(guarded: str, photos: Path) -> None:
    chromium = find_chromium()
    assert chromium, "there is no Chromium for the page's tests; install one with: python tools/chromium.py"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        context = browser.new_context()
        page = context.new_page()
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_default_timeout(30_000)
        page.goto(f"{guarded}/?k=5", wait_until="domcontentloaded")
        assert page.url.startswith(f"{guarded}/login")
        assert errors == []
        page.get_by_label("Token").fill("not-the-token-0123456789")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("not the token")
        errors.clear()  # the browser reports the 403 by itself
        page.get_by_label("Token").fill(SECRET)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{guarded}/?k=5", wait_until="domcontentloaded")
        page.locator("photo-search input[type=file]").set_input_files(photos / "blue-left" / "2.jpg")
        expect(page.locator("photo-search .card .path").first).to_have_text("blue-left/2.jpg")
        (cookie,) = context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (COOKIE, True, "Strict")
        assert page.evaluate("document.cookie") == ""

        # From another site a link leads to the page as well; to a browser, localhost is one.
        other = context.new_page()
        other.goto(f"{guarded.replace('127.0.0.1', 'localhost')}/healthz")
        other.evaluate("(url) => { location = url }", f"{guarded}/?k=7")
        other.wait_for_url(f"{guarded}/?k=7", wait_until="domcontentloaded")
        expect(other.locator("photo-search .card").first).to_be_visible(timeout=30_000)
        assert errors == []
        browser.close()
