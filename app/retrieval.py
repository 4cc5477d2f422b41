"""The routes that search: by photos, items, vectors and examples, one at a time or many."""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query
from pydantic import BaseModel

from app import handlers
from app.answers import BatchAnswer, Embedding, ItemAnswer, SearchAnswer, WhyAnswer, schema_of
from app.api import IndexName
from app.galleries import Galleries
from app.problems import as_problem, said
from app.questions import (
    CROP,
    BatchBody,
    ItemId,
    Parameters,
    Question,
    SearchBody,
    WhyBody,
    WhyParameters,
    Words,
    read_json,
    read_question,
)
from app.uploads import Sent, read_batch, read_sent
from app.written import WrittenInThread
from indexing import queries
from indexing.errors import HdmlError
from indexing.preprocess import Window
from indexing.regions import NoRegions

_PHOTO = {"type": "string", "format": "binary"}
_ANY_PHOTO = {"application/octet-stream": {"schema": _PHOTO}, "image/*": {"schema": _PHOTO}}


def make_router(galleries: Galleries) -> APIRouter:
    """The routes over these galleries."""
    router = APIRouter(tags=["search"], route_class=WrittenInThread)

    @router.post(
        "/v1/search",
        summary="Search by a photo, an item, a vector or examples",
        response_model=SearchAnswer,
        response_model_exclude_unset=True,
        openapi_extra=_body(_form(_PHOTO) | _ANY_PHOTO | _json(SearchBody)),
    )
    def search(sent: Annotated[Sent, Depends(read_sent)], asked: Annotated[Parameters, Query()]) -> dict[str, Any]:
        """The photos most like the query, best first. A photo is the form field `image` or the body itself, and the address says
        the rest; a JSON body says everything itself. Items that the query names are left out of the results."""
        question = _asked(sent, asked)
        return handlers.search(galleries.index(question.index), question)

    @router.post(
        "/v1/search/batch",
        summary="Several searches at once",
        response_model=BatchAnswer,
        response_model_exclude_unset=True,
        openapi_extra=_body(_form({"type": "array", "items": _PHOTO}) | _json(BatchBody)),
    )
    def search_batch(sent: Annotated[Sent, Depends(read_batch)], asked: Annotated[Parameters, Query()]) -> dict[str, Any]:
        """As many answers as queries, in their order; a query that has none gets a problem in its place. The queries are up to 64
        photos, the form field `image` repeated, for which the address says the rest; or JSON."""
        if sent.json is None:
            asks = [partial(asked.question, photo) for photo in sent.photos]
        else:
            _check_alone(asked)
            asks = [partial(read_question, values) for values in read_json(BatchBody, sent.json).queries]
        if not asks:
            raise HdmlError("A batch must hold queries: photos as the form field image, or JSON.")
        return {"answers": [_answer_or_problem(galleries, ask) for ask in asks]}

    @router.post(
        "/v1/embed",
        summary="The embedding of a photo",
        response_model=Embedding,
        openapi_extra=_body(_form(_PHOTO) | _ANY_PHOTO),
    )
    def embed(
        sent: Annotated[Sent, Depends(read_sent)],
        index: IndexName = None,
        crop: Annotated[Words | None, Query(description=CROP)] = None,
    ) -> dict[str, Any]:
        """What the encoder of an index makes of a photo: a vector that /v1/search takes."""
        if not sent.photos:
            raise HdmlError("To embed takes a photo, as the form field image or as the body itself.")
        window = None if crop is None else Window.asked(crop)
        return handlers.embed(galleries.index(index), sent.photos[0].content, window)

    @router.post(
        "/v1/why",
        summary="Which regions matter for a match",
        response_model=WhyAnswer,
        openapi_extra=_body(_form(_PHOTO) | _ANY_PHOTO | _json(WhyBody)),
    )
    def why(sent: Annotated[Sent, Depends(read_sent)], asked: Annotated[WhyParameters, Query()]) -> dict[str, Any]:
        """How like the item each region of the query's photo is, and how like the query each region of the item's. The query is
        given as to /v1/search. Encoders that do not average over the places of a feature map tell no regions apart: a 404."""
        index, query, item = _compared(sent, asked)
        try:
            return handlers.why(galleries.index(index), query, item)
        except NoRegions as error:
            raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from error

    @router.get("/v1/items/{id}", summary="What is known of a photo", response_model=ItemAnswer)
    def item(id: Annotated[ItemId, Path()], index: IndexName = None) -> dict[str, Any]:
        """What an index knows of a photo. Its neighbours come by /v1/search with its id, its picture from /image/{id}."""
        return handlers.describe_item(galleries.index(index), id)

    return router


def _asked(sent: Sent, asked: Parameters) -> Question:
    """The one question of a request."""
    if sent.json is None:
        return asked.question(next(iter(sent.photos), None))
    _check_alone(asked)
    return read_json(SearchBody, sent.json).question()


def _compared(sent: Sent, asked: WhyParameters) -> tuple[str | None, queries.Query, int]:
    """The index, the query and the item that it is compared with."""
    if sent.json is not None:
        _check_alone(asked)
        body = read_json(WhyBody, sent.json)
        return body.index, body.query(vector=body.vector), body.item
    if asked.item is None:
        raise HdmlError("To say why takes an item to compare the query with: its id as item.")
    return asked.index, asked.query(photo=next(iter(sent.photos), None)), asked.item


def _check_alone(asked: BaseModel) -> None:
    if asked.model_fields_set:
        named = ", ".join(sorted(asked.model_fields_set))
        raise HdmlError(f"A JSON body must say all that is asked, but the address says {named} as well; put it into the body.")


def _answer_or_problem(galleries: Galleries, ask: Callable[[], Question]) -> dict[str, Any]:
    try:
        question = ask()
        return handlers.search(galleries.index(question.index), question)
    except (HdmlError, HTTPException) as error:
        return as_problem(*said(error))


def _body(content: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI tells of a body that FastAPI does not read."""
    return {"requestBody": {"content": content}}


def _form(image: dict[str, Any]) -> dict[str, Any]:
    return {"multipart/form-data": {"schema": {"type": "object", "required": ["image"], "properties": {"image": image}}}}


def _json(body: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": schema_of(body)}}
