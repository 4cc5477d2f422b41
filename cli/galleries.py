"""``hdml index`` and ``hdml search``."""

import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import DEFAULT_WORKSPACE, DeviceOption, JsonOption, WorkspaceOption
from indexing.errors import HdmlError, UnreadableImage

if TYPE_CHECKING:
    from cli.display import Display
    from indexing.descriptions import Descriptions
    from indexing.filters import Filter
    from indexing.indexer import IndexReport
    from indexing.kinds import Plan
    from indexing.search import MinScore, OpenIndex, Result
    from indexing.workspace import Workspace


def index(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Any folder of photos, nested or flat; a first sub-folder names the label.", show_default=False),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="A run or an .onnx file.", show_default="the index's own, or the newest run for a new index"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that decode and embed.", show_default="one per core")
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Leave out the photos whose path in the folder matches, from now on; * matches / too."),
    ] = None,
    restore: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Take back what --remove GLOB left out.")] = None,
    folder_names: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="What the folders name, level by level: label, or any attribute, e.g. visit/label.",
            show_default="label",
        ),
    ] = None,
    manifest: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A CSV, JSONL or Parquet file with the column path, and label or attributes; none to go without again.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Kind of index: exact, ivf or hnsw.", show_default="by the number of photos and --memory")
    ] = None,
    target_overlap: Annotated[
        float | None,
        typer.Option(min=0.5, max=1.0, help="Share of the true ten nearest that a search is to find.", show_default="0.99"),
    ] = None,
    memory: Annotated[str | None, typer.Option(help="Memory that the index may take, e.g. 2GB.", show_default="no bound")] = None,
    false_matches: Annotated[
        float | None,
        typer.Option(
            help="Share of photos of absent things that searches may call a match, from now on, above 0 to 0.5.",
            show_default="0.01",
        ),
    ] = None,
    watch: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="Go on for ever, looking every so many seconds for what has changed."),
    ] = None,
    migrate: Annotated[
        bool,
        typer.Option(
            "--migrate",
            help="Change the index over to --encoder, or to the newest run: embed by it beside what is searched, compare, swap.",
        ),
    ] = False,
    swap: Annotated[
        bool, typer.Option("--swap/--no-swap", help="With --migrate: whether searches go by the new encoder at the end.")
    ] = True,
    from_parquet: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Take vectors from a Parquet file, or a folder of them, with the columns embedding and image_path.",
            show_default=False,
        ),
    ] = None,
    from_npy: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Take vectors from a .npy file, or a folder of them, such as clip-retrieval's.",
            show_default=False,
        ),
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Parquet files with the rows' image_path, beside --from-npy.", show_default="metadata/"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the model that made vectors without --encoder.", show_default="the table's"),
    ] = None,
    export_parquet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Embed nothing: write the folder's index, or the newest one, as a Parquet file."),
    ] = None,
    export_npy: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Embed nothing: write it as a new folder in clip-retrieval's layout."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Embed nothing: check the folder's index, or the newest one, and mend its cache.")
    ] = False,
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Embed a folder of photos and build its index; run again, it embeds only what is new or changed.

    Example: hdml index ./gallery
    """
    from cli.display import Display, print_json
    from cli.migrating import check_can_migrate, migrate_gallery

    display = Display(json_output=json_output)
    if verify:
        _verify(folder, workspace, display, json_output=json_output)
        return
    if export_parquet is not None or export_npy is not None:
        from cli.exchange import export_vectors

        written = export_vectors(folder, workspace, display, parquet=export_parquet, npy=export_npy)
        if json_output:
            print_json(written)
        return
    plan = _asked_plan(kind, target_overlap, memory)
    if from_parquet is not None or from_npy is not None:
        from cli.exchange import as_json, import_vectors

        imported = import_vectors(
            folder,
            workspace,
            display,
            parquet=from_parquet,
            npy=from_npy,
            metadata=metadata,
            encoder=encoder,
            model=model,
            plan=plan,
            remove=remove or (),
            restore=restore or (),
            false_matches=false_matches,
        )
        if json_output:
            print_json(as_json(imported))
        return
    if metadata is not None or model is not None:
        raise typer.BadParameter("belong to --from-npy and --from-parquet", param_hint="--metadata and --model")
    if folder is None:
        raise typer.BadParameter("a folder of photos is needed", param_hint="FOLDER")
    if migrate:
        check_can_migrate(folder, workspace, encoder)
    elif not swap:
        raise typer.BadParameter("it says how --migrate ends, and needs it", param_hint="--no-swap")
    report = update_gallery(
        folder,
        workspace,
        display,
        encoder=None if migrate else encoder,
        workers=workers,
        device=device,
        remove=remove or (),
        restore=restore or (),
        asked_descriptions=(folder_names, manifest),
        plan=plan,
        false_matches=false_matches,
        hints=not migrate,
    )
    migration = None
    if migrate:
        migration = migrate_gallery(
            folder, report.index, workspace, display, encoder=encoder, swap=swap, device=device, workers=workers
        )
    if json_output:
        failed = [asdict(failure) for failure in report.failed]
        counts = {name: getattr(report, name) for name in ("added", "updated", "moved", "removed", "unchanged", "relabelled")}
        answer = {"index": report.index.name, **counts, "failed": failed}
        if migration is not None:
            answer["migration"] = {**migration.to_json(), "failed": [asdict(failure) for failure in migration.failed]}
        print_json(answer)
    if watch is not None:
        _follow(folder, report.index, display, every=watch, device=device, workers=workers)


def _follow(folder: Path, index_dir: Path, display: "Display", *, every: float, device: str, workers: int | None) -> None:
    """Take in what changes in a folder until interrupted; what stops one look is told, once, and the next one is taken."""
    from indexing.indexer import update_index

    display.say(f"Following {folder}; Ctrl-C ends it.")
    trouble = None
    while True:
        time.sleep(every)
        try:
            report = update_index(folder, index_dir, device=device, workers=workers, retry_failed=False)
        except HdmlError as error:
            if str(error) != trouble:
                trouble = str(error)
                display.say(f"Waiting: {trouble}")
            continue
        trouble = None
        counts = {name: getattr(report, name) for name in ("added", "updated", "moved", "removed", "relabelled")}
        if any(counts.values()):
            display.say(f"{datetime.now():%H:%M:%S}: {', '.join(f'{count} {what}' for what, count in counts.items() if count)}")


def update_gallery(
    folder: Path,
    workspace: Path,
    display: "Display",
    *,
    encoder: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    remove: Sequence[str] = (),
    restore: Sequence[str] = (),
    asked_descriptions: tuple[str | None, str | None] = (None, None),
    plan: "Plan | None" = None,
    false_matches: float | None = None,
    hints: bool = True,
) -> "IndexReport":
    """Bring a folder's index up to date and tell what was done, and with ``hints`` what could be done next."""
    from indexing.catalogue import Catalogue, has_catalogue
    from indexing.indexer import Progress, update_index
    from indexing.workspace import Workspace

    place = Workspace(workspace)
    index_dir = place.index_for_gallery(folder)
    if encoder is not None:
        file = place.find_encoder(encoder)
    elif has_catalogue(index_dir):
        with Catalogue(index_dir) as catalogue:
            file = catalogue.about().encoder
    else:
        file = place.newest_encoder()
    display.say(f"Indexing {folder} with {file}")

    def on_progress(progress: Progress) -> None:
        figures = f"{progress.images_per_second:.0f} images/s" + (f", {progress.failed} failed" if progress.failed else "")
        display.advance("Embedding photos", progress.done, progress.total, figures)

    with display.bars():
        report = update_index(
            folder,
            index_dir,
            file,
            device=device,
            workers=workers,
            remove=remove,
            restore=restore,
            descriptions=_asked_descriptions(index_dir, *asked_descriptions),
            plan=plan,
            false_matches=false_matches,
            progress=on_progress,
        )
    display.list_failures(report.failed)
    display.say(
        f"Wrote {index_dir}: {report.added} added, {report.updated} updated, {report.moved} moved, {report.removed} removed, "
        f"{report.unchanged} unchanged, {len(report.failed)} failed"
    )
    if report.relabelled:
        display.say(f"{report.relabelled} photos have another label or other attributes than before.")
    if report.absent:
        display.say(f"The manifest tells of {report.absent} photos that are not in {folder}.")
    if hints:
        if (newer := newer_run(place, index_dir)) is not None:
            display.say(newer)
        display.say("Next: hdml search PHOTO, or hdml serve")
    return report


