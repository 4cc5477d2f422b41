"""The HTTP routes, for programs and for the page alike. Work runs in Starlette's thread pool: all routes are plain functions."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from app import handlers
from app.answers import IndexesAnswer, LabelsAnswer
from app.galleries import Galleries
from app.written import WrittenInThread

IndexName = Annotated[str | None, Query(description="An index by name; the newest one by default.")]


def make_router(galleries: Galleries) -> APIRouter:
    """All routes over these galleries."""
    router = APIRouter(route_class=WrittenInThread)

    @router.get("/v1/indexes", summary="What can be searched", response_model=IndexesAnswer, tags=["search"])
    def indexes() -> dict[str, Any]:
        """The indexes of this server, the one that answers by default first."""
        return handlers.list_indexes(galleries)

    @router.get("/v1/labels", summary="The labels of an index", response_model=LabelsAnswer, tags=["search"])
    def labels(index: IndexName = None) -> dict[str, Any]:
        """Labels of searchable photos, sorted, and how many photos have each."""
        return handlers.list_labels(galleries.index(index))

    return router
