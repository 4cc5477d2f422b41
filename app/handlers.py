"""From a request's plain values to plain answers; knows neither HTTP nor the page."""

import random
import threading
import time
from dataclasses import asdict
from typing import Any

from app.figures import lens_figure
from app.galleries import Galleries
from app.thumbnails import known_path
from app.uploads import Upload
from indexing.errors import HdmlError
from indexing.filters import Filter
from indexing.grouping import group_copies
from indexing.hardness import SYNTHESIZER, NoLens
from indexing.search import MinScore, OpenIndex, answer

# A photo may take 600 MB while it is decoded, and its embedding every core.
DECODING = threading.Semaphore(2)


def list_indexes(galleries: Galleries) -> dict[str, Any]:
    """What can be searched, the default index first; ``lens`` says whether it has a synthesizer."""
    indexes = [
        {
            "name": index.name,
            "model": index.model,
            "items": index.items,
            "updated": index.updated,
            "lens": (index.encoder.parent / SYNTHESIZER).is_file(),
        }
        for index in galleries.listed()
    ]
    return {"indexes": indexes}


def search(
    opened: OpenIndex,
    upload: Upload | None,
    item_id: int | None,
    *,
    k: int,
    min_score: MinScore = None,
    where: Filter | None = None,
    group: bool = False,
) -> dict[str, Any]:
    """Search by a photo that was sent or by an item of the index; raises HdmlError when both or neither are given."""
    started, wanted = time.perf_counter(), 2 * k if group else k
    match upload, item_id:
        case Upload(name, content), None:
            with DECODING:
                query, results = name, opened.search_photo(content, k=wanted, where=where)
        case None, int():
            known_path(opened, item_id)
            query, results = f"id {item_id}", opened.search_item(item_id, k=wanted, where=where)
        case _:
            raise HdmlError("A search takes one query: a photo (the form field image, or the body itself), or the id of an item.")
    copies = None
    if group:
        with DECODING:
            results, copies = group_copies(opened, results, k)
    return answer(query, opened, results, 1000 * (time.perf_counter() - started), min_score=min_score, copies=copies)


def list_labels(opened: OpenIndex) -> dict[str, Any]:
    """Labels, sorted, with their number of photos."""
    return {"labels": [{"label": label, "items": count} for label, count in opened.catalogue.labels().items()]}


def look(
    galleries: Galleries, index: str | None, anchor: int | None, positive: int | None, *, dark: bool = False
) -> dict[str, Any]:
    """The lens around an anchor, or around a surprising one when none is given: its numbers and its figure."""
    lens = galleries.lens(index)
    opened = lens.opened
    seen = lens.look(surprising_anchor(opened) if anchor is None else anchor, positive)
    return {"index": opened.name, "model": opened.model, **asdict(seen), "figure": lens_figure(seen, opened.name, dark=dark)}


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
