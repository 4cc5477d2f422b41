"""Thumbnails over HTTP."""

from enum import IntEnum
from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from app.api import IndexName
from app.galleries import Galleries
from app.thumbnails import Thumbnails


class ThumbnailSize(IntEnum):
    """Longer side of a thumbnail in pixels; few sizes, so that each is drawn once and then kept."""

    STRIP = 96
    CARD = 320
    LARGE = 960


def make_router(galleries: Galleries, thumbnails: Thumbnails) -> APIRouter:
    router = APIRouter()

    @router.get("/image/{item_id}")
    def image(request: Request, item_id: int, index: IndexName = None, size: ThumbnailSize = ThumbnailSize.CARD) -> Response:
        """A small picture of an item, encoded anew."""
        drawn = thumbnails.thumbnail(galleries.index(index), item_id, size)
        # An edited photo must show at the next look, so that browsers ask each time; unchanged ones cost no bytes.
        headers = {"ETag": f'"{drawn.tag}"', "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(drawn.content, media_type="image/jpeg", headers=headers)

    return router