def _asked_plan(kind: str | None, target: float | None, memory: str | None) -> "Plan | None":
    """What is asked of the index's bases; None when nothing is, which leaves what was asked before."""
    from indexing.kinds import KINDS, Plan

    if kind is None and target is None and memory is None:
        return None
    if kind is not None and kind not in KINDS:
        raise HdmlError(f"--kind must be one of {', '.join(KINDS)}, not {kind}")
    found = None if memory is None else re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", memory.strip(), re.IGNORECASE)
    if memory is not None and (found is None or float(found[1]) == 0):
        raise HdmlError(f"--memory must be a size such as 500MB or 2GB, not {memory}")
    size = int(float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " ")) if found else None
    return Plan(kind=kind, memory=size, **({} if target is None else {"target": target}))


def _asked_descriptions(index_dir: Path, folder_names: str | None, manifest: str | None) -> "Descriptions | None":
    """Where labels and attributes are to come from; None when nothing is asked, which leaves what was asked before."""
    from indexing.catalogue import Catalogue, has_catalogue
    from indexing.descriptions import Descriptions, parse_folder_names

    if folder_names is None and manifest is None:
        return None
    asked = Descriptions()
    if has_catalogue(index_dir):
        with Catalogue(index_dir) as catalogue:
            asked = catalogue.descriptions()
    if folder_names is not None:
        asked = replace(asked, folder_names=parse_folder_names(folder_names))
    if manifest is not None:
        asked = replace(asked, manifest=None if manifest == "none" else Path(manifest).resolve())
    return asked


