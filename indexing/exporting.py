"""Write an index as a table of vectors that other tools read: clip-retrieval's and autofaiss's Parquet and ``.npy`` layouts."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from indexing.catalogue import Catalogue
from indexing.descriptions import LABEL
from indexing.errors import HdmlError
from indexing.items import Item
from indexing.vector_tables import ID, NORM, OWN_ATTRIBUTE, OWN_MODEL, PATH_COLUMNS, VECTOR_COLUMNS
from indexing.writing import appearing

_PATH, _VECTOR = "image_path", "embedding"  # what clip-retrieval and autofaiss look for
_OWN_COLUMNS = (ID, LABEL, NORM, *PATH_COLUMNS, *VECTOR_COLUMNS)
_ROWS_AT_A_TIME = 16_384  # and a row group
_ROWS_A_FILE = 1_000_000  # of .npy, as in clip-retrieval


def export_parquet(index_dir: Path, file: Path, *, progress: Callable[[int, int], None] | None = None) -> int:
    """Write the searchable items of an index into a Parquet file, which appears when it is whole; returns their number.

    Columns: ``id``, ``image_path``, ``label``, ``norm`` (length of the embedding before it was made a unit), ``embedding``
    (float32, of fixed length, unit) and every attribute by its name, or by ``attribute.`` and its name where that is one of
    these. The schema's metadata name the model as ``hdml.model``. An index that takes the file in has the same items.

    Args:
        progress: told how many items of how many are done.

    Raises:
        HdmlError: there is no index, or nothing can be written there.
    """
    from pyarrow import parquet

    with Catalogue(index_dir) as catalogue, appearing(file) as unfinished:
        schema, total = _schema(catalogue, with_vectors=True), catalogue.count()
        done = 0
        with catalogue.all_items() as items, parquet.ParquetWriter(unfinished, schema) as writer:
            while some := list(islice(items, _ROWS_AT_A_TIME)):
                writer.write_batch(_batch(some, schema))
                done += len(some)
                if progress is not None:
                    progress(done, total)
    return done


def export_npy(index_dir: Path, folder: Path, *, progress: Callable[[int, int], None] | None = None) -> int:
    """Write the searchable items of an index in clip-retrieval's layout, a new folder that appears when it is whole.

    ``img_emb/img_emb_0.npy`` holds float32 [n, D], ``metadata/metadata_0.parquet`` the other columns of :func:`export_parquet`,
    and so on with a million rows a file. Returns the number of items.

    Args:
        progress: told how many items of how many are done.

    Raises:
        HdmlError: there is no index, the folder exists, or nothing can be written there.
    """
    if folder.exists():
        raise HdmlError(f"{folder} must be new, but it exists; choose another place or remove it")
    with Catalogue(index_dir) as catalogue, appearing(folder) as unfinished:
        for name in ("img_emb", "metadata"):
            (unfinished / name).mkdir(parents=True)
        schema, total, dimension = _schema(catalogue, with_vectors=False), catalogue.count(), catalogue.about().dimension
        with catalogue.all_items() as items:
            for number, start in enumerate(range(0, total, _ROWS_A_FILE)):
                file = unfinished / "img_emb" / f"img_emb_{number}.npy"
                shape = (min(_ROWS_A_FILE, total - start), dimension)
                vectors = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
                _write_part(items, vectors, unfinished / "metadata" / f"metadata_{number}.parquet", schema)
                if progress is not None:
                    progress(start + len(vectors), total)
    return total


def _write_part(items: Iterator[Item], vectors: Any, metadata: Path, schema: Any) -> None:
    """Write as many items as there is room for vectors."""
    from pyarrow import parquet

    with parquet.ParquetWriter(metadata, schema) as writer:
        for start in range(0, len(vectors), _ROWS_AT_A_TIME):
            some = list(islice(items, min(_ROWS_AT_A_TIME, len(vectors) - start)))
            vectors[start : start + len(some)] = [item.vector for item in some]
            writer.write_batch(_batch(some, schema))
    vectors.flush()


def _schema(catalogue: Catalogue, *, with_vectors: bool) -> Any:
    import pyarrow as pa

    about = catalogue.about()
    columns = [(ID, pa.int64()), (_PATH, pa.string()), (LABEL, pa.string()), (NORM, pa.float64())]
    if with_vectors:
        columns.append((_VECTOR, pa.list_(pa.float32(), about.dimension)))
    names = (f"{OWN_ATTRIBUTE}{name}" if _is_taken(name) else name for name in catalogue.attribute_names())
    return pa.schema([*columns, *((name, pa.string()) for name in names)], metadata={OWN_MODEL: about.fingerprint.encode()})


def _is_taken(name: str) -> bool:
    return name in _OWN_COLUMNS or name.startswith(OWN_ATTRIBUTE)


def _batch(items: list[Item], schema: Any) -> Any:
    import pyarrow as pa

    own: dict[str, Callable[[Item], object]] = {
        ID: lambda item: item.id,
        _PATH: lambda item: item.path,
        LABEL: lambda item: item.label,
        NORM: lambda item: item.norm,
    }
    columns = []
    for field in schema:
        if field.name == _VECTOR:
            values = np.stack([item.vector for item in items])
            columns.append(pa.FixedSizeListArray.from_arrays(values.ravel(), values.shape[1]))
        elif field.name in own:
            columns.append(pa.array(map(own[field.name], items), field.type))
        else:
            name = field.name.removeprefix(OWN_ATTRIBUTE)
            columns.append(pa.array([item.attributes.get(name) for item in items], field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
