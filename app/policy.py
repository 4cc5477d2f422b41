"""What browsers are told about every answer: the Content-Security-Policy, and other headers that narrow what may happen."""

import secrets

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# An answer that is no page runs nothing and loads nothing, should a browser be brought to show it as a page.
_NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # The address of the page may hold what was searched for. With no-referrer, a browser would send our own form as of no origin.
    "Referrer-Policy": "same-origin",
    # Other sites' pages can neither show a thumbnail nor read its size.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
}


def new_nonce() -> str:
    """What the scripts of one answer are known by; never the same twice."""
    return secrets.token_urlsafe(16)


def page_policy(nonce: str) -> str:
    """The policy of the page; Gradio compiles templates in the browser, hence ``unsafe-eval``, and sets styles on elements."""
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' 'nonce-{nonce}' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            # The query photo is shown from memory; the lens draws icons of its own.
            "img-src 'self' blob: data:",
            "object-src 'none'",
            "frame-src 'none'",
            "worker-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def form_policy(nonce: str) -> str:
    """The policy of a page that is one form and has no script."""
    return f"{_NO_PAGE}; style-src 'nonce-{nonce}'; img-src data:; form-action 'self'; base-uri 'none'"


class SecurityHeaders:
    """ASGI middleware that puts these headers on every answer; a page that comes with a policy of its own keeps it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", _NO_PAGE)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, send_with_headers)
