"""``hdml serve``."""

import os
import secrets
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.galleries import newer_run
from cli.options import DEFAULT_WORKSPACE, DeviceOption, WorkspaceOption
from indexing.errors import HdmlError

if TYPE_CHECKING:
    import uvicorn

    from app.tokens import Token
    from indexing.workspace import Workspace

HOST = "127.0.0.1"
PORT = 7860
TOKEN = "HDML_TOKEN"  # variable of the environment
_ANY = ("0.0.0.0", "::")
_UNDER_WAY = 10  # seconds that questions have to be answered in when the server is to end
_IDLE = 75  # seconds that an idle connection is kept, longer than proxies keep theirs, which would otherwise meet closed ones


def serve(
    bundle: Annotated[
        str | None, typer.Argument(help="A bundle, as hdml pack makes them, or an index.", show_default="the newest index")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = PORT,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any other than this machine's own needs a token. 0.0.0.0: all of them.")
    ] = HOST,
    name: Annotated[
        list[str] | None, typer.Option(help="A name or address that the server is asked by, beside --host; may be repeated.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help=f"File with the token that page and programs have to know; else {TOKEN} may hold it.")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Answer everybody who can reach --host, without a token.")] = False,
    api_only: Annotated[bool, typer.Option("--api-only", help="Serve the routes for programs without the page.")] = False,
    rate_limit: Annotated[
        float, typer.Option(min=0, help="Questions a second of one client elsewhere, averaged over ten seconds; 0 for no limit.")
    ] = 20,
    thumbnail_cache: Annotated[int, typer.Option(min=0, help="Megabytes of thumbnails that are kept on disk.")] = 1024,
    log_format: Annotated[
        Literal["json", "text"] | None,
        typer.Option(help="Write a line for each request on standard error.", show_default="only what goes wrong"),
    ] = None,
    index: Annotated[str | None, typer.Option(help="The same as BUNDLE.", show_default=False)] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Serve the web page and the HTTP API, on this machine alone unless --host says otherwise.

    Example: hdml serve --port 7860
    """
    if bundle is not None and index is not None:
        raise HdmlError(f"the server takes one index first, but got {bundle} and {index}; name one of them")
    asked = bundle or index
    token, generated = _token(host, token_file, insecure=insecure)
    with listen(port, host) as listening:
        from app.galleries import Galleries, warm
        from indexing.memory import return_freed_memory
        from indexing.workspace import Workspace

        return_freed_memory()
        place = Workspace(workspace)
        found: Path | None = place.find_index(asked).resolve() if asked is not None else None
        galleries = Galleries(place, default=found, device=device)
        warm(galleries)  # the network is loaded while what answers over HTTP is imported
        _say_what_is_served(place, found)

        import uvicorn

        from app.request_log import configure_logging
        from app.server import Service, create_app_over

        if log_format is not None:
            configure_logging(log_format)
        names = (*([] if host in _ANY else [_in_address(host)]), *(name or []))
        service = Service(token=token, names=names, rate=rate_limit, thumbnails=thumbnail_cache * 1024**2)
        api = create_app_over(galleries, page=not api_only, service=service)
        address = f"http://{_in_address(HOST if host in _ANY else host)}:{port}"
        typer.echo(f"{'Programs are answered at' if api_only else 'Open'} {address}{_access(token, generated)}; Ctrl-C ends it.")
        # Open pages keep their connections, which end at once; questions that are under way are answered.
        config = uvicorn.Config(
            api,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_IDLE,
            timeout_graceful_shutdown=_UNDER_WAY,
        )
        server = uvicorn.Server(config)
        if open_browser and not api_only and _has_display():
            threading.Thread(target=_open_page, args=(server, address), daemon=True).start()
        server.run(sockets=[listening])


def _token(host: str, file: Path | None, *, insecure: bool) -> "tuple[Token | None, str | None]":
    """The token to ask for, and its text where it was made now, for a person to read; raises HdmlError where one is missing."""
    from app.clients import is_loopback
    from app.tokens import Token, read_token

    if file is not None:
        return read_token(file), None
    if given := os.environ.get(TOKEN):
        return Token(given), None
    if is_loopback(host) or insecure:
        return None, None
    if not _is_terminal():
        raise HdmlError(
            f"a server on {host} can be reached by others and needs a token, but has none; give --token-file FILE or set "
            f"{TOKEN}, or --insecure to answer everybody"
        )
    made = secrets.token_urlsafe(24)
    return Token(made), made


def _is_terminal() -> bool:
    """Whether what is told goes to a person, not into a file or a service's log."""
    return sys.stdout.isatty()


def _access(token: "Token | None", generated: str | None) -> str:
    if generated is not None:
        return f" with the token {generated} (shown this once; --token-file keeps one)"
    return " with the server's token" if token is not None else ""


def _in_address(host: str) -> str:
    """A host as addresses have it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def listen(port: int, host: str = HOST) -> socket.socket:
    """A socket that listens before anything heavy is imported: a port in use is told at once, and early visitors wait."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except socket.gaierror as error:
        raise HdmlError(f"--host must be an address of this machine, but {host} is not known: {error.strerror}.") from error
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise HdmlError(
            f"The server needs a free port, but {host}:{port} is not ({reason}); try --port {port % 65535 + 1}."
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
