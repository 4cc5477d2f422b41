"""``hdml encoder add``: networks that others exported, taken into the workspace as encoders."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from indexing.errors import HdmlError

encoders = typer.Typer(
    no_args_is_help=True,
    help="Take in image networks that others exported, such as DINOv2 or CLIP.\n\nExample: hdml encoder add dinov2.onnx",
)


@encoders.callback()
def group() -> None:
    """Keeps add a command of its own, however many there are."""


@encoders.command("add")
def add(
    model: Annotated[Path, typer.Argument(help="An ONNX file of an image network.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="What to call it from now on.", show_default="the file's name")] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Side of the network's input in pixels.", show_default="the network's, else told beside it, else 224"
        ),
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Shorter side in pixels, of which the centre is cropped to --image-size.",
            show_default="told beside it, else --image-size",
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(metavar="R,G,B", help="Mean of the colours, in 0..1.", show_default="told beside it, else ImageNet's"),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(metavar="R,G,B", help="Standard deviation of the colours.", show_default="told beside it, else ImageNet's"),
    ] = None,
    interpolation: Annotated[
        Literal["bilinear", "bicubic"] | None,
        typer.Option(help="How photos are resized.", show_default="told beside it, else bilinear"),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Output to take the vectors from.", show_default="image_embeds, else the first of vectors, of maps, of tokens"
        ),
    ] = None,
    pooling: Annotated[
        Literal["cls", "mean"], typer.Option(help="What makes a vector of tokens: cls, the first one, or the mean of all.")
    ] = "cls",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Make an encoder of any image network, for index, eval and compare to take by name.

    How photos are prepared for it is given, or read from a preprocessor_config.json beside it.

    Example: hdml encoder add dinov2.onnx --name dinov2
    """
    from cli.display import Display, print_json
    from hdml.run import ENCODER, RECORD, write_record
    from indexing.wrap import Asked, wrap_network

    name = name or model.stem
    folder = workspace / "runs" / name
    if Path(name).name != name:
        raise HdmlError(f"An encoder's name is that of its folder in {folder.parent} and holds no slash, but got {name}.")
    if any((folder / file).exists() for file in (ENCODER, RECORD)):
        raise HdmlError(f"A new encoder needs a name of its own, but {folder} exists; choose another --name.")
    asked = Asked(image_size, resize, _colours("--mean", mean), _colours("--std", std), interpolation, output, pooling)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        added = wrap_network(model, folder / ENCODER, asked, name=name)
    except HdmlError:
        folder.rmdir()
        raise
    about, prepared = added.metadata, added.metadata.preprocessing
    record = {"format": 1, "version": about.version, "status": "finished", "method": "added", "source": str(model.resolve())}
    write_record(folder, {**record, "output": added.output, "finished": datetime.now(UTC).isoformat()})
    display = Display(json_output=json_output)
    display.say(f"Wrote {folder / ENCODER}: {about.dimension} dimensions, fingerprint {about.fingerprint}")
    pooled = {3: f", of which {'the first' if pooling == 'cls' else 'the mean of all'} is taken", 4: ", averaged over space"}
    display.say(f"Vectors: {added.output} {added.shape}{pooled.get(len(added.shape), '')}")
    display.say(
        f"Photos: shorter side to {prepared.resize} px ({prepared.interpolation}), centre {prepared.crop} px, mean "
        f"{_shown(prepared.mean)}, std {_shown(prepared.std)}; {added.preprocessing_from or 'no file beside it told any of it'}"
    )
    display.say(f"Next: hdml eval PHOTOS --encoder {name}, or hdml index FOLDER --encoder {name}")
    if json_output:
        answer = {
            "name": name,
            "encoder": str(folder / ENCODER),
            "dimension": about.dimension,
            "fingerprint": about.fingerprint,
            "output": added.output,
            "preprocessing": asdict(prepared),
            "preprocessing_from": None if added.preprocessing_from is None else str(added.preprocessing_from),
        }
        print_json(answer)


def _colours(option: str, given: str | None) -> tuple[float, float, float] | None:
    """Three numbers with commas between them, or one for all colours."""
    if given is None:
        return None
    try:
        values = [float(part) for part in given.split(",")]
        red, green, blue = values * 3 if len(values) == 1 else values
    except ValueError as error:
        raise HdmlError(f"{option} must be three numbers such as 0.485,0.456,0.406, or one, not {given}.") from error
    return red, green, blue


def _shown(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
