"""How a route's dictionary becomes an answer: as JSON, in the thread that made it."""

import inspect
import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from fastapi import Response
from fastapi.routing import APIRoute


class WrittenInThread(APIRoute):
    """A route of a plain function whose answer is not checked by its model, which OpenAPI tells.

    FastAPI would do so in a second thread, for every question.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not inspect.iscoroutinefunction(endpoint):
            endpoint = _written(endpoint)
        super().__init__(path, endpoint, **options)


def _written(endpoint: Callable[..., Any]) -> Callable[..., Response]:
    @wraps(endpoint)
    def write(*arguments: Any, **named: Any) -> Response:
        answer = endpoint(*arguments, **named)
        if isinstance(answer, Response):
            return answer
        content = json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return Response(content.encode("utf-8", "replace"), media_type="application/json")

    return write
