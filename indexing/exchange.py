"""Put a table of vectors that other tools have made straight into an index."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from indexing.calibration import check_false_matches
from indexing.catalogue import Catalogue, has_catalogue
from indexing.encoder import IMPORTED, EncoderMetadata, is_imported, read_metadata
from indexing.errors import HdmlError
from indexing.gallery import Failure, any_glob, check_gallery
from indexing.indexer import ask, create_index, merge, open_for_indexing
from indexing.intake import GivenVector, Taken
from indexing.kinds import Plan
from indexing.lock import indexing_alone
from indexing.vector_tables import Rows, VectorTable

_UNIT = 1e-6  # that a length may differ from 1 for a vector to stay bit by bit what it is


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        index: the index's folder.
        model: that its vectors are of.
        added, updated, unchanged, relabelled, kept: as for :class:`Taken`.
        removed: number of items from tables that are not found any more, because of ``remove``.
        left_out: number of rows that were passed over for the same reason.
        failed: every row that could not be taken, by its path or its place in the table, with the reason.
        items: that can be searched now.
    """

    index: Path
    model: str
    added: int
    updated: int
    unchanged: int
    relabelled: int
    kept: int
    removed: int
    left_out: int
    failed: list[Failure]
    items: int


def import_table(
    table: VectorTable,
    gallery: Path,
    index_dir: Path,
    *,
    encoder: Path | None = None,
    model: str | None = None,
    plan: Plan | None = None,
    remove: Sequence[str] = (),
    restore: Sequence[str] = (),
    false_matches: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Put a table's vectors into a gallery's index, which is made when missing; a second time changes nothing.

    Rows are stored some thousand at a time: after an interruption the same call goes on. A row without a usable vector is listed
    in the report and stops nothing. Photos that the index has embedded itself keep their vectors.

    Args:
        gallery: what the table's paths are relative to; what lies outside is not taken.
        encoder: what the vectors were made with. None takes the table's word for it, or, where it says nothing, makes an index
            that has vectors and no encoder.
        model: name of the model of such an index; None takes what the table says, or its own name.
        plan: what is asked of the bases from now on; None leaves it as it is.
        remove, restore, false_matches: as for :func:`indexing.indexer.update_index`, of rows of tables as of photos.
        progress: told how many rows of how many are done.

    Raises:
        HdmlError: the index is of another model, the vectors have another length than the model's, no row is usable, or another
            process is indexing, or a share of false matches that is none.
    """
    if false_matches is not None:
        check_false_matches(false_matches)
    gallery = check_gallery(gallery)
    metadata = None if encoder is None else read_metadata(encoder)
    found = has_catalogue(index_dir)
    if found:
        with Catalogue(index_dir) as present:
            fingerprint = _check_model(table, present, metadata, model)
    else:
        fingerprint = _new_model(table, metadata, model)
    failed: list[Failure] = []
    batches = _usable(table, gallery, failed, progress)
    first = next(batches, None)
    if first is None:
        reasons = f", the first because {failed[0].reason}" if failed else ""
        raise HdmlError(f"{table.source} must have rows that can be taken, but none of its {table.count} can{reasons}")
    with indexing_alone(index_dir):
        if not found:
            create_index(index_dir, gallery, encoder, fingerprint=fingerprint, dimension=table.dimension)
        with open_for_indexing(index_dir) as catalogue:
            catalogue.include(restore)
            removed = catalogue.exclude(remove)
            excluded = any_glob(catalogue.excluded())
            catalogue.begin_table()
            total, left_out = Taken(), 0
            for batch in chain([first], batches):
                wanted = [row for row in batch if not excluded(row.path)]
                left_out += len(batch) - len(wanted)
                total += (taken := catalogue.take_in(wanted))
                failed += [Failure(path, "the table has it before; the first row counts") for path in taken.repeated]
            ask(index_dir, catalogue, plan)
            if false_matches is not None:
                catalogue.set_false_matches(false_matches)
            merge(index_dir, catalogue)
            catalogue.mark_updated()
            return ImportReport(
                index=index_dir,
                model=fingerprint,
                added=total.added,
                updated=total.updated,
                unchanged=total.unchanged,
                relabelled=total.relabelled,
                kept=total.kept,
                removed=removed,
                left_out=left_out,
                failed=failed,
                items=catalogue.count(),
            )


def _new_model(table: VectorTable, encoder: EncoderMetadata | None, model: str | None) -> str:
    """Fingerprint of an index to be made for a table."""
    if encoder is None:
        return _imported(model or table.model or table.source.stem)
    _check_dimension(table, encoder.dimension, f"the encoder {encoder.fingerprint}")
    if table.model not in (None, encoder.fingerprint):
        raise HdmlError(
            f"{table.source} says that its vectors are of the model {table.model}, but the given encoder is "
            f"{encoder.fingerprint}; give the encoder that made them, or none"
        )
    return encoder.fingerprint


def _check_model(table: VectorTable, catalogue: Catalogue, encoder: EncoderMetadata | None, model: str | None) -> str:
    """Fingerprint of an index; raises HdmlError unless the table's vectors are of its model, for all that is known."""
    about, name = catalogue.about(), catalogue.path.parent
    _check_dimension(table, about.dimension, f"the index {name}")
    given = _new_model(table, encoder, model)
    if given == about.fingerprint or (encoder is None and table.model == about.fingerprint):
        return about.fingerprint
    if is_imported(about.fingerprint):
        own = about.fingerprint.removeprefix(IMPORTED)
        remedy = f"if they are of the same model, say so with --model {own}; else give another folder or --workspace"
    else:
        remedy = "if its own encoder made them, say so with --encoder; else give another folder or --workspace"
    raise HdmlError(f"the index {name} has vectors of the model {about.fingerprint}, but {table.source} is of {given}; {remedy}")


def _imported(model: str) -> str:
    return model if is_imported(model) else f"{IMPORTED}{model}"


def _check_dimension(table: VectorTable, dimension: int, of: str) -> None:
    if table.dimension != dimension:
        raise HdmlError(
            f"{table.source} must have vectors of {dimension} numbers, as {of} has, but has of {table.dimension}; vectors of "
            "different models cannot be compared"
        )


def _usable(
    table: VectorTable, gallery: Path, failed: list[Failure], progress: Callable[[int, int], None] | None
) -> Iterator[list[GivenVector]]:
    """The rows that can be taken, batch by batch, none of them empty; the others are added to ``failed``."""
    done = 0
    for rows in table.rows():
        usable = list(_usable_rows(rows, gallery, failed))
        if usable:
            yield usable
        done += len(rows.paths)
        if progress is not None:
            progress(done, table.count)


def _usable_rows(rows: Rows, gallery: Path, failed: list[Failure]) -> Iterator[GivenVector]:
    norms = np.linalg.norm(rows.vectors.astype(np.float64), axis=1)
    unit = rows.vectors.copy()
    scaled = np.isfinite(norms) & (norms > 0) & (np.abs(norms - 1) > _UNIT)
    unit[scaled] = rows.vectors[scaled] / norms[scaled, None]
    told = norms if rows.norms is None else np.where(scaled, norms, rows.norms)
    for row, (where, given, label, attributes) in enumerate(
        zip(rows.where, rows.paths, rows.labels, rows.attributes, strict=True)
    ):
        path, reason = (where, None) if given is None else _below(gallery, given)
        if reason is None:
            reason = _fault(int(rows.lengths[row]), unit.shape[1], float(norms[row]))
        if reason is not None:
            failed.append(Failure(path, reason))
        else:
            yield GivenVector(path, label, attributes, float(told[row]), unit[row].tobytes())


def _below(gallery: Path, given: str) -> tuple[str, str | None]:
    """A path relative to the gallery, and why it cannot be taken; one that leads elsewhere would show files from there."""
    absolute = os.path.isabs(given)  # noqa: PTH117 (making a Path takes longer than all else that a row needs here)
    path = os.path.normpath(os.path.relpath(given, gallery) if absolute else given).replace(os.sep, "/")
    if path == "." or path.split("/")[0] == ".." or "\0" in path:
        return given, f"it is not below {gallery}; give the folder that the paths are relative to"
    return path, None


def _fault(length: int, dimension: int, norm: float) -> str | None:
    """Why a vector cannot be compared with; None when it can."""
    if length != dimension:
        return f"its vector has {length} numbers, not {dimension}" if length else "it has no vector"
    if not np.isfinite(norm):
        return "its vector has numbers that are not finite"
    return "its vector is zero" if norm == 0 else None
