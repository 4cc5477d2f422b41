"""``hdml audit``."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption


def audit(
    index: Annotated[str | None, typer.Argument(help="An index, by name or folder.", show_default="the newest")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for report.html and report.json.", show_default="audits/NAME in the workspace")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Report duplicates, probable label errors, outliers, photos that searches miss, small classes and unreadable files.

    Example: hdml audit gallery
    """
    from rich.table import Table

    from cli.display import Display, print_json
    from indexing.audit import audit_index
    from indexing.audit_report import headline, write_audit
    from indexing.workspace import Workspace

    place, display = Workspace(workspace), Display(json_output=json_output)
    path = place.find_index(index)
    display.say(f"Auditing {path}")
    with display.bars():
        found = audit_index(path, display.advance)
    page = write_audit(found, out or place.root / "audits" / found.index)
    summary = found.summary()
    if json_output:
        print_json({**summary, "report": str(page)})
        return
    table = Table(title=headline(found), title_justify="left", show_header=False)
    kinds = ", ".join(f"{count} {kind}" for kind, count in summary["duplicates"].items() if kind != "in_all")
    rows = {
        "duplicates": f"{summary['duplicates']['in_all']} in {summary['duplicate_groups']} groups{f': {kinds}' if kinds else ''}",
        "the same picture in several classes": f"{summary['duplicates_across_classes']} groups",
        "probable label errors": str(summary["label_errors"]),
        "outliers": str(summary["outliers"]),
        "cannot find themselves": f"{summary['cannot_find_themselves']} of {summary['photos']}",
        "classes": f"{summary['small_classes']} small, {summary['empty_classes']} empty, of {summary['classes']} with photos",
        "files": f"{summary['unreadable']} unreadable, {summary['changed_since_indexing']} changed since they were indexed",
    }
    for row in rows.items():
        table.add_row(*row)
    display.console.print(table)
    display.say(f"Wrote {page}")
