"""The query photo of a request: its own bytes, untouched, and never more of them than the limit."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

MAX_UPLOAD = 50 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class Upload:
    """A photo that was sent: its file name as the client gave it, for showing only, and its bytes."""

    name: str
    content: bytes


async def read_upload(request: Request) -> Upload | None:
    """The photo in a request's body: the field ``image`` of a multipart form, or the body itself; None when it is empty.

    Raises:
        HTTPException: 413 as soon as more than MAX_UPLOAD bytes have come, 400 for a form without a file ``image``.
    """
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await _read_form(request)
    content = b"".join([chunk async for chunk in _limited(request)])
    return Upload("upload", content) if content else None


async def _read_form(request: Request) -> Upload:
    try:
        form = await MultiPartParser(request.headers, _limited(request), max_files=1, max_fields=8).parse()
    except MultiPartException as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"The form cannot be read: {error.message}") from error
    image = form.get("image")
    if not isinstance(image, UploadFile):
        raise HTTPException(HTTPStatus.BAD_REQUEST, "The form must hold a photo as the file field `image`, but has none.")
    try:
        return Upload(image.filename or "upload", await image.read())
    finally:
        await form.close()


async def _limited(request: Request) -> AsyncGenerator[bytes, None]:
    """The body's chunks as they come; what a client says about its length is not believed, only counted."""
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > MAX_UPLOAD:
            limit = f"{MAX_UPLOAD // 1024**2} MB"
            raise HTTPException(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A query photo may have {limit} at most; send a smaller one."
            )
        yield chunk
