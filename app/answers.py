"""What the routes answer, as OpenAPI tells it to programs."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["match", "unsure", "no match"]


class Problem(BaseModel):
    """Why there is no answer (RFC 9457)."""

    type: str
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="One sentence: what must hold, what was found, what to do.")

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Not Found",
                "status": 404,
                "detail": "the index photos has no item with id 99",
            }
        }
    )


class Copy(BaseModel):
    """A photo that is a copy of a result."""

    id: int
    path: str
    kind: str = Field(description="How it was copied, such as exact or mirrored.")


class Photo(BaseModel):
    """A photo of an index."""

    id: int
    path: str = Field(description="Relative to the gallery.")
    label: str | None
    attributes: dict[str, str]
    width: int | None = Field(description="Of the upright original, in pixels, like the height; null where it is not known.")
    height: int | None


class Found(Photo):
    """A result of a search."""

    score: float = Field(description="Cosine similarity to the query, −1 to 1.")
    verdict: Verdict | None = Field(description="What the score says; null where the index is not calibrated.")
    copies: list[Copy] | None = Field(default=None, description="What the result stands for, where copies were grouped.")


class Thresholds(BaseModel):
    """What scores mean in an index."""

    model_config = ConfigDict(extra="allow")

    match: float = Field(description="Least score of a match.")
    unsure: float = Field(description="Least score that is not no match.")
    false_matches: float = Field(description="Share of false matches that was asked for.")
    basis: str


class Votes(BaseModel):
    """A label, and how many results have it."""

    label: str
    results: int


class Parts(BaseModel):
    """How much the query, the mean of the examples of more and that of the examples of less counted, the last one taken off."""

    query: float
    more: float
    less: float


class SearchAnswer(BaseModel):
    """The photos most like a query, best first."""

    query: str = Field(description="What was searched by: a file name, an id, a vector or examples.")
    index: str
    model: str = Field(description="Fingerprint of the encoder that compared.")
    elapsed_ms: float
    weights: Parts | None = Field(default=None, description="There when examples of more or less were given.")
    verdict: Verdict | None = Field(description="Whether the index holds what was asked for, by the best score.")
    calibration: Thresholds | None
    votes: list[Votes] = Field(description="Labels of the results, the most frequent first.")
    results: list[Found]

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "query": "query.jpg",
                "index": "photos",
                "model": "00c0ffee00c0ffee",
                "elapsed_ms": 21.4,
                "verdict": "match",
                "calibration": {"match": 0.82, "unsure": 0.61, "false_matches": 0.01, "basis": "labels"},
                "votes": [{"label": "blue-left", "results": 1}],
                "results": [
                    {
                        "id": 7,
                        "path": "blue-left/1.jpg",
                        "label": "blue-left",
                        "attributes": {"colour": "blue"},
                        "width": 640,
                        "height": 480,
                        "score": 0.93,
                        "verdict": "match",
                    }
                ],
            }
        }
    )


class BatchAnswer(BaseModel):
    """An answer to each query, or the problem with it, in the order of the queries."""

    answers: list[SearchAnswer | Problem]


class Embedding(BaseModel):
    """What an encoder makes of a photo."""

    model: str = Field(description="Fingerprint of the encoder.")
    dimension: int
    vector: list[float] = Field(description="Of unit length.")
    norm: float = Field(description="Its length before.")

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "00c0ffee00c0ffee", "dimension": 3, "vector": [0.6, 0.0, -0.8], "norm": 7.1}}
    )


class Area(BaseModel):
    """A part of an upright photo, in shares of its width and height."""

    left: float
    top: float
    right: float
    bottom: float


Grid = list[list[float]]


class WhyAnswer(BaseModel):
    """Which regions of a query and of an item matter for their match: rows from the top down, values from left to right."""

    index: str
    model: str = Field(description="Fingerprint of the encoder.")
    score: float = Field(description="Cosine similarity of the query and the item.")
    query: Grid | None = Field(description="How like the item each region of the query's photo is, −1 to 1; null without one.")
    query_area: Area | None = Field(description="The part of the query's photo that the regions divide evenly.")
    item: Grid = Field(description="How like the query each region of the item's photo is, −1 to 1.")
    item_area: Area

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "index": "photos",
                "model": "00c0ffee00c0ffee",
                "score": 0.93,
                "query": [[0.1, 0.8], [0.0, 0.2]],
                "query_area": {"left": 0.125, "top": 0.0, "right": 0.875, "bottom": 1.0},
                "item": [[0.7, 0.1], [0.3, 0.0]],
                "item_area": {"left": 0.0, "top": 0.0, "right": 1.0, "bottom": 1.0},
            }
        }
    )


class ItemAnswer(Photo):
    """What an index knows of a photo; null is what it does not know of a vector from a table."""

    size: int | None = Field(description="Bytes of the file.")
    changed: str | None = Field(description="When the file was last changed, ISO 8601 in UTC.")
    model: str = Field(description="Fingerprint of the encoder that gave its vector.")
    source: Literal["folder", "table"] = Field(description="Whether it came from the gallery or from a table of vectors.")

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 7,
                "path": "blue-left/1.jpg",
                "label": "blue-left",
                "attributes": {"colour": "blue"},
                "width": 640,
                "height": 480,
                "size": 51234,
                "changed": "2026-01-31T12:00:00+00:00",
                "model": "00c0ffee00c0ffee",
                "source": "folder",
            }
        }
    )


class IndexAbout(BaseModel):
    """An index."""

    name: str
    model: str = Field(description="Fingerprint of the encoder that searches compare by.")
    items: int
    updated: str = Field(description="When it was last brought up to date, ISO 8601 in UTC.")
    lens: bool = Field(description="Whether it has what the hardness lens needs.")


class IndexesAnswer(BaseModel):
    """What can be searched, the default index first."""

    indexes: list[IndexAbout]

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "indexes": [
                    {
                        "name": "photos",
                        "model": "00c0ffee00c0ffee",
                        "items": 20,
                        "updated": "2026-01-31T12:00:00+00:00",
                        "lens": True,
                    }
                ]
            }
        }
    )


class LabelCount(BaseModel):
    """A label, and how many photos have it."""

    label: str
    items: int


class LabelsAnswer(BaseModel):
    """The labels of an index, sorted."""

    labels: list[LabelCount]

    model_config = ConfigDict(json_schema_extra={"example": {"labels": [{"label": "blue-left", "items": 5}]}})


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON schema without references, for places that OpenAPI has no components for."""
    schema = model.model_json_schema()
    known = schema.pop("$defs", {})

    def inlined(part: Any) -> Any:
        match part:
            case {"$ref": str(name), **beside}:
                return {**inlined(known[name.rpartition("/")[2]]), **beside}
            case dict():
                return {key: inlined(value) for key, value in part.items()}
            case list():
                return list(map(inlined, part))
        return part

    found: dict[str, Any] = inlined(schema)
    return found


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {"description": "Why there is no answer.", "content": {"application/problem+json": {"schema": schema_of(Problem)}}}
}
"""What every route may answer instead."""