def _verify(folder: Path | None, workspace: Path, display: "Display", *, json_output: bool) -> None:
    from cli.display import print_json
    from indexing.upkeep import verify_index
    from indexing.workspace import Workspace

    place = Workspace(workspace)
    index_dir = place.find_index() if folder is None else place.index_for_gallery(folder)
    display.say(f"Verifying {index_dir}")
    found = verify_index(index_dir)
    for sentence in found.mended:
        display.say(f"Mended: {sentence}")
    for sentence in found.behind:
        display.say(f"To be indexed: {sentence}")
    if json_output:
        print_json({"index": index_dir.name, **asdict(found)})
    if found.faults:
        raise HdmlError(f"{index_dir} has faults: {'; '.join(found.faults)}")
    display.say(f"{found.items} items, every one as it should be.")


def newer_run(place: "Workspace", index_dir: Path) -> str | None:
    """What to say when a run has finished since the one that an index is bound to; None when none has."""
    from indexing.workspace import read_index_info

    newer = place.newer_run(index_dir)
    if newer is None:
        return None
    return (
        f"The run {newer.name} is newer than this index's model; to use it: hdml index {read_index_info(index_dir).gallery} "
        f"--migrate --encoder {newer.name}"
    )


def _as_min_score(given: str) -> float | str:
    """A number, or auto."""
    try:
        return given if given == "auto" else float(given)
    except ValueError as error:
        raise typer.BadParameter(f"a number from −1 to 1 or auto is needed, not {given}") from error


