"""How what a route has found becomes an answer: as JSON, in the thread that made it; sent once, where it stays the same."""

import inspect
import json
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class WrittenInThread(APIRoute):
    """A route of a plain function whose answer is not checked by its model, which OpenAPI tells.

    FastAPI would do so in a second thread, for every question.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not inspect.iscoroutinefunction(endpoint):
            endpoint = _written(endpoint)
        super().__init__(path, endpoint, **options)


def as_body(answer: Any) -> bytes:
    """An answer as JSON."""
    return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def unless_known(request: Request, tag: str, content: bytes, media_type: str) -> Response:
    """An answer that browsers keep and ask for again each time; no bytes are sent where theirs has the same tag."""
    headers = {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _written(endpoint: Callable[..., Any]) -> Callable[..., Response]:
    @wraps(endpoint)
    def write(*arguments: Any, **named: Any) -> Response:
        answer = endpoint(*arguments, **named)
        if isinstance(answer, Response):
            return answer
        return Response(as_body(answer), media_type="application/json")

    return write
