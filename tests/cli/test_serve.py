"""``hdml serve``: what answers first, a port in use, visitors that come early, and when a browser is opened."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from cli.serving import HOST, listen
from tests.cli.conftest import Command

# A browser that says whether the page answered when it was opened.
BROWSER = """#!{python}
import sys, urllib.request
from pathlib import Path
opened = Path(__file__).with_name("opened")
part = opened.with_suffix(".part")
part.write_text(sys.argv[1] + " " + urllib.request.urlopen(sys.argv[1] + "/healthz", timeout=30).read().decode())
part.replace(opened)
"""


@pytest.fixture
def port() -> int:
    with listen_anywhere() as free:
        return int(free.getsockname()[1])


def listen_anywhere() -> socket.socket:
    return socket.create_server((HOST, 0))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The apps that were to be served; the server says that it has started, and ends."""
    apps: list[Any] = []

    def run(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        apps.append(server.config.app)
        server.started = True

    monkeypatch.setattr(uvicorn.Server, "run", run)
    return apps


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, list[str]]:
    """Addresses that a browser was opened with, and an event after the first."""
    addresses: list[str] = []
    first = threading.Event()

    def open_page(address: str) -> None:
        addresses.append(address)
        first.set()

    monkeypatch.setattr(webbrowser, "open", open_page)
    return first, addresses


def test_port_in_use_is_told_in_one_sentence(hdml: Command) -> None:
    with listen_anywhere() as taken:
        port = taken.getsockname()[1]
        sentence = hdml("serve", "--port", port, "--no-open").sentence
    assert f"{HOST}:{port} is not" in sentence
    assert f"--port {port % 65535 + 1}" in sentence


def test_visitors_before_the_server_runs_wait(port: int) -> None:
    with listen(port), socket.create_connection((HOST, port), timeout=5) as visitor:
        assert visitor.getpeername() == (HOST, port)


@pytest.mark.parametrize("outside", [False, True])
def test_index_given_by_its_folder_answers_first(
    hdml: Command, served: list[Any], photos: Path, tiny_run: Path, tmp_path: Path, port: int, outside: bool, monkeypatch: Any
) -> None:
    other = tmp_path / "other"
    (photos / "red-right").rename(other)
    for gallery in (other, photos):  # photos is the newest and would answer first
        assert hdml("index", gallery).code == 0
    folder = Path("workspace/indexes/other")
    if outside:
        (tmp_path / folder).rename(tmp_path / "other-index")
        folder = Path("other-index")
    monkeypatch.chdir(tmp_path)
    done = hdml("serve", "--index", folder, "--port", port, "--no-open")
    assert done.code == 0
    assert f"Serving 2 indexes, first {tmp_path / folder}: 5 photos" in done.stdout
    with TestClient(served[0], base_url=f"http://{HOST}:{port}") as client:
        listed = client.get("/v1/indexes").json()["indexes"]
        assert [(index["name"], index["items"]) for index in listed] == [(folder.name, 5), ("photos", 15)]
        for query in ("", f"?index={folder.name}"):
            assert client.get(f"/v1/items{query}").json()["total"] == 5
        assert client.get("/v1/items?index=photos").json()["total"] == 15


def test_unknown_index_is_told_with_what_there_is(hdml: Command, photos: Path, tiny_run: Path, port: int) -> None:
    assert hdml("index", photos).code == 0
    assert "it has photos" in hdml("serve", "--index", "other", "--port", port, "--no-open").sentence


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
@pytest.mark.parametrize("display", [None, "DISPLAY", "WAYLAND_DISPLAY"])
def test_browser_is_opened_where_there_is_a_display(
    hdml: Command,
    served: list[Any],
    opened: tuple[threading.Event, list[str]],
    port: int,
    display: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if display is not None:
        monkeypatch.setenv(display, ":0")
    assert hdml("serve", "--port", port).code == 0
    first, addresses = opened
    assert first.wait(5 if display else 0.5) == (display is not None)
    assert addresses == ([f"http://{HOST}:{port}"] if display else [])


@pytest.mark.skipif(sys.platform != "linux", reason="the browser is a script, and the display a variable")
def test_browser_finds_a_server_that_answers_and_interrupting_ends_it(tmp_path: Path, port: int) -> None:
    browser = tmp_path / "browser"
    browser.write_text(BROWSER.format(python=sys.executable))
    browser.chmod(0o755)
    command = [str(Path(sys.executable).with_name("hdml")), "serve", "--port", str(port), "--workspace", str(tmp_path / "empty")]
    environment = {**os.environ, "DISPLAY": ":0", "BROWSER": str(browser)}
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Tests that a script runs in the background inherit an ignored SIGINT, which the server would then ignore too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "opened").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (tmp_path / "opened").read_text() == f'http://{HOST}:{port} {{"status":"ok"}}', told
    assert process.returncode == 130
    assert f"There is no index in {tmp_path / 'empty'} yet" in told
