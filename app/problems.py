"""Errors as programs read them: problem details (RFC 9457) with one sentence under ``detail``, never a traceback."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.galleries import UnknownIndex
from app.thumbnails import UnknownItem
from indexing.errors import HdmlError, UnreadableImage


def problem(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    content = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    return JSONResponse(content, status, headers, media_type="application/problem+json")


def refusal(error: HTTPException) -> JSONResponse:
    """An error that knows its status, as a problem; for middleware, which no handler serves."""
    return problem(HTTPStatus(error.status_code), str(error.detail), error.headers)


def add_problem_handlers(api: FastAPI) -> None:
    """Answer every error of the user's world with a problem; the handlers need no thread, which may all be taken."""

    @api.exception_handler(UnreadableImage)
    async def unreadable(_: Request, error: UnreadableImage) -> JSONResponse:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"The query photo cannot be searched with: {error}.")

    @api.exception_handler(UnknownIndex)
    @api.exception_handler(UnknownItem)
    async def unknown(_: Request, error: HdmlError) -> JSONResponse:
        return problem(HTTPStatus.NOT_FOUND, str(error))

    @api.exception_handler(HdmlError)
    async def user_error(_: Request, error: HdmlError) -> JSONResponse:
        return problem(HTTPStatus.BAD_REQUEST, str(error))

    @api.exception_handler(RequestValidationError)
    async def bad_parameters(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, faults)

    @api.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        return refusal(error)
