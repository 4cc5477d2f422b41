"""Errors as programs read them: problem details (RFC 9457) with one sentence under ``detail``, never a traceback."""

from http import HTTPStatus

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from app.galleries import UnknownIndex
from app.thumbnails import UnknownItem
from indexing.errors import HdmlError, UnreadableImage


def problem(status: HTTPStatus, detail: str) -> JSONResponse:
    content = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    return JSONResponse(content, status, media_type="application/problem+json")


def add_problem_handlers(api: FastAPI) -> None:
    """Answer every error of the user's world with a problem; programming errors stay what they are."""

    @api.exception_handler(UnreadableImage)
    def unreadable(_: Request, error: UnreadableImage) -> JSONResponse:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"The query photo cannot be searched with: {error}.")

    @api.exception_handler(UnknownIndex)
    @api.exception_handler(UnknownItem)
    def unknown(_: Request, error: HdmlError) -> JSONResponse:
        return problem(HTTPStatus.NOT_FOUND, str(error))

    @api.exception_handler(HdmlError)
    def user_error(_: Request, error: HdmlError) -> JSONResponse:
        return problem(HTTPStatus.BAD_REQUEST, str(error))

    @api.exception_handler(RequestValidationError)
    def bad_parameters(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, faults)

    @api.exception_handler(HTTPException)
    def http_error(_: Request, error: HTTPException) -> JSONResponse:
        return problem(HTTPStatus(error.status_code), str(error.detail))