def search(
    query: Annotated[
        str | None,
        typer.Argument(help="A photo, - to read one from standard input, or a folder of photos.", show_default=False),
    ] = None,
    item: Annotated[int | None, typer.Option("--id", help="Search by an item of the index instead of a photo.")] = None,
    more: Annotated[
        list[int] | None, typer.Option(metavar="ID", help="An item that results should be like; may be given several times.")
    ] = None,
    less: Annotated[list[int] | None, typer.Option(metavar="ID", help="An item that results should not be like.")] = None,
    crop: Annotated[
        str | None,
        typer.Option(metavar="L,T,R,B", help="The part of the photo to search by, in shares of its sides, e.g. 0,0.25,0.5,1."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of results.")] = 10,
    min_score: Annotated[
        Any,
        typer.Option(
            parser=_as_min_score,
            metavar="SCORE",
            help="Leave out results below this cosine similarity, −1 to 1; auto: below the least that says match.",
            show_default="none",
        ),
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only photos of this label; may be given several times.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only photos with this attribute, e.g. colour=red.")
    ] = None,
    path: Annotated[str | None, typer.Option(metavar="GLOB", help="Only photos whose path in the gallery matches.")] = None,
    since: Annotated[str | None, typer.Option(metavar="DATE", help="Only photos changed then or later, e.g. 2026-01-31.")] = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="Only photos changed then or earlier.")] = None,
    min_side: Annotated[int | None, typer.Option(min=1, help="Only photos whose shorter side has these pixels.")] = None,
    group: Annotated[bool, typer.Option("--group", help="Show copies of a photo once, with their number.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Table of the results of a folder of photos, .csv, .jsonl or .parquet.")
    ] = None,
    index: Annotated[str | None, typer.Option(help="An index, by name, folder or bundle.", show_default="the newest")] = None,
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Find the photos of an index that are most like a query photo.

    Example: hdml search query.jpg -k 5
    """
    from indexing.answers import answer
    from indexing.filters import Filter
    from indexing.preprocess import Window
    from indexing.queries import Query
    from indexing.search import OpenIndex
    from indexing.workspace import Workspace

    where = Filter.asked(labels=label, attributes=attribute, path=path, since=since, until=until, min_side=min_side)
    if (query is None) == (item is None) and (query is not None or not (more or less)):
        raise HdmlError(
            "A search takes one query: a photo, - for standard input, or --id of an item; or examples alone, by --more or --less."
        )
    place = Workspace(workspace)
    opened = OpenIndex(place.find_index(index), device=device)
    if query not in (None, "-") and Path(str(query)).is_dir():
        if more or less or crop:
            raise HdmlError(f"--more, --less and --crop are for one query, but {query} is a folder of them.")
        _search_folder(
            opened, Path(str(query)), out, k=k, min_score=min_score, where=where, device=device, json_output=json_output
        )
        return
    if out is not None:
        raise HdmlError(f"--out is for a folder of query photos, but {query or f'id {item}'} is none.")
    started, wanted = time.perf_counter(), 2 * k if group else k
    photo: Path | bytes | None = None
    if query is not None:
        photo = sys.stdin.buffer.read() if query == "-" else Path(query)
        # A name that is not valid UTF-8 is shown with escapes: JSON and terminals hold text only.
        shown = os.fsencode(query).decode("utf-8", "backslashreplace")
    else:
        shown = "examples" if item is None else f"id {item}"
    window = None if crop is None else Window.asked(crop)
    asked = Query(photo=photo, item=item, crop=window, more=tuple(more or ()), less=tuple(less or ()))
    try:
        results = opened.search(asked, k=wanted, where=where)
    except UnreadableImage as error:
        raise HdmlError(f"{'standard input' if query == '-' else shown}: {error}") from error
    copies = None
    if group:
        from indexing.grouping import group_copies

        results, copies = group_copies(opened, results, k)
    elapsed_ms = 1000 * (time.perf_counter() - started)
    weights = asked.weights if asked.has_examples else None
    found = answer(shown, opened, results, elapsed_ms, min_score=min_score, copies=copies, weights=weights)
    if found["verdict"] is not None:
        typer.echo(_headline(found, results), err=True)
    if json_output:
        import json

        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    else:
        for result in found["results"]:
            said = "" if result["verdict"] is None else f"  {result['verdict']:8}"
            behind = len(result.get("copies", ()))
            others = f"  and {behind} {'copy' if behind == 1 else 'copies'}" if behind else ""
            typer.echo(f"{result['score']:.4f}{said}  {result['label'] or '-'}  {result['path']}{others}")
    used = f"index {opened.name}, model {opened.model}"
    first = next(iter(found["votes"]), None)
    if first is not None and first["results"] > 1:
        typer.echo(f"{first['results']} of {len(found['results'])} results say {first['label']}", err=True)
    typer.echo(f"{len(found['results'])} of {opened.item_count} photos in {used}, {elapsed_ms:.0f} ms", err=True)
    if (newer := newer_run(place, opened.path)) is not None:
        typer.echo(newer, err=True)


def _headline(found: dict[str, Any], results: "Sequence[Result]") -> str:
    """The verdict on a query, and the numbers that it comes from."""
    thresholds = found["calibration"]
    best = f"{results[0].score:.4f} at best" if results else "no photo to compare with"
    return (
        f"{found['verdict']}: {best}; match from {thresholds['match']:.4f}, no match below {thresholds['unsure']:.4f} "
        f"({thresholds['false_matches']:.2g} of false matches, from {thresholds['basis']})"
    )


def _search_folder(
    opened: "OpenIndex",
    folder: Path,
    out: Path | None,
    *,
    k: int,
    min_score: "MinScore",
    where: "Filter | None",
    device: str,
    json_output: bool,
) -> None:
    from cli.display import Display, print_json
    from indexing.batch import FORMATS, search_folder

    if out is None:
        raise HdmlError(f"{folder} is a folder of queries: say with --out where its results go, to a {', '.join(FORMATS)} file.")
    display = Display(json_output=json_output)
    with display.bars():
        batch = search_folder(
            opened, folder, out, k=k, min_score=min_score, where=where, device=device, progress=display.embedded
        )
    display.list_failures(batch.failed)
    display.say(f"Wrote {out}: {batch.queries} queries, {batch.results} results, {len(batch.failed)} failed")
    if json_output:
        print_json({"out": str(out), **asdict(batch)})
