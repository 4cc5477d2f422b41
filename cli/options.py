"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DATA_HELP = (
    "Folder of photos, one sub-folder per class; a manifest (.csv, .jsonl or .parquet with the columns path and label); or, with "
    "--root, one of cub200, cars196, sop, inshop"
)
BACKBONE_HELP = "A torchvision classification network, e.g. resnet18, resnet50, convnext_tiny, vit_b_16."
WEIGHTS_HELP = "imagenet (torchvision's download), none, or the path of a .safetensors or .pth state dict."

TrainingDataArgument = Annotated[str | None, typer.Argument(help=f"{DATA_HELP}; the built-in butterflies when left out.")]
RootOption = Annotated[
    Path | None,
    typer.Option(help="Folder that the archive of cub200, cars196, sop or inshop unpacked; without it such a name is a path."),
]
BackboneOption = Annotated[str, typer.Option(help=BACKBONE_HELP)]
WeightsOption = Annotated[str, typer.Option(help=f"{WEIGHTS_HELP} auto: imagenet where it can be had, else none.")]
ImageSizeOption = Annotated[
    int | None, typer.Option(min=32, help="Side of the network's input in pixels.", show_default="the photos' own, 64–224")
]
WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", envvar="HDML_WORKSPACE", help="Folder that holds the runs and the indexes.", show_default=True),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="auto, cpu or cuda; auto takes a GPU that really works, else the CPU.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and everything else on standard error.")]

DEFAULT_WORKSPACE = Path("workspace")
