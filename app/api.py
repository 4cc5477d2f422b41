"""The HTTP routes, for programs and for the page alike. Work runs in Starlette's thread pool: all routes are plain functions."""

from enum import IntEnum
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from app import handlers
from app.galleries import Galleries
from app.thumbnails import thumbnail
from app.uploads import Upload, read_upload
from indexing.filters import Filter

_ANY_PHOTO = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}}
_SEARCH_BODY = {"requestBody": {"content": {"multipart/form-data": _FORM, "application/octet-stream": _ANY_PHOTO}}}

IndexName = Annotated[str | None, Query(description="An index by name; the newest one by default.")]


class ThumbnailSize(IntEnum):
    """Longer side of a thumbnail in pixels; few sizes, so that each is drawn once and then remembered."""

    STRIP = 96
    CARD = 320
    LARGE = 960


def make_router(galleries: Galleries) -> APIRouter:
    """All routes over these galleries."""
    router = APIRouter()

    @router.post("/v1/search", openapi_extra=_SEARCH_BODY)
    def search(
        upload: Annotated[Upload | None, Depends(read_upload)],
        k: Annotated[int, Query(ge=1, le=1000, description="Most results wanted.")] = 10,
        index: IndexName = None,
        min_score: Annotated[
            Annotated[float, Field(ge=-1, le=1)] | Literal["auto"] | None,
            Query(description="Least cosine similarity; auto is the least that says match."),
        ] = None,
        id: Annotated[int | None, Query(description="Search by this item instead of a photo.")] = None,
        label: Annotated[list[str] | None, Query(description="Only photos of one of these labels.")] = None,
        attribute: Annotated[list[str] | None, Query(description="Only photos with an attribute such as colour=red.")] = None,
        path: Annotated[str | None, Query(description="Only photos whose path matches this glob.")] = None,
        since: Annotated[str | None, Query(description="Only photos changed on this day or later.")] = None,
        until: Annotated[str | None, Query(description="Only photos changed on this day or earlier.")] = None,
        min_side: Annotated[int | None, Query(ge=1, description="Least pixels of the shorter side.")] = None,
        group: Annotated[bool, Query(description="Give copies of a photo once, the others under copies.")] = False,
    ) -> dict[str, Any]:
        """The photos most like the one that is sent, best first."""
        where = Filter.asked(labels=label, attributes=attribute, path=path, since=since, until=until, min_side=min_side)
        return handlers.search(galleries.index(index), upload, id, k=k, min_score=min_score, where=where, group=group)

    @router.get("/v1/indexes")
    def indexes() -> dict[str, Any]:
        """What can be searched."""
        return handlers.list_indexes(galleries)

    @router.get("/v1/labels")
    def labels(index: IndexName = None) -> dict[str, Any]:
        """The labels of an index."""
        return handlers.list_labels(galleries.index(index))

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
