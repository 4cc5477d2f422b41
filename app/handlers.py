"""From a request's plain values to plain answers; knows neither HTTP nor the page."""

import threading
import time
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from app.galleries import Galleries
from app.questions import Question
from indexing.answers import answer
from indexing.preprocess import Window
from indexing.queries import Query
from indexing.regions import explain
from indexing.search import OpenIndex
from indexing.synthesizer import SYNTHESIZER

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


def search(opened: OpenIndex, asked: Question) -> dict[str, Any]:
    """Answer a question; raises HdmlError as OpenIndex.search does."""
    started, query = time.perf_counter(), asked.query
    with DECODING if query.decodes else nullcontext():
        results = opened.search(query, k=2 * asked.k if asked.group else asked.k, where=asked.where)
    copies = None
    if asked.group:
        from indexing.grouping import group_copies  # here, not above: scipy takes most of a second, and the server has to start

        with DECODING:
            results, copies = group_copies(opened, results, asked.k)
    elapsed_ms, weights = 1000 * (time.perf_counter() - started), query.weights if query.has_examples else None
    name = describe_query(query, asked.name)
    return answer(name, opened, results, elapsed_ms, min_score=asked.min_score, copies=copies, weights=weights)


def embed(opened: OpenIndex, photo: bytes, crop: Window | None) -> dict[str, Any]:
    """What the encoder of an index makes of a photo or of a part of it; raises UnreadableImage, and HdmlError as encoder does."""
    encoder = opened.encoder
    with DECODING:
        vector, norm = encoder.encode_photo(photo, crop=crop)
    return {"model": encoder.metadata.fingerprint, "dimension": len(vector), "vector": vector.tolist(), "norm": norm}


def why(opened: OpenIndex, query: Query, item_id: int) -> dict[str, Any]:
    """Which regions of a query and of an item matter for their match; raises as explain does."""
    with DECODING:
        found = explain(opened, query, item_id)
    return {
        "index": opened.name,
        "model": opened.model,
        "score": found.score,
        "query": found.query and found.query.similarities.tolist(),
        "query_area": found.query and asdict(found.query.area),
        "item": found.item.similarities.tolist(),
        "item_area": asdict(found.item.area),
    }


def describe_query(query: Query, name: str | None) -> str:
    """What is searched by, in a word or two."""
    if query.item is not None:
        return f"id {query.item}"
    return name or ("examples" if query.vector is None else "vector")


def describe_item(opened: OpenIndex, item_id: int) -> dict[str, Any]:
    """What an index knows of a photo; of one from a table of vectors, its file is not known. Raises UnknownItem."""
    item = opened.item(item_id)
    (record,) = opened.catalogue.photo_records([item_id]) or (None,)
    return {
        "id": item.id,
        "path": item.path,
        "label": item.label,
        "attributes": item.attributes,
        "width": item.width,
        "height": item.height,
        "size": record and record.size,
        "changed": record and _iso(record.mtime_ns),
        "model": item.model,
        "source": "folder" if record else "table",
    }


def _iso(nanoseconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=nanoseconds // 1000)).isoformat()


def list_labels(opened: OpenIndex) -> dict[str, Any]:
    """Labels, sorted, with their number of photos."""
    return {"labels": [{"label": label, "items": count} for label, count in opened.catalogue.labels().items()]}
