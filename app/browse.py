"""What the gallery page shows of an index: its items, page by page, and its figures."""

import threading
import weakref
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray

from app.api import IndexName
from app.galleries import Galleries
from indexing.catalogue import CATALOGUE
from indexing.filters import Filter
from indexing.index import cache_path, cached_sequences
from indexing.items import Listed
from indexing.search import OpenIndex

_SAMPLE = 24
_LISTINGS_KEPT = 8  # of an index; each takes eight bytes an item
_ATTRIBUTE_VALUES = 500
_SIDES = (0, 64, 128, 256, 512, 1024, 2048, 4096)  # pixels; bounds of the bars that sizes are counted in

Order = Literal["id", "path", "label", "newest", "oldest", "largest", "smallest"]


class Listings:
    """Items in order, by filter and order, remembered of each index until anything in its catalogue changes.

    SQLite walks past all items above a page: one far down among 100,000 took it a quarter of a second.
    """

    def __init__(self) -> None:
        self._kept: weakref.WeakKeyDictionary[OpenIndex, dict[tuple[Filter | None, str], tuple[int, NDArray[np.int64]]]]
        self._kept = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def ids(self, opened: OpenIndex, where: Filter | None, order: str) -> NDArray[np.int64]:
        """Ids of the items that a filter lets through, in order."""
        with self._lock:
            kept, version = self._kept.setdefault(opened, {}), opened.catalogue.version()
            known, ids = kept.pop((where, order), (None, None))
            if ids is None or known != version:
                ids = opened.catalogue.ordered(where, order)
            kept[where, order] = version, ids
            if len(kept) > _LISTINGS_KEPT:
                del kept[next(iter(kept))]
            return ids


