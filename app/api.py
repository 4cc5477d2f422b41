"""The HTTP routes, for programs and for the page alike. Work runs in Starlette's thread pool: all routes are plain functions."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app import handlers
from app.answers import WrittenInThread
from app.galleries import Galleries
from app.uploads import Upload, read_upload
from indexing.filters import Filter

_ANY_PHOTO = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}}
_SEARCH_BODY = {"requestBody": {"content": {"multipart/form-data": _FORM, "application/octet-stream": _ANY_PHOTO}}}

IndexName = Annotated[str | None, Query(description="An index by name; the newest one by default.")]


def make_router(galleries: Galleries) -> APIRouter:
    """All routes over these galleries."""
    router = APIRouter(route_class=WrittenInThread)

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

    return router
