"""``hdml serve``."""

import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.galleries import newer_run
from cli.options import DEFAULT_WORKSPACE, DeviceOption, WorkspaceOption
from indexing.errors import HdmlError

if TYPE_CHECKING:
    import uvicorn

    from indexing.workspace import Workspace

HOST = "127.0.0.1"
PORT = 7860


def serve(
    bundle: Annotated[
        str | None, typer.Argument(help="A bundle, as hdml pack makes them, or an index.", show_default="the newest index")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of this machine to listen on.")] = PORT,
    index: Annotated[str | None, typer.Option(help="The same as BUNDLE.", show_default=False)] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Serve the web page and the HTTP API on this machine alone.

    Example: hdml serve --port 7860
    """
    if bundle is not None and index is not None:
        raise HdmlError(f"the server takes one index first, but got {bundle} and {index}; name one of them")
    asked = bundle or index
    with listen(port) as listening:
        import uvicorn

        from app.server import create_app
        from indexing.workspace import Workspace

        place = Workspace(workspace)
        found: Path | None = place.find_index(asked).resolve() if asked is not None else None
        _say_what_is_served(place, found)
        api = create_app(place, index=found, device=device)
        typer.echo(f"Open http://{HOST}:{port} in a browser; Ctrl-C ends the server.")
        # Open pages keep their connections; a second is enough for answers that are under way.
        server = uvicorn.Server(uvicorn.Config(api, log_level="warning", timeout_graceful_shutdown=1))
        if open_browser and _has_display():
            threading.Thread(target=_open_page, args=(server, f"http://{HOST}:{port}"), daemon=True).start()
        server.run(sockets=[listening])


def listen(port: int) -> socket.socket:
    """A socket that listens before anything heavy is imported: a port in use is told at once, and early visitors wait."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise HdmlError(
            f"The server needs a free port, but {HOST}:{port} is not ({reason}); try --port {port % 65535 + 1}."
        ) from error


def _has_display() -> bool:
    """Whether a browser has a window to open; without one, a text browser would take the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open_page(server: "uvicorn.Server", address: str) -> None:
    """Open the page once the server answers; some browsers return only when they are closed, so this has its own thread."""
    import webbrowser

    while not server.started:
        time.sleep(0.1)
    webbrowser.open(address)


def _say_what_is_served(place: "Workspace", index: Path | None) -> None:
    from app.galleries import served_indexes

    indexes = served_indexes(place, index)
    if not indexes:
        typer.echo(f"There is no index in {place.root} yet; the page says how to make one.")
        return
    first = indexes[0]
    typer.echo(
        f"Serving {len(indexes)} index{'es' if len(indexes) > 1 else ''}, first {first.path}: "
        f"{first.items} photos, model {first.model}"
    )
    if (newer := newer_run(place, first.path)) is not None:
        typer.echo(newer)
