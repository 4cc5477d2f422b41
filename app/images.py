"""Thumbnails over HTTP."""

from enum import IntEnum

from fastapi import APIRouter, Request, Response

from app.api import IndexName
from app.galleries import Galleries
from app.thumbnails import Thumbnails
from app.written import unless_known


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
        # An edited photo must show at the next look, so that browsers ask each time.
        return unless_known(request, drawn.tag, drawn.content, "image/jpeg")

    return router
