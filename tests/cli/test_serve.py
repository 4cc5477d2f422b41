"""``hdml serve``: what answers first, a port in use, visitors that come early, and when a browser is opened."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
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


def test_other_hosts_need_a_token(hdml: Command, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HDML_TOKEN", raising=False)
    refused = hdml("serve", "--host", "0.0.0.0", "--port", port, "--no-open").sentence
    assert "--token-file" in refused
    assert "--insecure" in refused
    monkeypatch.setenv("HDML_TOKEN", "short")
    assert "at least 16" in hdml("serve", "--host", "0.0.0.0", "--port", port, "--no-open").sentence
    assert "token file" in hdml("serve", "--token-file", tmp_path / "none", "--port", port, "--no-open").sentence


def test_unknown_host_is_told_in_one_sentence(hdml: Command, port: int) -> None:
    told = hdml("serve", "--host", "no-such-host.invalid", "--insecure", "--port", port, "--no-open").sentence
    assert "no-such-host.invalid" in told


SECRET = "a-secret-for-tests-0123456789"
BEARER = {"Authorization": f"Bearer {SECRET}"}


@pytest.mark.parametrize("source", ["file", "variable", "none"])
def test_token_comes_from_a_file_or_the_environment(
    hdml: Command, served: list[Any], port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    arguments = ["serve", "--host", "127.0.0.2", "--name", "photos.example", "--api-only", "--port", port]
    if source == "file":
        (tmp_path / "token").write_text(f"{SECRET}\n")
        arguments += ["--token-file", tmp_path / "token"]
    elif source == "variable":
        monkeypatch.setenv("HDML_TOKEN", SECRET)
    done = hdml(*arguments)
    assert done.code == 0
    assert SECRET not in done.stdout + done.stderr
    with TestClient(served[0], base_url="http://photos.example") as client:
        assert client.get("/v1/indexes").status_code == (200 if source == "none" else 401)
        assert client.get("/v1/indexes", headers=BEARER).status_code == 200
        assert client.get("/v1/indexes", headers=BEARER | {"host": "127.0.0.2:7860"}).status_code == 200
        assert client.get("/v1/indexes", headers=BEARER | {"host": "other.example"}).status_code == 400
        assert client.get("/", headers=BEARER).status_code == 404


def test_person_at_a_terminal_is_given_a_token(
    hdml: Command, served: list[Any], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HDML_TOKEN", raising=False)
    monkeypatch.setattr("cli.serving._is_terminal", lambda: True)
    told = [hdml("serve", "--host", "0.0.0.0", "--api-only", "--port", port).stdout for _ in range(2)]
    tokens = [re.search(r"with the token (\S{32}) ", each) for each in told]
    assert tokens[0] is not None
    assert tokens[1] is not None
    assert tokens[0][1] != tokens[1][1]
    with TestClient(served[0], base_url="http://127.0.0.1") as client:
        assert client.get("/v1/indexes").status_code == 401
        assert client.get("/v1/indexes", headers={"Authorization": f"Bearer {tokens[0][1]}"}).status_code == 200


def test_questions_under_way_are_answered_when_the_server_is_told_to_end(
    photos: Path, hdml: Command, tiny_run: Path, tmp_path: Path, port: int
) -> None:
    """One photo is half sent when SIGTERM comes, and its answer is given; another never comes, and does not keep the server."""
    assert hdml("index", photos).code == 0
    command = [str(Path(sys.executable).with_name("hdml")), "serve", "--port", str(port), "--api-only", "--log-format", "json"]
    content = (photos / "blue-left" / "1.jpg").read_bytes()
    head = f"POST /v1/search?k=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    process = subprocess.Popen(
        [*command, "--workspace", str(tmp_path / "workspace"), "--device", "cpu"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert is_ready(port)
        with ExitStack() as open_ones:
            idle, half, never = (open_ones.enter_context(socket.create_connection((HOST, port), timeout=60)) for _ in range(3))
            for each in (half, never):
                each.sendall(head + content[:100])
            ask(idle, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")  # by now the others have been begun
            process.send_signal(signal.SIGTERM)
            assert idle.recv(1) == b""  # it is closed at once
            half.sendall(content[100:])
            answer = b"".join(iter(lambda: half.recv(65536), b""))
            _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert b" 200 OK\r\n" in answer
    assert b'"path":"blue-left/1.jpg"' in answer
    assert process.returncode == -signal.SIGTERM
    lines = [json.loads(line) for line in told.splitlines() if '"route"' in line]
    assert ("/v1/search", 200) in [(line["route"], line["status"]) for line in lines]
    assert "Traceback" not in told


def is_ready(port: int) -> bool:
    """Wait until the server is ready."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://{HOST}:{port}/readyz", timeout=60).status_code == 200:
                return True
        except httpx.TransportError:
            time.sleep(0.2)
    return False


def ask(connection: socket.socket, request: str) -> None:
    connection.sendall(request.encode())
    answer = b""
    while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
        answer += connection.recv(65536)
