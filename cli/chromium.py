"""Finds the Chromium that the page's tests, pictures and benchmarks drive, and how they start it."""

import os
import shutil
import subprocess
from pathlib import Path

from indexing.errors import HdmlError

VARIABLE = "HDML_CHROMIUM"
NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
_START_SECONDS = 30


def find_chromium() -> Path | None:
    """The browser that HDML_CHROMIUM names, else one on PATH, else Playwright's own; None when there is none.

    Each is started once with ``--version``, because Ubuntu's ``chromium-browser`` may be a stub that only names a snap.

    Raises:
        HdmlError: HDML_CHROMIUM names something that does not start.
    """
    if named := os.environ.get(VARIABLE):
        if not _starts(named):
            raise HdmlError(f"{VARIABLE} must name a Chromium that starts, but {named} does not; correct the path or unset it")
        return Path(named)
    installed = (path for name in NAMES if (path := shutil.which(name)))
    found = next((path for path in installed if _starts(path)), None) or _playwrights_own()
    return Path(found) if found else None


def _starts(path: str) -> bool:
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=_START_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _playwrights_own() -> str | None:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:  # only the tests need it
        return None
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if _starts(path) else None
