"""A folder of query photos, searched one after the other into one table."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from indexing.answers import answer
from indexing.descriptions import as_json
from indexing.errors import HdmlError
from indexing.filters import Filter
from indexing.gallery import Failure, check_gallery, walk_gallery
from indexing.indexer import embed_files
from indexing.search import MinScore, OpenIndex
from indexing.writing import appearing

COLUMNS = ("query", "rank", "id", "path", "label", "attributes", "score", "verdict", "reason")  # attributes as a JSON object
_ROWS_AT_A_TIME = 10_000


@dataclass
class Batch:
    """What came of a folder of queries.

    Attributes:
        queries: photos that were searched with.
        results: rows about them.
        failed: photos that could not be read; the table has a row for each, with the reason.
    """

    queries: int = 0
    results: int = 0
    failed: list[Failure] = field(default_factory=list)


def search_folder(
    opened: OpenIndex,
    folder: Path,
    out: Path,
    *,
    k: int = 10,
    min_score: MinScore = None,
    where: Filter | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Batch:
    """Search with every photo below a folder; the table appears when it is whole.

    Args:
        out: a file whose name ends in one of FORMATS; an older one is replaced.
        k, min_score, where: as for OpenIndex.search_vector.
        device: of the encoder.
        progress: told how many photos of how many are done.

    Raises:
        HdmlError: the name of ``out`` tells no format, the folder holds no photo, nothing can be written there, or
            ``min_score`` is "auto" and the index is not calibrated.
    """
    opened.least_score(min_score)
    if out.suffix not in FORMATS:
        raise HdmlError(f"the table must be a file that ends in {', '.join(FORMATS)}, not {out}")
    opened.check_encoder()
    root = check_gallery(folder)
    photos = sorted((photo.path, photo.reason) for photo in walk_gallery(root))
    if not photos:
        raise HdmlError(f"{folder} must hold photos to search with, but none was found")
    batch = Batch()

    def rows() -> Iterator[dict[str, Any]]:
        done = 0
        for path, reason in photos:
            if reason is not None:
                batch.failed.append(Failure(path, reason))
        readable = (root / path for path, reason in photos if reason is None)
        moment = opened.present()
        encoder = opened.catalogue.encoder_of(moment.model)
        with closing(embed_files(encoder, readable, device=device)) as embedded:
            for photo in embedded:
                query, done = photo.path.relative_to(root).as_posix(), done + 1
                if photo.vector is None:
                    batch.failed.append(Failure(query, str(photo.reason)))
                else:
                    batch.queries += 1
                    found = opened.search_vector(photo.vector, k=k, where=where, moment=moment)
                    judged = answer(query, opened, found, 0.0, min_score=min_score)
                    batch.results += len(judged["results"])
                    for rank, row in enumerate(judged["results"], start=1):
                        told = {name: value for name, value in row.items() if name in COLUMNS}
                        yield {"query": query, "rank": rank, **told, "attributes": as_json(row["attributes"])}
                    if not judged["results"]:
                        yield {"query": query, "verdict": judged["verdict"]}
                if progress is not None:
                    progress(done, len(photos))
        yield from ({"query": failure.path, "reason": failure.reason} for failure in batch.failed)

    with appearing(out) as unfinished:
        _WRITERS[out.suffix](unfinished, rows())
    return batch


def _write_csv(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _write_jsonl(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = (pa.string(),) * 3
    types = (pa.string(), pa.int32(), pa.int64(), *texts, pa.float32(), pa.string(), pa.string())
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    with pq.ParquetWriter(path, schema) as writer:
        while some := list(islice(rows, _ROWS_AT_A_TIME)):
            writer.write_table(pa.Table.from_pylist(some, schema))


_WRITERS: dict[str, Callable[[Path, Iterator[dict[str, Any]]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
FORMATS = tuple(_WRITERS)
