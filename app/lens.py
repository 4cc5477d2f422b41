"""The routes of the hardness lens."""

import random
from dataclasses import asdict
from hashlib import blake2b
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.api import IndexName
from app.galleries import Galleries
from app.written import as_body, unless_known
from indexing.hardness import MapKind, NoLens
from indexing.hardness_survey import survey
from indexing.search import OpenIndex

MapName = Annotated[
    MapKind,
    Query(alias="map", description="The map that places are of: pca, principal components; tsne, which needs hdml[tsne]."),
]


def make_router(galleries: Galleries) -> APIRouter:
    """The lens over these galleries."""
    router = APIRouter(prefix="/v1/lens")

    @router.get("")
    def lens(
        index: IndexName = None,
        anchor: Annotated[int | None, Query(description="An item; a random one by default.")] = None,
        positive: Annotated[int | None, Query(description="Another item of its label; the nearest by default.")] = None,
        kind: MapName = "pca",
    ) -> dict[str, Any]:
        """An anchor, its positive, its hard negatives, and what becomes of them at every λ."""
        found = galleries.lens(index)
        seen = found.look(surprising_anchor(found.opened) if anchor is None else anchor, positive, kind)
        return {"index": found.opened.name, "model": found.model, **asdict(seen)}

    @router.get("/map")
    def gallery_map(request: Request, index: IndexName = None, kind: MapName = "pca") -> Response:
        """The gallery on a plane, on which looks place what they show; ``kinds`` are the maps that there can be here."""
        found = galleries.lens(index)
        answer = {"index": found.opened.name, "model": found.model, "kinds": found.map_kinds(), **asdict(found.map(kind))}
        body = as_body(answer)
        # Every look is drawn on it, and it stays the same until the index changes: it is sent once.
        return unless_known(request, blake2b(body, digest_size=16).hexdigest(), body, "application/json")

    @router.get("/survey")
    def lens_survey(
        index: IndexName = None,
        label: Annotated[str | None, Query(description="Only anchors of this label; all by default.")] = None,
    ) -> dict[str, Any]:
        """What becomes of the tuples of a label or of the whole index at the model's own λ, and where to look first."""
        found = galleries.lens(index)
        return {"index": found.opened.name, "model": found.model, **asdict(survey(found, label))}

    @router.get("/replay")
    def replay(index: IndexName = None) -> dict[str, Any]:
        """What became of the tuples that the run watched while it trained; ``replay`` is null where it watched none."""
        found = galleries.lens(index)
        seen = found.replay()
        return {"index": found.opened.name, "model": found.model, "replay": None if seen is None else asdict(seen)}

    return router


def surprising_anchor(opened: OpenIndex) -> int:
    """A random item of a random label that has at least two; raises NoLens when there is no such label."""
    labels = [(label, count) for label, count in opened.catalogue.labels().items() if count > 1]
    if not labels:
        raise NoLens(
            f"The index {opened.name} has no label with two photos; the lens needs labelled photos: put them into one sub-folder "
            'per label and run "hdml index" again.'
        )
    label, count = random.choice(labels)
    ((item_id, _),) = opened.catalogue.photos(label, limit=1, offset=random.randrange(count))
    return item_id
