"""Right and wrong marks on results: kept in the index's catalogue, listed, exported and taken back."""

import csv
import hashlib
import io
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from app.answers import schema_of
from app.api import IndexName
from app.galleries import Galleries
from app.handlers import DECODING
from app.questions import ItemId, read_json
from app.thumbnails import known_path
from app.uploads import Sent, Upload, read_sent
from indexing.errors import HdmlError, UnknownItem
from indexing.marks import QUERY_SIDE, Mark, QueryPhoto
from indexing.pictures import draw

_PHOTO_NAME = 200  # characters
_DIGEST = 20  # bytes, as of the gallery's own photos


class MarkedQuery(BaseModel):
    """The item that was the query."""

    id: ItemId


class MarkBody(BaseModel):
    """A mark of two items; of a photo that is sent, the other fields are parameters of the address."""

    index: str | None = None
    query: MarkedQuery
    item: ItemId
    right: bool


_EXAMPLE = {"index": "photos", "query": {"id": 3}, "item": 17, "right": True}
_FORM = {"schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}}
_JSON = {"schema": schema_of(MarkBody), "example": _EXAMPLE}
_BODY = {"requestBody": {"content": {"application/json": _JSON, "multipart/form-data": _FORM}}}


def make_router(galleries: Galleries) -> APIRouter:
    """The routes of marks over these galleries."""
    router = APIRouter()

    @router.post("/v1/feedback", openapi_extra=_BODY)
    def mark(
        sent: Annotated[Sent, Depends(read_sent)],
        index: IndexName = None,
        item: Annotated[ItemId | None, Query(description="With a photo that is sent: the result.")] = None,
        right: Annotated[
            bool | None, Query(description="With a photo that is sent: whether the result is the same thing.")
        ] = None,
    ) -> dict[str, Any]:
        """Mark a result of an item, or of a photo that is sent, as right or wrong; marked again, the last word counts."""
        if sent.json is not None:
            body = read_json(MarkBody, sent.json)
            return keep_mark(galleries, body.index, body.query.id, body.item, right=body.right)
        if not sent.photos or item is None or right is None:
            raise HdmlError(
                'A mark takes JSON such as {"query": {"id": 3}, "item": 17, "right": true}, or a photo (the form field image) '
                "with the parameters item and right."
            )
        return keep_mark(galleries, index, sent.photos[0], item, right=right)

    @router.get("/v1/feedback", response_model=None)
    def marks(
        index: IndexName = None,
        format: Annotated[Literal["json", "csv"], Query(description="JSON, or a table for other programs.")] = "json",
    ) -> dict[str, Any] | Response:
        """All marks of an index, the first one first; those of photos that are gone are there, with `present` false."""
        found = [as_json(one) for one in galleries.index(index).catalogue.marks()]
        if format == "json":
            return {"marks": found, "total": len(found)}
        headers = {"Content-Disposition": 'attachment; filename="marks.csv"'}
        return Response(_as_csv(found), media_type="text/csv; charset=utf-8", headers=headers)

    @router.get("/v1/feedback/{mark_id}/photo")
    def photo(mark_id: ItemId, index: IndexName = None) -> Response:
        """What is kept of the photo that was sent as the query of a mark, as JPEG."""
        opened = galleries.index(index)
        kept = opened.catalogue.query_photo(mark_id)
        if kept is None:
            raise UnknownItem(f"the index {opened.name} keeps no photo of a mark with id {mark_id}")
        return Response(kept.jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, no-cache"})

    @router.delete("/v1/feedback/{mark_id}")
    def unmark(mark_id: ItemId, index: IndexName = None) -> dict[str, Any]:
        """Take a mark back; a photo that was sent is forgotten with its last one."""
        opened = galleries.index(index)
        if not opened.catalogue.unmark(mark_id):
            raise UnknownItem(f"the index {opened.name} has no mark with id {mark_id}")
        return {"deleted": mark_id}

    return router


def keep_mark(galleries: Galleries, index: str | None, query: int | Upload, item: int, *, right: bool) -> dict[str, Any]:
    """Keep a mark; raises UnknownItem, UnreadableImage, or HdmlError where the query is the item itself."""
    opened = galleries.index(index)
    known_path(opened, item)
    if isinstance(query, Upload):
        with DECODING:
            jpeg = draw(query.content, QUERY_SIDE)
        digest = hashlib.blake2b(query.content, digest_size=_DIGEST).digest()
        asked: int | QueryPhoto = QueryPhoto(digest, query.name[:_PHOTO_NAME], len(query.content), jpeg)
    else:
        known_path(opened, query)
        asked = query
    return {"id": opened.catalogue.mark(asked, item, right=right), "index": opened.name, "item": item, "right": right}


def as_json(mark: Mark) -> dict[str, Any]:
    return {**asdict(mark), "present": mark.present}


def _as_csv(found: list[dict[str, Any]]) -> str:
    target = io.StringIO()
    writer = csv.DictWriter(target, [*Mark.__dataclass_fields__, "present"])
    writer.writeheader()
    writer.writerows(found)
    return target.getvalue()
