"""One line for each request on standard error, as JSON or text: when, what route, how it ended; never what was asked."""

import asyncio
import json
import logging
import re
import secrets
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import Metrics
from app.problems import problem

logger = logging.getLogger(__name__)
REQUEST_ID = "X-Request-ID"
_FIELDS = "request"  # of a log record
_PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# The route of what no route of ours answers: a file of the page, or an address that leads nowhere.
_NO_ROUTE = "other"
_GONE = 499  # what nginx and others write for a client that left before its answer


class Observed:
    """ASGI middleware around everything: gives each request an id, times it, counts it, and writes a line when lines are wanted.

    What nobody foresaw is logged with its traceback and answered with a sentence that names the request's id.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, request_id = time.perf_counter(), _request_id(scope)
        status, sent = 0, 0

        async def observe(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, observe)
        except asyncio.CancelledError:  # the server ends, and has waited for this answer as long as it waits for any
            if status == 0:
                await problem(HTTPStatus.SERVICE_UNAVAILABLE, "The server is being ended.")(scope, receive, observe)
        except Exception:  # the server must go on, and the log must say which request it was
            logger.exception("request %s failed", request_id)
            if status == 0:
                sentence = f"The server failed at this request, which is a fault of its own; its log tells more of {request_id}."
                await problem(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)(scope, receive, observe)
        finally:
            took = time.perf_counter() - began
            status = status or _GONE
            route = getattr(scope.get("route"), "path", None) or _NO_ROUTE
            self._metrics.answered(_known(scope["method"]), route, status, took)
            if logger.isEnabledFor(logging.INFO):
                client = scope["client"][0] if scope.get("client") else None
                fields = {
                    "id": request_id,
                    "client": client,
                    "method": _known(scope["method"]),
                    "route": route,
                    "status": status,
                    "ms": round(1000 * took, 2),
                    "bytes": sent,
                }
                logger.info("request", extra={_FIELDS: fields})


def _request_id(scope: Scope) -> str:
    """The id that a proxy in front has given, when it is a plain one, so that its log and ours can be read together."""
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _PLAIN_ID.fullmatch(given) else secrets.token_hex(8)


def _known(method: str) -> str:
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"


def configure_logging(style: str) -> None:
    """Write a line for each request, and every other record of the log in the same form: ``json`` or ``text``."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Json() if style == "json" else _Text())
    logger.setLevel(logging.INFO)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] | None = getattr(record, _FIELDS, None)
        if fields is None:
            return super().format(record)
        when = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="seconds")
        return "{when} {client} {method} {route} {status} {ms} ms {id}".format(when=when, **fields)
