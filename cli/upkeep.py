"""``hdml list``, ``hdml info``, ``hdml pack``, ``hdml rm`` and ``hdml gc``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption


def list_all(workspace: WorkspaceOption = DEFAULT_WORKSPACE, json_output: JsonOption = False) -> None:
    """List the indexes and the finished runs of a workspace, the newest first.

    Example: hdml list
    """
    from rich.table import Table

    from cli.display import Display, print_json
    from indexing.workspace import Workspace

    place = Workspace(workspace)
    indexes, runs = place.indexes(), place.finished_runs()
    if json_output:
        fields = ("name", "items", "gallery", "model", "updated")
        listed = [{**{name: getattr(one, name) for name in fields}, "gallery": str(one.gallery)} for one in indexes]
        finished = [{"name": run.name, "encoder": str(run.encoder), "finished": run.finished.isoformat()} for run in runs]
        print_json({"indexes": listed, "runs": finished})
        return
    display = Display(json_output=False)
    tables: dict[tuple[str, ...], list[tuple[str, ...]]] = {
        ("index", "items", "gallery", "updated"): [(i.name, str(i.items), str(i.gallery), i.updated[:16]) for i in indexes],
        ("run", "finished"): [(run.name, run.finished.isoformat()[:16]) for run in runs],
    }
    for headings, rows in tables.items():
        if not rows:
            display.say(f"There is no {headings[0]} in {place.root}.")
            continue
        table = Table(*headings)
        for row in rows:
            table.add_row(*row)
        display.console.print(table)


def info(
    index: Annotated[str | None, typer.Argument(help="An index, by name, folder or bundle.", show_default="the newest")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write what its scores mean, with figures, into this file.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Tell what an index is, what was measured of it when its base was built, and what its scores mean.

    Example: hdml info gallery
    """
    from rich.table import Table

    from cli.display import Display, print_json
    from indexing.upkeep import describe_index
    from indexing.workspace import Workspace

    path = Workspace(workspace).find_index(index)
    found = describe_index(path)
    if report is not None:
        from indexing.reliability import write_reliability

        write_reliability(path, report)
        Display(json_output=json_output).say(f"Wrote {report}")
    if json_output:
        print_json(found)
        return
    table = Table(title=str(path), title_justify="left", show_header=False)
    per_vector = found["bytes_per_vector"]
    low, high = found["overlap_low"], found["overlap_high"]
    rows = {
        "photos": f"{found['items']} of {found['gallery']}",
        "model": f"{found['model']}, {found['dim']} dimensions",
        "kind": found["kind"],
        "of the ten nearest it finds": (
            f"{found['overlap_at_10']:.1%} ({low:.1%} to {high:.1%}, {found['queries']} queries)" if found["queries"] else "all"
        ),
        "one search": f"{found['p50_ms']:.2f} ms, 95 % within {found['p95_ms']:.2f} ms",
        "bytes a vector": f"{per_vector:.0f}" if per_vector else "not on disk",
        **_scores(found["calibration"]),
        "other models": ", ".join(
            f"{model['fingerprint']} ({model['vectors']} vectors)" for model in found["models"] if not model["live"]
        )
        or "none",
        "built": f"in {found['build_s']:.1f} s, as of change {found['generation']}; {found['changed_since']} photos since",
    }
    for row in rows.items():
        table.add_row(*row)
    Display(json_output=False).console.print(table)


def pack(
    index: Annotated[str | None, typer.Argument(help="An index, by name, folder or bundle.", show_default="the newest")] = None,
    out: Annotated[Path | None, typer.Option(help="The bundle, a .hdml file.", show_default="NAME.hdml")] = None,
    side: Annotated[int, typer.Option(min=32, max=4096, help="Longer side of the pictures in pixels.")] = 480,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Put an index, its encoder and a small picture of every photo into one file, to search and serve it elsewhere.

    Example: hdml pack gallery, then on another machine: hdml serve gallery.hdml
    """
    from cli.display import Display, print_json
    from indexing.bundle import SUFFIX, pack_index
    from indexing.workspace import Workspace

    path, display = Workspace(workspace).find_index(index), Display(json_output=json_output)
    with display.bars():
        packed = pack_index(
            path,
            out or Path(f"{path.resolve().name}{SUFFIX}"),
            side=side,
            progress=lambda done, total: display.advance("Drawing pictures", done, total),
        )
    display.list_failures(packed.failed)
    display.say(f"Wrote {packed.file}: {packed.items} photos, {packed.bytes / 1e6:.1f} MB")
    display.say(f"Next: hdml serve {packed.file}, or hdml search PHOTO --index {packed.file}")
    if json_output:
        print_json({**asdict(packed), "file": str(packed.file)})


def _scores(calibration: dict[str, Any] | None) -> dict[str, str]:
    """Rows about what scores mean."""
    if calibration is None:
        return {"scores": 'not calibrated yet; run "hdml index" again'}
    if calibration["basis"] is None:
        return {"scores": f"not calibrated: {calibration['reason']}"}
    check, wrong = calibration["check"], calibration["check"]["false_matches"]
    of_present = (
        "" if check["matched"] is None else f"; of present ones {check['missed']:.1%}, and match for {check['matched']:.1%}"
    )
    rows = {
        "scores": f"match from {calibration['match']:.4f}, no match below {calibration['unsure']:.4f}, by {calibration['basis']}",
        "false matches": (
            f"{calibration['asked']:.2%} asked, {wrong['share']:.2%} achieved ({wrong['low']:.2%} to {wrong['high']:.2%}; "
            f"{check['queries']} queries of {check['labels']} {'labels' if calibration['basis'] == 'labels' else 'groups'})"
        ),
        "other verdicts": f"no match for {check['rejected']:.1%} of photos of absent things{of_present}",
    }
    return {**rows, "note on scores": calibration["note"]} if calibration["note"] else rows


def remove(
    index: Annotated[str, typer.Argument(help="An index, by name, folder or bundle.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Remove an index; photos and runs stay.

    Example: hdml rm gallery
    """
    from cli.display import Display, print_json
    from indexing.upkeep import remove_index
    from indexing.workspace import Workspace, read_index_info

    info = read_index_info(Workspace(workspace).find_index(index))
    if not yes:
        typer.confirm(f"Remove {info.path}, the index of {info.items} photos in {info.gallery}?", abort=True, err=True)
    remove_index(info.path)
    Display(json_output=json_output).say(f"Removed {info.path}")
    if json_output:
        print_json({"index": info.name, "items": info.items})


def collect(
    index: Annotated[str | None, typer.Argument(help="An index, by name, folder or bundle.", show_default="all of them")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Forget the photos that are gone, and the models that an index was changed over from, and give their room back.

    An index keeps both, should the photos turn up again or the change be taken back.

    Example: hdml gc
    """
    from cli.display import Display, print_json
    from indexing.upkeep import collect_garbage
    from indexing.workspace import Workspace

    place, display = Workspace(workspace), Display(json_output=json_output)
    paths = [place.find_index(index)] if index is not None else [one.path for one in place.indexes()]
    forgotten, models = {}, {}
    for path in paths:
        found = collect_garbage(path)
        forgotten[path.name], models[path.name] = found.photos, found.models
        display.say(f"{path}: {found.photos} photos that are gone were forgotten.")
        if found.models:
            display.say(f"{path}: models that are not searched by were forgotten: {', '.join(found.models)}")
    if json_output:
        print_json({"forgotten": forgotten, "models": models})
