"""``hdml serve``."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.galleries import newer_run
from cli.options import DEFAULT_WORKSPACE, DeviceOption, WorkspaceOption
from indexing.errors import HdmlError

if TYPE_CHECKING:
    from indexing.workspace import Workspace

HOST = "127.0.0.1"
PORT = 7860


def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of this machine to listen on.")] = PORT,
    index: Annotated[str | None, typer.Option(help="An index, by name.", show_default="the newest")] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Serve the web page and the HTTP API on this machine alone.

    Example: hdml serve --port 7860
    """
    listening = _listen(port)
    import webbrowser

    import uvicorn

    from app.server import create_app
    from indexing.workspace import Workspace

    place = Workspace(workspace)
    found: Path | None = place.find_index(index) if index is not None else None
    _say_what_is_served(place, found)
    api = create_app(place, index=found, device=device)
    typer.echo(f"Open http://{HOST}:{port} in a browser; Ctrl-C ends the server.")
    if open_browser:
        webbrowser.open(f"http://{HOST}:{port}")
    # Open pages keep their connections; a second is enough for answers that are under way.
    server = uvicorn.Server(uvicorn.Config(api, log_level="warning", timeout_graceful_shutdown=1))
    server.run(sockets=[listening])


def _listen(port: int) -> socket.socket:
    """A socket bound before anything heavy is imported, so that a port in use is told at once."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        raise HdmlError(
            f"The server needs a free port, but {HOST}:{port} is not ({error.strerror}); try --port {port % 65535 + 1}."
        ) from error
    return listening


def _say_what_is_served(place: "Workspace", index: Path | None) -> None:
    indexes = place.indexes()
    if not indexes:
        typer.echo(f"There is no index in {place.root} yet; the page says how to make one.")
        return
    chosen = next(info for info in indexes if index is None or info.path == index)
    typer.echo(
        f"Serving {len(indexes)} index{'es' if len(indexes) > 1 else ''} of {place.root}, first {chosen.name}: "
        f"{chosen.items} photos, model {chosen.model}"
    )
    if (newer := newer_run(place, chosen.path)) is not None:
        typer.echo(newer)
