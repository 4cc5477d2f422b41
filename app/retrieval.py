"""The routes that search: by photos, items, vectors and examples."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from app import handlers
from app.api import IndexName
from app.galleries import Galleries
from app.questions import ItemId, Parameters
from app.uploads import Upload, read_upload

_ANY_PHOTO = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}}
_SEARCH_BODY = {"requestBody": {"content": {"multipart/form-data": _FORM, "application/octet-stream": _ANY_PHOTO}}}


def make_router(galleries: Galleries) -> APIRouter:
    """The routes over these galleries."""
    router = APIRouter()

    @router.post("/v1/search", openapi_extra=_SEARCH_BODY)
    def search(upload: Annotated[Upload | None, Depends(read_upload)], asked: Annotated[Parameters, Query()]) -> dict[str, Any]:
        """The photos most like the one that is sent, best first."""
        opened = galleries.index(asked.index)
        name, photo = (upload.name, upload.content) if upload else (None, None)
        query = asked.query(photo=photo)
        where = asked.where()
        return handlers.search(opened, query, name, k=asked.k, min_score=asked.min_score, where=where, group=asked.group)

    @router.get("/v1/items/{id}")
    def item(id: Annotated[ItemId, Path()], index: IndexName = None) -> dict[str, Any]:
        """What an index knows of a photo."""
        return handlers.describe_item(galleries.index(index), id)

    return router
