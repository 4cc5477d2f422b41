"""``hdml demo``: the whole path on the built-in set, in a workspace of its own."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DeviceOption

DEMO_WORKSPACE = Path("demo-workspace")
RUN = "butterflies"
# What a small network needs to learn the built-in set from random weights in about two minutes on two cores.
IMAGE_SIZE = 96
STEPS = 300


def demo(
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Open the web page at the end.")] = True,
    steps: Annotated[int, typer.Option(min=1, help="Steps of optimisation.")] = STEPS,
    device: DeviceOption = "auto",
    workspace: Annotated[Path, typer.Option("--workspace", help="Folder of the demo's own.")] = DEMO_WORKSPACE,
) -> None:
    """Train on the built-in butterflies, export, index and search them, then open the web page; run again, it skips what is done.

    Example: hdml demo --no-serve
    """
    from cli.display import Display
    from cli.galleries import search, update_gallery
    from cli.training import BUILT_IN_SET, built_in_photos, carry_out, choose_torch_device
    from hdml.fit import plan_run
    from hdml.run import status_of

    display = Display(json_output=False)
    photos = built_in_photos(workspace, display)
    run = workspace / "runs" / RUN
    if status_of(run) == "finished":
        display.say(f"The demo's run {run} is finished; remove {workspace} to start anew.")
    else:
        display.say(BUILT_IN_SET)
        if status_of(run) is None:
            plan_run(photos, run, watcher=display, weights="none", image_size=IMAGE_SIZE, test_classes="half", steps=steps)
        carry_out(run, choose_torch_device(device), display)
    update_gallery(photos, workspace, display, device=device)
    query = sorted(photos.rglob("*.jpg"))[-1]
    display.say(f"\nThe photos most like {query}:")
    search(str(query), k=5, device=device, workspace=workspace)
    if serve:
        from cli.serving import serve as serve_page

        serve_page(workspace=workspace, device=device)
