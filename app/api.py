"""The HTTP routes, for programs and for the page alike. Work runs in Starlette's thread pool: all routes are plain functions."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from app import handlers
from app.galleries import Galleries

IndexName = Annotated[str | None, Query(description="An index by name; the newest one by default.")]


def make_router(galleries: Galleries) -> APIRouter:
    """All routes over these galleries."""
    router = APIRouter()

    @router.get("/v1/indexes")
    def indexes() -> dict[str, Any]:
        """What can be searched."""
        return handlers.list_indexes(galleries)

    @router.get("/v1/labels")
    def labels(index: IndexName = None) -> dict[str, Any]:
        """The labels of an index."""
        return handlers.list_labels(galleries.index(index))

    return router
