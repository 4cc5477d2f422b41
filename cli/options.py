"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", envvar="HDML_WORKSPACE", help="Folder that holds the runs and the indexes.", show_default=True),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="auto, cpu or cuda; auto takes a GPU that really works, else the CPU.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and everything else on standard error.")]

DEFAULT_WORKSPACE = Path("workspace")
