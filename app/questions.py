"""What a search is asked, checked: the parameters of its address and the fields of its JSON body."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from indexing.filters import Filter
from indexing.preprocess import ImageSource, Window
from indexing.queries import Query
from indexing.rocchio import Weights

EXAMPLES = 100  # of more or less, at most
DIMENSIONS = 65_536  # of a vector, at most
_VALUES = 200  # of a filter, at most

ItemId = Annotated[int, Field(ge=1, le=2**63 - 1, description="An item's id.")]  # as SQLite numbers rows
Examples = Annotated[list[ItemId], Field(max_length=EXAMPLES)]
Weight = Annotated[float, Field(ge=0, le=100)]
Words = Annotated[str, Field(max_length=1000)]
Values = Annotated[list[Words], Field(max_length=_VALUES)]

_LABEL = "Only photos of one of these labels."
_ATTRIBUTE = "Only photos with an attribute such as colour=red."


class Filters(BaseModel):
    """Which photos may be found; all of it has to hold."""

    model_config = ConfigDict(extra="forbid")

    label: Values = Field(default=[], description=_LABEL)
    attribute: Values = Field(default=[], description=_ATTRIBUTE)
    path: Words | None = Field(default=None, description="Only photos whose path matches this glob.")
    since: Words | None = Field(default=None, description="Only photos changed on this day or later.")
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


class Asked(BaseModel):
    """What a search is asked beside its photo or vector and its filters."""

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
    k: int = Field(default=10, ge=1, le=1000, description="Most results wanted.")
    min_score: Annotated[float, Field(ge=-1, le=1)] | Literal["auto"] | None = Field(
        default=None, description="Least cosine similarity; auto is the least that says match."
    )
    group: bool = Field(default=False, description="Give copies of a photo once, the others under copies.")

    def query(self, *, photo: ImageSource | None = None, vector: list[float] | None = None) -> Query:
        """The query with its examples; raises HdmlError for a crop that is none."""
        return Query(
            photo=photo,
            item=self.id,
            vector=None if vector is None else np.array(vector, np.float64),
            crop=None if self.crop is None else Window.asked(self.crop),
            more=tuple(dict.fromkeys(self.more)),
            less=tuple(dict.fromkeys(self.less)),
            weights=Weights(self.alpha, self.beta, self.gamma),
        )


class Parameters(Asked, Filters):
    """All of it, as an address says it; what an address says besides is passed over."""

    model_config = ConfigDict(extra="ignore")


class SearchBody(Asked):
    """A search as JSON."""

    model_config = ConfigDict(extra="forbid")

    vector: Annotated[list[float], Field(min_length=1, max_length=DIMENSIONS)] | None = Field(
        default=None, description="Search by an embedding, of any length above 0."
    )
    filters: Filters = Field(default=Filters(), description="Which photos may be found.")
