"""A real server for the benchmarks of serving, in a process of its own, and how it is told when it answers."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOST = "127.0.0.1"
HDML = Path(sys.executable).with_name("hdml")
_PATIENCE_S = 300.0


def free_port() -> int:
    with socket.create_server((HOST, 0)) as free:
        return int(free.getsockname()[1])


def wait_until(port: int, path: str, process: "subprocess.Popen[bytes]") -> None:
    """Return when a path is answered with 200; raises RuntimeError when the process ends before, or too much time goes by."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=_PATIENCE_S)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.005)
    raise RuntimeError(f"the server did not answer {path}; it ended with {process.poll()}")


@contextmanager
def running(command: list[str | Path], port: int, *, ready: str, log: Path | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that answers ``ready``; it is told to end when the context does. ``log`` takes what it writes."""
    with (log or Path("/dev/null")).open("wb") as told:
        process = subprocess.Popen(command, stdout=told, stderr=told)
        try:
            wait_until(port, ready, process)
            yield process
        finally:
            process.terminate()
            process.wait(60)
