"""From a request's plain values to plain answers; knows neither HTTP nor the page."""

import threading
import time
from typing import Any

import numpy as np

from app.galleries import Galleries
from app.thumbnails import known_path
from app.uploads import Upload
from indexing.errors import HdmlError
from indexing.filters import Filter
from indexing.grouping import group_copies
from indexing.search import MinScore, OpenIndex, answer
from indexing.synthesizer import SYNTHESIZER

_SAMPLE = 24
# A photo may take 600 MB while it is decoded, and its embedding every core.
_DECODING = threading.Semaphore(2)


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
            with _DECODING:
                query, results = name, opened.search_photo(content, k=wanted, where=where)
        case None, int():
            known_path(opened, item_id)
            query, results = f"id {item_id}", opened.search_item(item_id, k=wanted, where=where)
        case _:
            raise HdmlError("A search takes one query: a photo (the form field image, or the body itself), or the id of an item.")
    copies = None
    if group:
        with _DECODING:
            results, copies = group_copies(opened, results, k)
    return answer(query, opened, results, 1000 * (time.perf_counter() - started), min_score=min_score, copies=copies)


def list_labels(opened: OpenIndex) -> dict[str, Any]:
    """Labels, sorted, with their number of photos."""
    return {"labels": [{"label": label, "items": count} for label, count in opened.catalogue.labels().items()]}


def list_items(opened: OpenIndex, label: str | None, *, limit: int) -> dict[str, Any]:
    """The first items of a label; without one, a few that give an impression of the gallery. ``total`` counts all of them."""
    if label is None:
        return {"items": _sample(opened)[:limit], "total": opened.item_count}
    total = opened.catalogue.labels().get(label, 0)
    return {"items": _items_of(opened, label, limit=limit), "total": total}


def _items_of(opened: OpenIndex, label: str, *, limit: int) -> list[dict[str, Any]]:
    return [{"id": item_id, "path": path, "label": label} for item_id, path in opened.catalogue.photos(label, limit=limit)]


def _sample(opened: OpenIndex) -> list[dict[str, Any]]:
    """One photo of each of a few labels, evenly spread; of a gallery without labels, photos that have a direction in common."""
    labels = list(opened.catalogue.labels())
    if labels:
        chosen = [labels[i * len(labels) // min(len(labels), _SAMPLE)] for i in range(min(len(labels), _SAMPLE))]
        return [item for label in chosen for item in _items_of(opened, label, limit=1)]
    if opened.item_count == 0:
        return []
    moment = opened.present()
    results = opened.search_vector(np.ones(moment.dimension, np.float32), k=_SAMPLE, moment=moment)
    return [{"id": result.id, "path": result.path, "label": result.label} for result in results]
