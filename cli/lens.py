"""``hdml hardness``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from indexing.errors import HdmlError

if TYPE_CHECKING:
    from indexing.workspace import Workspace


def hardness(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN or INDEX]",
            help="An index, by name, folder or bundle, or a run, for the newest index that was made with it.",
            show_default="the newest index",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for what is written.", show_default="hardness/NAME in the workspace")
    ] = None,
    anchor: Annotated[
        list[int] | None,
        typer.Option(help="Id of an item to look from; may be given several times.", show_default="some of high loss"),
    ] = None,
    positive: Annotated[
        int | None, typer.Option(help="Id of the positive of the only --anchor.", show_default="the nearest of its label")
    ] = None,
    map_kind: Annotated[
        Literal["pca", "tsne"],
        typer.Option("--map", help="The map of the page: principal components, or t-SNE, which needs hdml[tsne]."),
    ] = "pca",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Write what training made of the negatives around some photos: an HTML page, a figure for papers, and JSON.

    Example: hdml hardness --out lens/
    """
    from app.hardness_report import look_around, write_report
    from cli.display import Display, print_json
    from indexing.hardness import HardnessLens
    from indexing.search import OpenIndex
    from indexing.workspace import Workspace

    place, display = Workspace(workspace), Display(json_output=json_output)
    path = _index_of(place, source)
    display.say(f"Looking at {path}")
    with OpenIndex(path, device="cpu") as opened:
        lens = HardnessLens(opened)
        report = look_around(lens, anchor or (), positive, kind=map_kind)
        with display.bars():
            written = write_report(
                report,
                lens,
                out or place.root / "hardness" / report.index,
                progress=lambda done, total: display.advance("Drawing photos", done, total),
            )
    means = report.survey.means
    if json_output:
        from dataclasses import asdict

        print_json(
            {
                "index": report.index,
                "model": report.model,
                "lambda": report.survey.share,
                "anchors": [look.anchor.id for look in report.looks],
                "means": asdict(means),
                "written": [str(file) for file in written],
            }
        )
        return
    display.say(
        f"λ = {report.survey.share:.3f}: of {means.tuples} synthetics, {means.kept:.0%} keep their label, {means.harder:.0%} are "
        f"harder than their real negative; loss {means.loss:.3f} real, {means.synthetic_loss:.3f} synthetic"
    )
    for file in written:
        display.say(f"Wrote {file}")


def _index_of(place: "Workspace", source: str | None) -> Path:
    """The folder of an index by what names it, or of the newest one made with a run.

    Raises:
        HdmlError: there is neither, or no index was made with that run.
    """
    from indexing.encoder import read_metadata

    try:
        return place.find_index(source)
    except HdmlError:
        if source is None or not (place.runs_dir / source).is_dir():
            raise
    fingerprint = read_metadata(place.find_encoder(source)).fingerprint
    made = [index.path for index in place.indexes() if index.model == fingerprint]
    if not made:
        raise HdmlError(
            f"the lens looks at an index that was made with the run {source}, but there is none; make one: "
            f"hdml index FOLDER --encoder {source}"
        )
    return made[0]
