"""Other sites' pages get nothing: a browser sends their requests to this machine as readily as our own."""

from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.problems import problem

LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


class KnownHostsOnly:
    """ASGI middleware that answers only requests for names of this server.

    A foreign page may let its own name point to this machine, and would then be its own page to a browser (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, names: Collection[str]) -> None:
        self._app = app
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or _without_port(Headers(scope=scope).get("host", "")).lower() in self._names:
            await self._app(scope, receive, send)
            return
        sentence = f"This server is not known by that name, only as {', '.join(sorted(self._names))}; hdml serve --name adds one."
        await problem(HTTPStatus.BAD_REQUEST, sentence)(scope, receive, send)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


class OwnPagesOnly:
    """ASGI middleware that refuses what a browser sends for a page of another host or port.

    Programs send none of the headers that tell, and are answered. Following a link to the page is no such request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and _is_foreign(Headers(scope=scope), scope.get("method", "")):
            refused = problem(HTTPStatus.FORBIDDEN, "This server answers only its own page and programs, not other sites' pages.")
            await refused(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _is_foreign(headers: Headers, method: str) -> bool:
    # A page's own requests name its origin except where they only read; "null" is that of a page without a host.
    if "origin" in headers and urlsplit(headers["origin"]).netloc != headers.get("host"):
        return True
    link = method == "GET" and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return headers.get("sec-fetch-site") == "cross-site" and not link
