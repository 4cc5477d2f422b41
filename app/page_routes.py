"""What of Gradio's own routes the page needs; all others are not there, those that a later version adds included.

Gradio can store uploads, serve files by path, pass requests on to other hosts and keep connections open. The page asks for none
of that: it is one document, scripts, style sheets, and calls of our own routes.
"""

import re
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.policy import new_nonce, page_policy
from app.problems import problem

PAGE = "/"
FILES = ("/theme.css", "/static/js/iframeResizer.contentWindow.min.js")
ASSET = re.compile(r"/assets/[\w.-]{1,200}", re.ASCII)
_SCRIPT = re.compile(rb"<script(?=[\s>])")


class PageRoutesOnly:
    """ASGI app around Gradio's: answers what the page is made of, and 404 to everything else."""

    def __init__(self, gradio_app: ASGIApp) -> None:
        self._app = gradio_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            if scope["path"] == PAGE:
                await self._page(scope, receive, send)
                return
            if scope["path"] in FILES or ASSET.fullmatch(scope["path"]):
                await self._app(scope, receive, send)
                return
        nothing = problem(HTTPStatus.NOT_FOUND, "There is nothing at this address; /openapi.json lists the routes.")
        await nothing(scope, receive, send)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Gradio's document, its scripts with the nonce of this answer; data is in it as JSON without ``<``."""
        nonce = new_nonce()
        start: Message = {}
        body = bytearray()

        async def edit(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    document = _SCRIPT.sub(b'<script nonce="' + nonce.encode() + b'"', bytes(body))
                    headers = MutableHeaders(scope=start)
                    headers["Content-Security-Policy"] = page_policy(nonce)
                    # A document that is kept would come with an old nonce, or show to whom has logged out.
                    headers["Cache-Control"] = "no-store"
                    if scope["method"] == "GET":
                        headers["Content-Length"] = str(len(document))
                    await send(start)
                    await send({"type": "http.response.body", "body": document})

        plain = [(name, value) for name, value in Headers(scope=scope).raw if name != b"accept-encoding"]
        await self._app({**scope, "headers": plain}, receive, edit)