def make_router(galleries: Galleries) -> APIRouter:
    """The routes of the gallery page over these galleries."""
    router, listings = APIRouter(), Listings()

    @router.get("/v1/items")
    def items(
        index: IndexName = None,
        label: Annotated[list[str] | None, Query(description="Only photos of one of these labels.")] = None,
        attribute: Annotated[list[str] | None, Query(description="Only photos with an attribute such as colour=red.")] = None,
        path: Annotated[str | None, Query(description="Only photos whose path matches this glob.")] = None,
        since: Annotated[str | None, Query(description="Only photos changed on this day or later.")] = None,
        until: Annotated[str | None, Query(description="Only photos changed on this day or earlier.")] = None,
        min_side: Annotated[int | None, Query(ge=1, le=2**31, description="Least pixels of the shorter side.")] = None,
        sort: Annotated[
            Order | None, Query(description="Order; by default of the ids, or a sample of labels where nothing is asked.")
        ] = None,
        offset: Annotated[int | None, Query(ge=0, description="Items to pass over.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="Most items wanted.")] = 200,
    ) -> dict[str, Any]:
        """Items that filters let through, page by page, and how many there are; where nothing is asked, a few of all."""
        opened = galleries.index(index)
        where = Filter.asked(labels=label, attributes=attribute, path=path, since=since, until=until, min_side=min_side)
        if where is None and sort is None and offset is None:
            ids = _sample(opened)
            return {"items": _shown(opened.catalogue.listed(ids[:limit])), "total": opened.item_count}
        found, first = listings.ids(opened, where, sort or "id"), offset or 0
        page = found[first : first + limit].tolist()
        return {"items": _shown(opened.catalogue.listed(page)), "total": len(found)}

    @router.get("/v1/statistics")
    def statistics(index: IndexName = None) -> dict[str, Any]:
        """What an index holds and takes: photos, labels, attributes, sizes, bytes; what was measured of it, what scores mean."""
        return describe(galleries.index(index))

    @router.get("/v1/failures")
    def failures(
        index: IndexName = None,
        offset: Annotated[int, Query(ge=0, description="Files to pass over.")] = 0,
        limit: Annotated[int, Query(ge=1, le=1000, description="Most files wanted.")] = 200,
    ) -> dict[str, Any]:
        """Files of the gallery that could not be read, by path, each with the reason."""
        failed = galleries.index(index).catalogue.failures()
        return {"failures": [asdict(one) for one in failed[offset : offset + limit]], "total": len(failed)}

    @router.get("/v1/generations")
    def generations(index: IndexName = None) -> dict[str, Any]:
        """The bases that an index has on the disk, which one is searched, what has changed since, and its models."""
        return list_generations(galleries.index(index))

    return router


def _shown(items: Iterable[Listed]) -> list[dict[str, Any]]:
    """Items as the routes give them: the time as ISO 8601 in UTC."""
    return [
        {name: value for name, value in asdict(item).items() if name != "mtime_ns"} | {"changed": _moment(item.mtime_ns)}
        for item in items
    ]


def _moment(mtime_ns: int | None) -> str | None:
    return None if mtime_ns is None else datetime.fromtimestamp(mtime_ns // 1_000_000_000, UTC).isoformat()


def _sample(opened: OpenIndex) -> list[int]:
    """One photo of each of a few labels, evenly spread; of a gallery without labels, photos that have a direction in common."""
    labels = list(opened.catalogue.labels())
    if labels:
        chosen = [labels[i * len(labels) // min(len(labels), _SAMPLE)] for i in range(min(len(labels), _SAMPLE))]
        return [item_id for label in chosen for item_id, _ in opened.catalogue.photos(label, limit=1)]
    if opened.item_count == 0:
        return []
    moment = opened.present()
    results = opened.search_vector(np.ones(moment.dimension, np.float32), k=_SAMPLE, moment=moment)
    return [result.id for result in results]


def describe(opened: OpenIndex) -> dict[str, Any]:
    """What an index holds and takes, as JSON; where its gallery lies is nobody's business on the network."""
    catalogue, moment = opened.catalogue, opened.present()
    about, labels, items = catalogue.about(), catalogue.labels(), catalogue.count()
    values = groupby(catalogue.attribute_values(_ATTRIBUTE_VALUES), key=lambda row: row[0])
    return {
        "index": opened.name,
        "model": about.fingerprint,
        "updated": about.updated,
        "items": items,
        "failed": len(catalogue.failures()),
        "gone": catalogue.count_gone(),
        "labels": [{"label": label, "items": count} for label, count in labels.items()],
        "unlabelled": items - sum(labels.values()),
        "attributes": [
            {"name": name, "values": [{"value": value, "items": count} for _, value, count in rows]} for name, rows in values
        ],
        "sides": _bars(catalogue.shorter_sides()),
        "bytes": {"photos": catalogue.bytes_of_photos(), **_bytes_on_disk(opened.path)},
        "quality": moment.base.manifest.to_json(),
        "calibration": catalogue.calibration(),
    }


def _bars(sides: dict[int, int]) -> list[dict[str, int | None]]:
    """Numbers of photos by the length of their shorter side: from each bound of ``_SIDES`` to below the next."""
    counts = [0] * len(_SIDES)
    for side, count in sides.items():
        counts[bisect_right(_SIDES, side) - 1] += count
    ends = [*(end for _, end in pairwise(_SIDES)), None]
    return [{"from": start, "below": end, "items": count} for start, end, count in zip(_SIDES, ends, counts, strict=True)]


def _bytes_on_disk(index_dir: Path) -> dict[str, int]:
    """Bytes of an index's files: the catalogue with its log, the bases, the encoders, and all of them."""
    sizes: dict[Path, int] = {}
    for path in index_dir.rglob("*"):
        with suppress(FileNotFoundError):  # an indexer has just finished with it
            sizes[path] = path.stat().st_size if path.is_file() else 0
    return {
        "catalogue": sum(size for path, size in sizes.items() if path.name.startswith(CATALOGUE)),
        "bases": sum(size for path, size in sizes.items() if path.suffix == ".faiss"),
        "encoders": sum(size for path, size in sizes.items() if path.suffix == ".onnx"),
        "index": sum(sizes.values()),
    }


def list_generations(opened: OpenIndex) -> dict[str, Any]:
    """The bases of an index, the newest first, what has changed since, its models, and how the last two of these compared."""
    catalogue, moment = opened.catalogue, opened.present()
    bases = []
    for sequence in reversed(cached_sequences(opened.path)):
        with suppress(FileNotFoundError):  # another one has just taken its place
            file = cache_path(opened.path, sequence).stat()
            built = datetime.fromtimestamp(file.st_mtime, UTC).isoformat(timespec="seconds")
            searched = sequence == moment.base.sequence
            bases.append({"generation": sequence, "searched": searched, "bytes": file.st_size, "built": built})
    models = [
        {"model": one.fingerprint, "dimension": one.dimension, "vectors": one.vectors, "live": one.live}
        for one in catalogue.models()
    ]
    return {
        "sequence": moment.sequence,
        "generation": moment.base.sequence,
        "changed_since": catalogue.count_changes(moment.base.sequence),
        "bases": bases,
        "models": models,
        "migration": catalogue.migration(),
    }
