"""Tables of vectors as other tools write them: Parquet with an embedding column, or .npy files with Parquet metadata beside them.

The columns are those of clip-retrieval and autofaiss: ``embedding`` and ``image_path``.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from indexing.descriptions import LABEL, as_json, as_text
from indexing.errors import HdmlError

VECTOR_COLUMNS = ("embedding", "vector", "image_embedding")
PATH_COLUMNS = ("path", "image_path")
ID, NORM = "id", "norm"  # columns of our own tables, whose attributes have names of their own where they would be one of these
OWN_MODEL = b"hdml.model"  # what the Parquet schema's metadata call the model in a table that export wrote
OWN_ATTRIBUTE = "attribute."
_ROWS_AT_A_TIME = 4096
_BUFFER = 1 << 20  # bytes of a column that are read at once; without it a whole row group is


@dataclass(frozen=True)
class Rows:
    """Some rows of a table, one after the other.

    Attributes:
        where: of each, its file and number, such as ``vectors.parquet:row 7``.
        paths: of each, as the table has it; None where it has none.
        labels: of each, or None.
        attributes: of each, all else that is known of it, as a JSON object of texts.
        vectors: [n, D] float32; a row that has no vector of the table's length is of NaN.
        lengths: of each, how many numbers there were; 0 for none.
        norms: [n] float64, what the table says of the lengths of the vectors before they were made units; None where it says
            nothing.
    """

    where: Sequence[str]
    paths: Sequence[str | None]
    labels: Sequence[str | None]
    attributes: Sequence[str]
    vectors: NDArray[np.float32]
    lengths: NDArray[np.int64]
    norms: NDArray[np.float64] | None


@dataclass(frozen=True)
class VectorTable:
    """A table of vectors that has been looked at, but not read.

    Attributes:
        source: the file or folder.
        count: rows.
        dimension: D.
        model: what the table says that its vectors were made with; None where it says nothing.
        parts: Parquet files, or pairs of a ``.npy`` file and the Parquet file of its metadata, if it has any.
    """

    source: Path
    count: int
    dimension: int
    model: str | None
    parts: Sequence[tuple[Path, Path | None]]

    def rows(self) -> Iterator[Rows]:
        """All rows, some thousand at a time; no more are held."""
        for vectors, metadata in self.parts:
            yield from (_npy_rows(vectors, metadata) if vectors.suffix == ".npy" else _parquet_rows(vectors, self.dimension))


def open_parquet(source: Path) -> VectorTable:
    """A Parquet file, or a folder of them, with a column of VECTOR_COLUMNS: lists of numbers, or lists of a fixed length.

    Raises:
        HdmlError: there is none, one is no Parquet file, or has no such column, or none of its rows has a vector.
    """
    files = _files(source, ".parquet")
    opened = [_look_at(file) for file in files]
    dimension = next((dimension for _, dimension, _ in opened if dimension), 0)
    if not dimension:
        raise HdmlError(f"{source} must hold vectors, but none of its rows has one; write it again")
    model = _one_model(source, {model for _, _, model in opened})
    return VectorTable(source, sum(count for count, _, _ in opened), dimension, model, [(file, None) for file in files])


def open_npy(source: Path, metadata: Path | None = None) -> VectorTable:
    """A ``.npy`` file of vectors [n, D], or a folder of them; in clip-retrieval's layout, the folder that holds ``img_emb``.

    Args:
        metadata: a Parquet file, or a folder of as many as there are ``.npy`` files, row by row beside them; None takes the
            folder ``metadata`` beside ``img_emb``, if there is one.

    Raises:
        HdmlError: there is none, one cannot be read, holds no vectors of one length, or has another number of rows than its
            metadata.
    """
    if metadata is None and (source / "img_emb").is_dir() and (source / "metadata").is_dir():
        metadata = source / "metadata"
    files = _files(source / "img_emb" if (source / "img_emb").is_dir() else source, ".npy")
    beside: list[Path | None] = [None] * len(files) if metadata is None else [*_files(metadata, ".parquet")]
    if len(beside) != len(files):
        raise HdmlError(
            f"{source} and {metadata} must hold as many files, one of metadata for each of vectors, but hold {len(files)} and "
            f"{len(beside)}; name the file that belongs to each"
        )
    shapes = [_map_npy(file).shape for file in files]
    if len(dimensions := {dimension for _, dimension in shapes}) > 1:
        raise HdmlError(f"{source} must hold vectors of one length, but has of {sorted(dimensions)}; import them one by one")
    models = {_check_beside(file, count, other) for file, other, (count, _) in zip(files, beside, shapes, strict=True)}
    parts = list(zip(files, beside, strict=True))
    return VectorTable(source, sum(count for count, _ in shapes), dimensions.pop(), _one_model(source, models), parts)


def _check_beside(file: Path, count: int, metadata: Path | None) -> str | None:
    """Name of the model that the metadata of a ``.npy`` file tell, if any; raises HdmlError unless they have as many rows."""
    if metadata is None:
        return None
    with _open(metadata) as table:
        if (rows := table.metadata.num_rows) != count:
            raise HdmlError(f"{file} and {metadata} must have as many rows, but have {count} and {rows}; write them again")
        return _model(table.schema_arrow)


def _one_model(source: Path, models: set[str | None]) -> str | None:
    if len(models) > 1:
        named = ", ".join(sorted(str(model) for model in models))
        raise HdmlError(f"{source} must hold vectors of one model, but its files name several: {named}; import them one by one")
    return next(iter(models))


def _model(schema: Any) -> str | None:
    model = (schema.metadata or {}).get(OWN_MODEL)
    return None if model is None else model.decode()


def _files(source: Path, suffix: str) -> list[Path]:
    """A file, or those of a folder in the order of the numbers in their names."""
    if source.is_file():
        return [source]
    found = [path for path in source.glob(f"*{suffix}") if path.is_file()]
    if not found:
        raise HdmlError(f"there must be a {suffix} file at {source}, or a folder of them, but there is none")
    return sorted(found, key=lambda path: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)])


def _open(file: Path) -> Any:
    """The Parquet file, opened; pyarrow has no type stubs."""
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(file, buffer_size=_BUFFER)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> HdmlError:
    return HdmlError(f"{file} must be a Parquet file, but cannot be read ({error}); write it again.")


def _look_at(file: Path) -> tuple[int, int, str | None]:
    """Number of rows, length of their vectors, 0 if none has one, and the name of their model, of a Parquet file."""
    import pyarrow.types

    with _open(file) as table:
        schema = table.schema_arrow
        column = _vector_column(file, schema)
        kind = schema.field(column).type
        if pyarrow.types.is_fixed_size_list(kind):
            dimension = kind.list_size
        else:
            lengths = (len(row) for batch in _batches(file, table, [column]) for row in batch.column(0) if row.is_valid)
            dimension = next((length for length in lengths if length), 0)
        return table.metadata.num_rows, dimension, _model(schema)


def _vector_column(file: Path, schema: Any) -> str:
    import pyarrow.types

    name = next((name for name in VECTOR_COLUMNS if name in schema.names), None)
    kind: Any = None if name is None else schema.field(name).type
    lists = (pyarrow.types.is_list, pyarrow.types.is_large_list, pyarrow.types.is_fixed_size_list)
    if kind is None or not any(is_list(kind) for is_list in lists) or not pyarrow.types.is_floating(kind.value_type):
        found = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise HdmlError(
            f"{file} must have a column {' or '.join(VECTOR_COLUMNS)} of lists of float, but has: {found}; rename or convert it"
        )
    return str(name)


def _batches(file: Path, table: Any, columns: list[str]) -> Iterator[Any]:
    import pyarrow

    try:
        yield from table.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=columns)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _parquet_rows(file: Path, dimension: int) -> Iterator[Rows]:
    with _open(file) as table:
        schema, start = table.schema_arrow, 0
        column = _vector_column(file, schema)
        for batch in _batches(file, table, [column, *_scalar_columns(schema)]):
            vectors, lengths = _as_vectors(batch.column(column), dimension)
            yield _described(file, start, batch, schema, vectors, lengths)
            start += batch.num_rows


def _npy_rows(file: Path, metadata: Path | None) -> Iterator[Rows]:
    mapped, start = _map_npy(file), 0
    with file.open("rb") as stream:
        stream.seek(mapped.offset)
        if metadata is None:
            for start in range(0, len(mapped), _ROWS_AT_A_TIME):
                some = _next_rows(stream, mapped, start, _ROWS_AT_A_TIME)
                count = len(some)
                where = [f"{file.name}:row {start + row + 1}" for row in range(count)]
                yield Rows(where, [None] * count, [None] * count, ["{}"] * count, some, np.full(count, some.shape[1]), None)
            return
        with _open(metadata) as table:
            schema = table.schema_arrow
            for batch in _batches(metadata, table, _scalar_columns(schema)):
                some = _next_rows(stream, mapped, start, batch.num_rows)
                yield _described(file, start, batch, schema, some, np.full(len(some), some.shape[1]))
                start += batch.num_rows


def _next_rows(stream: BinaryIO, mapped: "np.memmap[Any, Any]", start: int, count: int) -> NDArray[np.float32]:
    """Some rows of a ``.npy`` file; read, not mapped, so that memory does not fill with what has been."""
    if not mapped.flags.c_contiguous:
        return _as_float32(mapped[start : start + count])
    count = min(count, len(mapped) - start)
    return _as_float32(np.fromfile(stream, mapped.dtype, count * mapped.shape[1]).reshape(count, -1))


def _map_npy(file: Path) -> "np.memmap[Any, Any]":
    try:
        found: np.memmap[Any, Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise HdmlError(
            f"{file} must be a .npy file of float16 or float32, but cannot be read ({error}); write it again"
        ) from error
    if found.ndim != 2 or not found.shape[1] or not np.issubdtype(found.dtype, np.floating):
        raise HdmlError(f"{file} must hold an array [n, D] of float16 or float32, but holds {found.dtype} {list(found.shape)}")
    return found


def _as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is told
        return np.ascontiguousarray(values, np.float32)


def _as_vectors(column: Any, dimension: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """[n, D] of a column of lists, NaN where one has another length, and their lengths."""
    import pyarrow.compute as compute

    lengths = compute.fill_null(compute.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    whole = lengths == dimension
    values = column.flatten() if whole.all() else column.filter(whole).flatten()
    vectors = np.full((len(column), dimension), np.nan, np.float32)
    vectors[whole] = _as_float32(values.to_numpy(zero_copy_only=False).reshape(-1, dimension))
    return vectors, lengths


def _scalar_columns(schema: Any) -> list[str]:
    import pyarrow.types

    others = (pyarrow.types.is_nested, pyarrow.types.is_binary, pyarrow.types.is_large_binary)
    return [field.name for field in schema if not any(is_one(field.type) for is_one in others)]


def _described(file: Path, start: int, batch: Any, schema: Any, vectors: NDArray[np.float32], lengths: NDArray[np.int64]) -> Rows:
    count, own = batch.num_rows, OWN_MODEL in (schema.metadata or {})
    columns = {name: batch.column(name) for name in _scalar_columns(schema)}
    given = next((columns.pop(name) for name in PATH_COLUMNS if name in columns), None)
    paths = [None] * count if given is None else [as_text(value) for value in given.to_pylist()]
    label = columns.pop(LABEL, None)
    labels = [None] * count if label is None else [as_text(value) for value in label.to_pylist()]
    norms = None
    if own:
        columns.pop(ID)
        norms = columns.pop(NORM).to_numpy(zero_copy_only=False).astype(np.float64)
    names = [name.removeprefix(OWN_ATTRIBUTE) if own else name for name in columns]
    values = [[as_text(value) for value in column.to_pylist()] for column in columns.values()]
    attributes = [
        as_json({name: value for name, value in zip(names, row, strict=True) if value is not None})
        for row in zip(*values, strict=True)
    ]
    where = [f"{file.name}:row {start + row + 1}" for row in range(count)]
    return Rows(where, paths, labels, attributes or ["{}"] * count, vectors, lengths, norms)
