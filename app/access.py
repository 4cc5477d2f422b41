"""Who may ask: with a token set, whoever knows it, as a program by a header or as a person who has logged in on the page."""

import time
from html import escape
from http import HTTPStatus
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from app.clients import client_of
from app.limits import Buckets, too_many
from app.policy import form_policy, new_nonce
from app.problems import refusal
from app.tokens import SESSION, Token

COOKIE = "hdml_session"
LOGIN = "/login"
OPEN = ("/healthz", LOGIN)
_TRIES, _TRIES_A_SECOND = 10, 1 / 6  # wrong tokens of one address
_FORM_BYTES = 4096


class Doorkeeper:
    """What middleware and login page share: the token, and how often an address was wrong about it."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self._tries = Buckets(_TRIES_A_SECOND, _TRIES)

    def knows(self, scope: Scope, given: str) -> bool:
        """Whether a token that a client gives is right; raises HTTPException 429 after too many wrong ones, right or not."""
        client = client_of(scope)
        if (wait := self._tries.wait(client)) > 0:
            raise too_many(wait, "wrong tokens")
        right = self._token.matches(given)
        if not right:
            self._tries.take(client)
        return right

    def is_logged_in(self, headers: Headers) -> bool:
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        return cookie is not None and self._token.is_session(cookie, now=time.time())

    def new_session(self) -> str:
        return self._token.new_session(now=time.time())


class TokenRequired:
    """ASGI middleware that lets through who knows the token, to everything but OPEN; others are led to the login page."""

    def __init__(self, app: ASGIApp, *, doorkeeper: Doorkeeper, login_page: bool) -> None:
        self._app, self._doorkeeper, self._login_page = app, doorkeeper, login_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        try:
            refused = self._refused(scope)
        except HTTPException as error:
            refused = refusal(error)
        await (refused or self._app)(scope, receive, send)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if self._doorkeeper.knows(scope, given.strip()):
                return None
        elif self._doorkeeper.is_logged_in(headers):
            return None
        elif self._login_page and scope.get("method") == "GET" and "text/html" in headers.get("accept", ""):
            wanted = quote(scope["path"]) + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
            return RedirectResponse(f"{LOGIN}?next={quote(wanted, safe='')}", HTTPStatus.SEE_OTHER)
        sentence = "This server needs its token: send the header Authorization: Bearer TOKEN, or log in on the page."
        return refusal(HTTPException(HTTPStatus.UNAUTHORIZED, sentence, {"WWW-Authenticate": 'Bearer realm="hdml"'}))


def make_router(doorkeeper: Doorkeeper) -> APIRouter:
    """The login page, and logging out."""
    router = APIRouter(include_in_schema=False)

    @router.get(LOGIN)
    async def ask(request: Request, next: str = "/") -> Response:
        if request.headers.get("sec-fetch-site") == "cross-site":
            # A link on another site was followed, with which a strict cookie does not come; with our own address it does.
            return _form(_own_address(next), refresh=True)
        if doorkeeper.is_logged_in(request.headers):
            return RedirectResponse(_own_address(next), HTTPStatus.SEE_OTHER)
        return _form(_own_address(next))

    @router.post(LOGIN)
    async def log_in(request: Request) -> Response:
        fields = parse_qs(await _short_body(request))
        wanted = _own_address(fields.get("next", ["/"])[0])
        if not doorkeeper.knows(request.scope, fields.get("token", [""])[0].strip()):
            return _form(wanted, fault="That is not the token of this server.")
        answer = RedirectResponse(wanted, HTTPStatus.SEE_OTHER)
        https = request.url.scheme == "https"
        answer.set_cookie(COOKIE, doorkeeper.new_session(), max_age=SESSION, httponly=True, samesite="strict", secure=https)
        return answer

    @router.post("/logout")
    async def log_out() -> Response:
        answer = RedirectResponse(LOGIN, HTTPStatus.SEE_OTHER)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    return router


async def _short_body(request: Request) -> str:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_BYTES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The form holds more than a token.")
    return body.decode("utf-8", "replace")


def _own_address(wanted: str) -> str:
    """Where to go after logging in: a path of this server, whatever was asked for."""
    parts = urlsplit(wanted)
    is_own = not parts.scheme and not parts.netloc and wanted.startswith("/") and not wanted.startswith(("//", "/\\"))
    is_plain = all(character.isprintable() for character in wanted)
    return wanted if is_own and is_plain else "/"


_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { display: grid; place-content: center; min-height: 90vh; margin: 0; padding: 16px; }
form { display: grid; gap: 12px; width: min(22rem, 90vw); }
h1 { margin: 0; font-size: 1.4rem; }
p { margin: 0; }
input, button { font: inherit; padding: 8px 12px; border-radius: 8px; border: 1px solid light-dark(#85827c, #73767c); }
button { border: 0; color: light-dark(#fff, #141517); background: light-dark(#2f55d4, #8fa8ff); cursor: pointer; }
[role=alert] { color: light-dark(#b3380a, #fb923c); }
"""


def _form(wanted: str, *, fault: str | None = None, refresh: bool = False) -> HTMLResponse:
    nonce = new_nonce()
    again = f'<meta http-equiv="refresh" content="0; url={LOGIN}?next={quote(wanted, safe="")}">' if refresh else ""
    alert = f'<p role="alert">{escape(fault)}</p>' if fault else ""
    document = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">{again}
<title>hdml: log in</title><link rel="icon" href="data:,"><style nonce="{nonce}">{_STYLE}</style></head>
<body><main><form method="post" action="{LOGIN}">
<h1>hdml</h1><p>This server asks for the token that it was started with.</p>{alert}
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<input type="hidden" name="next" value="{escape(wanted)}">
<button>Log in</button></form></main></body></html>"""
    headers = {"Content-Security-Policy": form_policy(nonce), "Cache-Control": "no-store"}
    return HTMLResponse(document, HTTPStatus.FORBIDDEN if fault else HTTPStatus.OK, headers)
