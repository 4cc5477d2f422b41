"""What a search is asked, checked: the parameters of its address and the fields of its JSON body."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.uploads import MAX_PHOTOS, Upload
from indexing.filters import Filter
from indexing.preprocess import Window
from indexing.queries import Query
from indexing.rocchio import Weights
from indexing.search import MinScore

EXAMPLES = 100  # of more or less, at most
DIMENSIONS = 65_536  # of a vector, at most
_VALUES = 200  # of a filter, at most
_FAULTS = 5  # that are told

ItemId = Annotated[int, Field(ge=1, le=2**63 - 1, description="An item's id.")]  # as SQLite numbers rows
Examples = Annotated[list[ItemId], Field(max_length=EXAMPLES)]
Vector = Annotated[list[float], Field(min_length=1, max_length=DIMENSIONS)]
Weight = Annotated[float, Field(ge=0, le=100)]
Words = Annotated[str, Field(max_length=1000)]
Values = Annotated[list[Words], Field(max_length=_VALUES)]

CROP = "The part of the photo to take: left,top,right,bottom in shares of its sides."
_LABEL = "Only photos of one of these labels."
_ATTRIBUTE = "Only photos with an attribute such as colour=red."


class Filters(BaseModel):
    """Which photos may be found; all of it has to hold."""

    model_config = ConfigDict(extra="forbid")

    label: Values = Field(default=[], description=_LABEL)
    attribute: Values = Field(default=[], description=_ATTRIBUTE, examples=[["colour=red"]])
    path: Words | None = Field(default=None, description="Only photos whose path matches this glob.", examples=["holidays/*.jpg"])
    since: Words | None = Field(default=None, description="Only photos changed on this day or later.", examples=["2026-01-31"])
    until: Words | None = Field(default=None, description="Only photos changed on this day or earlier.")
    min_side: int | None = Field(default=None, ge=1, le=2**31, description="Least pixels of the shorter side.")

    def where(self) -> Filter | None:
        """As the index takes it; raises HdmlError for an attribute or a date that cannot be read."""
        return Filter.asked(
            labels=self.label,
            attributes=self.attribute,
            path=self.path,
            since=self.since,
            until=self.until,
            min_side=self.min_side,
        )


@dataclass(frozen=True, eq=False)
class Question:
    """A search, ready to be carried out in an index.

    Attributes:
        index: by name; None is the default one.
        name: of the photo that was sent.
    """

    query: Query
    name: str | None = None
    index: str | None = None
    k: int = 10
    min_score: MinScore = None
    where: Filter | None = None
    group: bool = False


class Asked(BaseModel):
    """A query, beside its photo or its vector, and its examples."""

    model_config = ConfigDict(allow_inf_nan=False)

    index: Words | None = Field(default=None, description="An index by name; the newest one by default.")
    id: ItemId | None = Field(default=None, description="Search by this item, which is left out of the results.")
    more: Examples = Field(default=[], description="Ids of items that results should be like, which are left out.")
    less: Examples = Field(default=[], description="Ids of items that results should not be like, which are left out.")
    alpha: Weight = Field(default=Weights.query, description="Weight of the query when there are examples.")
    beta: Weight = Field(default=Weights.more, description="Weight of the mean of the examples of more.")
    gamma: Weight = Field(default=Weights.less, description="Weight of the mean of the examples of less.")
    crop: Words | None = Field(
        default=None,
        description="The part of the photo to search by: left,top,right,bottom in shares of its sides.",
    )

    def query(self, *, photo: Upload | None = None, vector: list[float] | None = None) -> Query:
        """The whole of it; raises HdmlError for a crop that is none."""
        return Query(
            photo=None if photo is None else photo.content,
            item=self.id,
            vector=None if vector is None else np.array(vector),
            crop=None if self.crop is None else Window.asked(self.crop),
            more=tuple(dict.fromkeys(self.more)),
            less=tuple(dict.fromkeys(self.less)),
            weights=Weights(self.alpha, self.beta, self.gamma),
        )


class Wanted(Asked):
    """A query, and which results are wanted."""

    k: int = Field(default=10, ge=1, le=1000, description="Most results wanted.")
    min_score: Annotated[float, Field(ge=-1, le=1)] | Literal["auto"] | None = Field(
        default=None, description="Least cosine similarity; auto is the least that says match."
    )
    group: bool = Field(default=False, description="Give copies of a photo once, the others under copies.")


class Parameters(Wanted, Filters):
    """All of it, as an address says it; what an address says besides is passed over."""

    model_config = ConfigDict(extra="ignore")

    def question(self, photo: Upload | None) -> Question:
        """The search by a photo, or by what the address names; raises HdmlError where words cannot be read."""
        return _question(self, self.query(photo=photo), self.where(), name=None if photo is None else photo.name)


class SearchBody(Wanted):
    """A search as JSON."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"id": 7, "k": 5, "filters": {"label": ["blue-left", "blue-right"], "min_side": 64}},
                {"id": 7, "more": [8, 9], "less": [3], "gamma": 0.5},
                {"vector": [0.6, 0.0, -0.8], "min_score": 0.5},
            ]
        },
    )

    vector: Vector | None = Field(default=None, description="Search by an embedding, of any length above 0.")
    filters: Filters = Field(default=Filters(), description="Which photos may be found.")

    def question(self) -> Question:
        """The search that it describes; raises HdmlError where words cannot be read."""
        return _question(self, self.query(vector=self.vector), self.filters.where())


class WhyParameters(Asked):
    """A query and an item, as an address says it."""

    item: ItemId | None = Field(default=None, description="The item that the query is compared with.")


class WhyBody(Asked):
    """A query and an item as JSON."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"id": 7, "item": 8}})

    item: ItemId = Field(description="The item that the query is compared with.")
    vector: Vector | None = Field(default=None, description="An embedding, of any length above 0.")


class BatchBody(BaseModel):
    """Several searches as JSON; each is checked by itself, so that one that is wrong leaves the others their answers."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"queries": [{"id": 7}, {"id": 8, "k": 3}]}})

    queries: list[Any] = Field(min_length=1, max_length=MAX_PHOTOS, description="Bodies as /v1/search takes them.")


Body = TypeVar("Body", bound=BaseModel)


def read_json(kind: type[Body], text: bytes) -> Body:
    """What a JSON text says; raises HTTPException with a sentence of at most a few faults when it is not as it should be."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise _wrong(error) from error


def read_question(values: Any) -> Question:
    """One search of several; raises HTTPException as read_json does, and HdmlError where words cannot be read."""
    try:
        return SearchBody.model_validate(values).question()
    except ValidationError as error:
        raise _wrong(error) from error


def _question(asked: Wanted, query: Query, where: Filter | None, *, name: str | None = None) -> Question:
    return Question(query, name, asked.index, asked.k, asked.min_score, where, asked.group)


def _wrong(error: ValidationError) -> HTTPException:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    told = [": ".join([*filter(None, [".".join(map(str, fault["loc"]))]), fault["msg"]]) for fault in faults[:_FAULTS]]
    rest = f"; and {len(faults) - _FAULTS} more" if len(faults) > _FAULTS else ""
    return HTTPException(
        HTTPStatus.UNPROCESSABLE_ENTITY, f"The JSON body must be as /openapi.json says: {'; '.join(told)}{rest}."
    )
