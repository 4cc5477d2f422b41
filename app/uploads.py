"""What a request sends: photos, their own bytes, untouched, or JSON; and never more of either than the limit."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

MAX_UPLOAD = 50 * 1024 * 1024  # bytes
MAX_JSON = 8 * 1024 * 1024
MAX_PHOTOS = 64
"""Photos or queries of a batch, at most."""


@dataclass(frozen=True)
class Upload:
    """A photo that was sent: its file name as the client gave it, for showing only, and its bytes."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Sent:
    """A request's body: photos, or the text of a JSON document, or neither."""

    photos: tuple[Upload, ...] = ()
    json: bytes | None = None


async def read_sent(request: Request) -> Sent:
    """The body of a request: at most one photo, in the field ``image`` of a form or as the body itself, or JSON.

    Raises:
        HTTPException: 413 as soon as too many bytes have come, 400 for a form without a file ``image`` or with several.
    """
    return await _read(request, most=1)


async def read_batch(request: Request) -> Sent:
    """As read_sent, but the field ``image`` may be there up to MAX_PHOTOS times."""
    return await _read(request, most=MAX_PHOTOS)


async def _read(request: Request, *, most: int) -> Sent:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return Sent(photos=await _read_form(request, most))
    is_json = kind == "application/json"
    content = b"".join([chunk async for chunk in _limited(request, MAX_JSON if is_json else MAX_UPLOAD)])
    if not content:
        return Sent()
    return Sent(json=content) if is_json else Sent(photos=(Upload("upload", content),))


async def _read_form(request: Request, most: int) -> tuple[Upload, ...]:
    try:
        form = await MultiPartParser(request.headers, _limited(request, MAX_UPLOAD), max_files=most, max_fields=8).parse()
    except MultiPartException as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"The form cannot be read: {error.message}") from error
    try:
        images = [image for image in form.getlist("image") if isinstance(image, UploadFile)]
        if not images:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "The form must hold a photo as the file field `image`, but has none.")
        return tuple([Upload(image.filename or "upload", await image.read()) for image in images])
    finally:
        await form.close()


async def _limited(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """The body's chunks as they come; what a client says about its length is not believed, only counted."""
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > most:
            raise HTTPException(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"This may have {most // 1024**2} MB at most; send something smaller."
            )
        yield chunk
