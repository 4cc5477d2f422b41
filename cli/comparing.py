"""``hdml compare``."""

import re
from pathlib import Path
from typing import Annotated

import typer

from cli.options import (
    DEFAULT_WORKSPACE,
    BackboneOption,
    DeviceOption,
    ImageSizeOption,
    JsonOption,
    RootOption,
    TrainingDataArgument,
    WeightsOption,
    WorkspaceOption,
)
from cli.training import built_in_photos, choose_torch_device
from indexing.errors import HdmlError

_UNITS = {"s": 1, "m": 60, "h": 3600}


def compare(
    data: TrainingDataArgument = None,
    root: RootOption = None,
    arms: Annotated[
        list[str] | None,
        typer.Option(
            help='Arms, commas between them: untrained, "frozen resnet50:imagenet", "frozen FILE.onnx", "frozen RUN", or a loss, '
            'with +hdml or without, and changes, e.g. "npair+hdml no-pull"; may be given several times.',
            show_default=",".join(
                ("untrained", "npair", "npair+hdml", "multi-similarity", "multi-similarity+hdml", "proxy-anchor")
            ),
        ),
    ] = None,
    controls: Annotated[
        bool, typer.Option("--controls", help="Add arms that say why: without the pull, without the generator, equal compute, …")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds; a verdict takes 3.")] = 3,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of each run.", show_default="30 passes over the training photos, 200–3000"),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time that it may take, e.g. 30m or 2h; arms, steps and seeds are left out to fit.")
    ] = None,
    backbone: BackboneOption = "resnet18",
    weights: WeightsOption = "auto",
    image_size: ImageSizeOption = None,
    test_classes: Annotated[
        str | None,
        typer.Option(help="Classes never seen in training: last:41, half, 0.5 or a file.", show_default="half, or as published"),
    ] = None,
    classes_per_batch: Annotated[int | None, typer.Option(min=2, help="Classes in a batch.", show_default="32")] = None,
    jobs: Annotated[
        int,
        typer.Option(min=1, help="Runs carried out at once, which pays where one alone leaves cores or the GPU idle."),
    ] = 1,
    name: Annotated[str | None, typer.Option(help="Name of the comparison's folder.", show_default="that of the photos")] = None,
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Find out whether hardness-aware training pays on your photos, and what to use: arms, seeds, intervals, a report.

    Say the same again after an interruption: finished runs are not done twice.

    Example: hdml compare photos/ --budget 30m
    """
    from cli.display import Display, print_json
    from hdml.arms import CONTROLS, DEFAULT_ARMS
    from hdml.compare import Request
    from hdml.compare import compare as carry_out
    from hdml.report import write_report
    from hdml.sources import find_source

    display = Display(json_output=json_output)
    torch_device = choose_torch_device(device)
    if data is None and root is None:
        source, data_set = built_in_photos(workspace, display), None
        weights = "none" if weights == "auto" else weights
    else:
        source, data_set = find_source(data, root)
    names = [part.strip() for given in arms or () for part in given.split(",") if part.strip()] or list(DEFAULT_ARMS)
    names = [_with_file(name, workspace) for name in names]
    names += [control for control in CONTROLS if controls and control not in names]
    request = Request(
        data=source,
        data_set=data_set,
        arms=tuple(names),
        seeds=seeds,
        steps=steps,
        budget=_seconds(budget) if budget else None,
        settings={
            "backbone": backbone,
            "weights": weights,
            "image_size": image_size,
            "test_classes": test_classes,
            "classes_per_batch": classes_per_batch,
        },
    )
    folder = workspace / "comparisons" / (name or data_set or (source.resolve().name if source.is_dir() else source.stem))
    display.say(f"Comparison {folder} on {torch_device}")
    try:
        with display.bars():
            comparison = carry_out(request, folder, device=str(torch_device), watcher=display, jobs=jobs)
    except KeyboardInterrupt:
        display.say("Stopped; say the same command again to go on.")
        raise
    report = write_report(comparison, folder)
    display.comparison(comparison)
    display.say(f"Wrote {report}")
    if json_output:
        print_json(comparison.to_json(report))


def _with_file(name: str, workspace: Path) -> str:
    """An arm with the file of the encoder that a frozen one names, where the workspace has one of that name."""
    kind, _, rest = name.partition(" ")
    encoder, space, how = rest.partition(" ")
    file = workspace / "runs" / encoder / "encoder.onnx"
    return f"frozen {file}{space}{how}" if kind == "frozen" and encoder and file.is_file() else name


def _seconds(budget: str) -> float:
    """A budget such as 90s, 30m or 1.5h; bare numbers are minutes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", budget.strip())
    if found is None or float(found[1]) == 0:
        raise HdmlError(f"--budget must be a time such as 90s, 30m or 2h, got {budget}.")
    return float(found[1]) * _UNITS[found[2] or "m"]
