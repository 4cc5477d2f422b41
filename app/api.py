"""The HTTP routes, for programs and for the page alike. Work runs in Starlette's thread pool: all routes are plain functions."""

from enum import IntEnum
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from app import handlers
from app.answers import IndexesAnswer, LabelsAnswer
from app.galleries import Galleries
from app.thumbnails import thumbnail

IndexName = Annotated[str | None, Query(description="An index by name; the newest one by default.")]


class ThumbnailSize(IntEnum):
    """Longer side of a thumbnail in pixels; few sizes, so that each is drawn once and then remembered."""

    STRIP = 96
    CARD = 320
    LARGE = 960


def make_router(galleries: Galleries) -> APIRouter:
    """All routes over these galleries."""
    router = APIRouter()

    @router.get("/v1/indexes", summary="What can be searched", response_model=IndexesAnswer, tags=["search"])
    def indexes() -> dict[str, Any]:
        """The indexes of this server, the one that answers by default first."""
        return handlers.list_indexes(galleries)

    @router.get("/v1/labels", summary="The labels of an index", response_model=LabelsAnswer, tags=["search"])
    def labels(index: IndexName = None) -> dict[str, Any]:
        """Labels of searchable photos, sorted, and how many photos have each."""
        return handlers.list_labels(galleries.index(index))

    @router.get("/v1/items")
    def items(
        index: IndexName = None,
        label: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="Most items wanted.")] = 200,
    ) -> dict[str, Any]:
        """The first items of a label, or a few of the whole index, and how many there are in total."""
        return handlers.list_items(galleries.index(index), label, limit=limit)

    @router.get("/v1/lens")
    def lens(
        index: IndexName = None,
        anchor: Annotated[int | None, Query(description="An item; a random one by default.")] = None,
        positive: Annotated[int | None, Query(description="Another item of its label; the nearest by default.")] = None,
        theme: Literal["light", "dark"] = "light",
    ) -> dict[str, Any]:
        """The hardness lens around an item."""
        return handlers.look(galleries, index, anchor, positive, dark=theme == "dark")

    @router.get("/image/{item_id}")
    def image(request: Request, item_id: int, index: IndexName = None, size: ThumbnailSize = ThumbnailSize.CARD) -> Response:
        """A small picture of an item, encoded anew."""
        drawn = thumbnail(galleries.index(index), item_id, size)
        # An edited photo must show at the next look, so that browsers ask each time; unchanged ones cost no bytes.
        headers = {"ETag": f'"{drawn.tag}"', "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(drawn.content, media_type="image/jpeg", headers=headers)

    @router.get("/healthz")
    def healthz() -> dict[str, str]:
        """That the server answers."""
        return {"status": "ok"}

    return router
