"""Errors as programs read them: problem details (RFC 9457) with one sentence under ``detail``, never a traceback."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.galleries import UnknownIndex
from indexing.errors import HdmlError, UnknownItem, UnreadableImage


def problem(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(as_problem(status, detail), status, headers, media_type="application/problem+json")


def as_problem(status: HTTPStatus, detail: str) -> dict[str, str | int]:
    """The fields of a problem."""
    return {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}


def refusal(error: HdmlError | HTTPException) -> JSONResponse:
    """An error of the user's world as a problem; for middleware too, which no handler serves."""
    return problem(*said(error), error.headers if isinstance(error, HTTPException) else None)


def said(error: HdmlError | HTTPException) -> tuple[HTTPStatus, str]:
    """The status of an error of the user's world, and its sentence."""
    match error:
        case HTTPException():
            return HTTPStatus(error.status_code), str(error.detail)
        case UnreadableImage():
            return HTTPStatus.UNPROCESSABLE_ENTITY, f"The query photo cannot be searched with: {error}."
        case UnknownIndex() | UnknownItem():
            return HTTPStatus.NOT_FOUND, str(error)
    return HTTPStatus.BAD_REQUEST, str(error)


def add_problem_handlers(api: FastAPI) -> None:
    """Answer every error of the user's world with a problem; the handlers need no thread, which may all be taken."""

    @api.exception_handler(HdmlError)
    async def user_error(_: Request, error: HdmlError) -> JSONResponse:
        return refusal(error)

    @api.exception_handler(RequestValidationError)
    async def bad_parameters(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors())
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, faults)

    @api.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        return refusal(error)
