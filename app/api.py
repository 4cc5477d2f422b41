"""The HTTP routes, for programs and for the page alike. Work runs in Starlette's thread pool: all routes are plain functions."""

from typing import Annotated, Any, Literal

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
