"""``hdml index --from-parquet``, ``--from-npy``, ``--export-parquet`` and ``--export-npy``: vectors from and to other tools."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from cli.display import Display
    from indexing.exchange import ImportReport
    from indexing.kinds import Plan


def import_vectors(
    folder: Path | None,
    workspace: Path,
    display: "Display",
    *,
    parquet: Path | None,
    npy: Path | None,
    metadata: Path | None,
    encoder: str | None,
    model: str | None,
    plan: "Plan | None",
    remove: Sequence[str] = (),
    restore: Sequence[str] = (),
    false_matches: float | None = None,
) -> "ImportReport":
    """Put a table of vectors into the index of a folder, by default the table's own, and tell what was done."""
    from indexing.exchange import import_table
    from indexing.vector_tables import open_npy, open_parquet
    from indexing.workspace import Workspace

    if parquet is not None and npy is not None:
        raise typer.BadParameter("give one table, --from-parquet or --from-npy", param_hint="--from-parquet")
    if npy is None and metadata is not None:
        raise typer.BadParameter("belongs to --from-npy; a Parquet table has its own columns", param_hint="--metadata")
    if encoder is not None and model is not None:
        raise typer.BadParameter("give --encoder or the --model of vectors without one", param_hint="--model")
    table = open_npy(npy, metadata) if npy is not None else open_parquet(Path(str(parquet)))
    place = Workspace(workspace)
    gallery = folder or (table.source if table.source.is_dir() else table.source.parent)
    index_dir = place.index_for_gallery(gallery)
    display.say(f"Importing {table.count} vectors of {table.dimension} numbers from {table.source}")
    with display.bars():
        report = import_table(
            table,
            gallery,
            index_dir,
            encoder=None if encoder is None else place.find_encoder(encoder),
            model=model,
            plan=plan,
            remove=remove,
            restore=restore,
            false_matches=false_matches,
            progress=lambda done, total: display.advance("Importing vectors", done, total),
        )
    display.list_failures(report.failed)
    display.say(
        f"Wrote {index_dir}, model {report.model}: {report.added} added, {report.updated} updated, {report.unchanged} unchanged, "
        f"{report.removed} removed, {len(report.failed)} failed"
    )
    if report.left_out:
        display.say(f"{report.left_out} rows are left out, as --remove says.")
    if report.relabelled:
        display.say(f"{report.relabelled} of the unchanged have another label or other attributes than before.")
    if report.kept:
        display.say(f"{report.kept} photos keep the vectors that the index itself has of them.")
    display.say("Next: hdml search --id 1, or hdml serve")
    return report


def as_json(report: "ImportReport") -> dict[str, Any]:
    """A report as programs read it."""
    return {**asdict(report), "index": report.index.name}


def export_vectors(
    folder: Path | None, workspace: Path, display: "Display", *, parquet: Path | None, npy: Path | None
) -> dict[str, Any]:
    """Write the index of a folder, or the newest one, as tables for other tools."""
    from indexing.exporting import export_npy, export_parquet
    from indexing.workspace import Workspace

    place = Workspace(workspace)
    index_dir = place.find_index() if folder is None else place.index_for_gallery(folder)
    items = 0
    for export, target in ((export_parquet, parquet), (export_npy, npy)):
        if target is None:
            continue
        with display.bars():
            items = export(index_dir, target, progress=lambda done, total: display.advance("Exporting vectors", done, total))
        display.say(f"Wrote {target}: {items} items of {index_dir}")
    return {"index": index_dir.name, "items": items, "written": [str(target) for target in (parquet, npy) if target is not None]}
