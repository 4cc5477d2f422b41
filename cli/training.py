"""``hdml train``, ``hdml export`` and ``hdml eval``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.options import (
    BACKBONE_HELP,
    DATA_HELP,
    DEFAULT_WORKSPACE,
    WEIGHTS_HELP,
    BackboneOption,
    DeviceOption,
    ImageSizeOption,
    JsonOption,
    RootOption,
    TrainingDataArgument,
    WeightsOption,
    WorkspaceOption,
)
from indexing.errors import HdmlError

if TYPE_CHECKING:
    import torch

    from cli.display import Display
    from hdml.distributed import Processes
    from hdml.feedback import Mark
    from hdml.int8 import Material
    from indexing.workspace import Workspace

BUILT_IN_SET = "Training on the built-in set: drawn butterflies, half of whose species are kept unseen for the test."
GPUS_HELP = (
    "GPUs of this machine to share each batch between; under torchrun, leave it out. Head and loss see the whole batch, the "
    "backbone's BatchNorm each share by itself, unless --freeze-bn."
)
INT8_HELP = (
    "Write encoder.int8.onnx, which takes a CPU with VNNI about a third of the time where the network is a ResNet or the like: "
    "calibrated on the run's training photos, and refused when it finds worse than the other."
)


def train(
    data: TrainingDataArgument = None,
    root: RootOption = None,
    method: Annotated[
        Literal["hdml", "plain"] | None,
        typer.Option(help="hdml, or plain for the metric loss alone.", show_default="hdml where the loss takes it"),
    ] = None,
    loss: Annotated[str, typer.Option(help="Metric loss, by a name that --list-losses lists.")] = "npair",
    list_losses: Annotated[
        bool,
        typer.Option("--list-losses", help="List the losses with their options, and whether each takes HDML; train nothing."),
    ] = False,
    loss_option: Annotated[
        list[str] | None, typer.Option(help="An option of the loss, e.g. margin=0.5; may be given several times.")
    ] = None,
    setting: Annotated[
        Literal["default", "paper"],
        typer.Option(help="default: ours; paper: equations, reductions, rates and statistics of the paper's authors."),
    ] = "default",
    backbone: BackboneOption = "resnet18",
    weights: WeightsOption = "auto",
    image_size: ImageSizeOption = None,
    split: Annotated[
        Literal["class", "group", "seen"],
        typer.Option(help="Held out for the test: whole classes, whole groups of a manifest, or photos of the training classes."),
    ] = "class",
    test_classes: Annotated[
        str | None,
        typer.Option(
            help="Classes never seen in training, by name: none, last:41, half, 0.5, a file with one a line, or published.",
            show_default="published where the data state a split, else none",
        ),
    ] = None,
    hold_out: Annotated[
        float | None,
        typer.Option(
            help="Share of the training classes' photos (with --split group, of the groups) held out and measured too.",
            show_default="none by class, else 0.2",
        ),
    ] = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="After choosing and measuring, train anew on all classes, and export that model.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of optimisation.", show_default="30 passes over the training photos, 200–3000"),
    ] = None,
    classes_per_batch: Annotated[
        int | None, typer.Option(min=2, help="N: classes in a batch.", show_default="what makes a batch of 64 photos")
    ] = None,
    photos_per_class: Annotated[
        int | None, typer.Option(min=2, help="Photos of each class in a batch.", show_default="the loss's own; 2 with HDML")
    ] = None,
    chunk: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Photos that the backbone takes at once, for batches beyond memory (a gradient cache): each passes twice, and "
            "the loss still sees the whole batch. BatchNorm sees each chunk by itself, unless --freeze-bn.",
            show_default="the whole batch",
        ),
    ] = None,
    dimension: Annotated[
        int | None, typer.Option(min=2, help="Length of the embeddings.", show_default="128; paper: 256 for cub200, 512 for sop")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(min=0, help="Learning rate of the backbone.", show_default="4e-4 from trained weights, 1e-3 from none"),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(min=0, help="Pulling factor α.", show_default="0.25 times the loss at chance; paper: 90 for N-pair, else 7"),
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(min=0, help="Weight factor β of the synthetic tuples.", show_default="0.1, in units of J_gen; paper: 1e4"),
    ] = None,
    regulariser: Annotated[
        float | None,
        typer.Option(min=0, help="Weight of the squared lengths of embeddings.", show_default="0.1; paper: 0.003"),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="HDML with something left out or tried, e.g. no-pull; may be given several times (docs/method.md)."),
    ] = None,
    freeze_bn: Annotated[
        bool, typer.Option("--freeze-bn", help="Keep the BatchNorm statistics of the backbone's starting weights.")
    ] = False,
    reestimate_bn: Annotated[
        bool, typer.Option("--reestimate-bn", help="Take all BatchNorm statistics anew from training photos before measuring.")
    ] = False,
    feedback: Annotated[
        str | None,
        typer.Option(metavar="INDEX", help="Learn from the right and wrong marks on results of an index too (docs/feedback.md)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, batches and augmentation.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run: the newest, or --run.")] = False,
    run: Annotated[
        str | None, typer.Option(help="Name of the run.", show_default="data and time; with --resume, the newest")
    ] = None,
    device: DeviceOption = "auto",
    gpus: Annotated[int, typer.Option(min=1, help=GPUS_HELP)] = 1,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Fine-tune an embedding on labelled photos, and export it as an ONNX encoder.

    Example: hdml train photos/ --test-classes half
    """
    from cli.display import Display, print_json
    from hdml.distributed import join
    from hdml.fit import plan_run, take_part
    from hdml.sources import find_source
    from indexing.workspace import Workspace

    display = Display(json_output=json_output)
    if list_losses:
        display.losses()
        return
    torch_device = choose_torch_device(device)
    check_gpus(gpus, torch_device)
    processes, torch_device = join(torch_device)
    if not processes.first:
        take_part(processes.tell(), device=torch_device, processes=processes)
        processes.leave()
        return
    if resume:
        folder = _unfinished_run(workspace, run)
    else:
        if data is None and root is None:
            source, data_set = built_in_photos(workspace, display), None
            display.say(BUILT_IN_SET)
            test_classes = "half" if test_classes is None and split == "class" else test_classes
            weights = "none" if weights == "auto" else weights
        else:
            source, data_set = find_source(data, root)
        name = data_set or (source.resolve().name if source.is_dir() else source.stem)
        folder = new_run(workspace, run or f"{name}-{datetime.now():%Y%m%d-%H%M%S}")
        plan_run(
            source,
            folder,
            watcher=display,
            data_set=data_set,
            split=split,
            hold_out=hold_out,
            refit=refit,
            method=method,
            loss=loss,
            setting=setting,
            backbone=backbone,
            weights=weights,
            image_size=image_size,
            test_classes=test_classes,
            steps=steps,
            classes_per_batch=classes_per_batch,
            photos_per_class=photos_per_class,
            chunk=chunk,
            dimension=dimension,
            lr=lr,
            alpha=alpha,
            beta=beta,
            regulariser=regulariser,
            loss_options=_numbers(loss_option or []),
            variants=tuple(variant or ()),
            freeze_bn=freeze_bn,
            reestimate_bn=reestimate_bn,
            seed=seed,
            marks=marks_of(Workspace(workspace).find_index(feedback)) if feedback is not None else (),
        )
    processes.tell(folder)
    record = carry_out(folder, torch_device, display, processes=processes, gpus=gpus)
    processes.leave()
    if json_output:
        evaluations: dict[str, Any] = {key: record[key] for key in ("before", "after", "seen") if key in record}
        print_json({"run": folder.name, "encoder": str(folder / "encoder.onnx"), **evaluations})


def export(
    run: Annotated[str | None, typer.Argument(help="A run, by name or folder; the newest when left out.")] = None,
    backbone: Annotated[str | None, typer.Option(help=f"Instead of a run, an untrained backbone. {BACKBONE_HELP}")] = None,
    weights: Annotated[str, typer.Option(help=f"Of the untrained backbone: {WEIGHTS_HELP}")] = "imagenet",
    image_size: Annotated[int, typer.Option(min=32, help="Side of the untrained backbone's input in pixels.")] = 224,
    int8: Annotated[bool, typer.Option("--int8", help=INT8_HELP)] = False,
    gallery: Annotated[
        Path | None, typer.Option(help="With --int8, for an untrained backbone: a folder of photos to calibrate and check it on.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Export a run, or an untrained backbone to search with before one has trained, and check it against torch.

    Example: hdml export --backbone resnet50 --weights imagenet
    """
    from cli.display import Display, print_json
    from hdml.fit import export_again, export_untrained
    from hdml.int8 import material_of_gallery
    from indexing.encoder import ENCODER
    from indexing.workspace import Workspace

    display = Display(json_output=json_output)
    if gallery is not None and not int8:
        raise HdmlError(f"--gallery {gallery} is for --int8; say both, or leave it out.")
    material = material_of_gallery(gallery) if gallery is not None else None
    if backbone is not None:
        if run is not None:
            raise HdmlError(f"Export takes a run or a --backbone, not both; got {run} and {backbone}.")
        if int8 and material is None:
            raise HdmlError("An untrained backbone has no photos that could calibrate int8; say which: --int8 --gallery FOLDER")
        folder = new_run(workspace, f"{backbone}-untrained-{datetime.now():%Y%m%d-%H%M%S}")
        with drawn_photos() as photos:
            record = export_untrained(folder, backbone=backbone, weights=weights, image_size=image_size, photos=photos)
    else:
        folder = _trained_run(Workspace(workspace), run)
        exported = int8 and (folder / ENCODER).exists()
        record = {} if exported else export_again(folder)
    encoder, answer = folder / ENCODER, {}
    if record:
        display.say(f"Wrote {encoder}")
        display.parity(record["parity"])
        answer["parity"] = record["parity"]
    if int8:
        encoder, answer["int8"] = _export_int8(folder, material, display)
    display.say(f"Next: hdml index FOLDER{f' --encoder {encoder}' if int8 else ''}")
    if json_output:
        print_json({"run": folder.name, "encoder": str(encoder), **answer})


def _export_int8(run: Path, gallery: "Material | None", display: "Display") -> tuple[Path, dict[str, Any]]:
    """The int8 encoder of a run that has its encoder, and how it compares."""
    from dataclasses import asdict

    from hdml.int8 import export_int8, material_of_run
    from hdml.run import read_record
    from indexing.device import has_vnni
    from indexing.encoder import INT8_ENCODER

    if gallery is not None and "data" in read_record(run):
        raise HdmlError(f"{run.name} is calibrated on the photos that it learned from; leave out --gallery.")
    material = gallery or material_of_run(run)
    with display.bars():
        card = export_int8(run, material, on_progress=display.advance)
    display.say(f"Wrote {run / INT8_ENCODER}")
    display.int8(asdict(card))
    if not has_vnni():
        display.say("This CPU does not tell of VNNI: here the int8 encoder may be little faster than the other.")
    return run / INT8_ENCODER, asdict(card)


def evaluate(
    data: Annotated[str | None, typer.Argument(help=f"{DATA_HELP}; the run's own when left out.")] = None,
    root: RootOption = None,
    encoder: Annotated[
        str | None, typer.Option(help="A run, or an .onnx file of any image network; the newest run when left out.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="What to measure on: all, last:41, half, 0.5, a file with one class a line, or seen: held out in training.",
            show_default="what the run's own figures are of; of other data their test part, if they state one, else all",
        ),
    ] = None,
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Measure retrieval with an exported encoder: Recall@K, MAP@R and NMI, each photo querying all the others or a gallery.

    Example: hdml eval photos/ --classes half
    """
    from cli.display import Display, print_json
    from hdml.measure import evaluate_encoder
    from hdml.sources import find_source
    from indexing.workspace import Workspace

    display = Display(json_output=json_output)
    file = Workspace(workspace).find_encoder(encoder) if encoder else Workspace(workspace).newest_encoder()
    source, data_set = (None, None) if data is None and root is None else find_source(data, root)
    with display.bars():
        measured = evaluate_encoder(file, source, classes, data_set=data_set, device=device, on_progress=display.embedded)
    display.say(
        f"{file}: {measured.photos} photos of {measured.evaluation.classes} classes ({measured.measured_on}) in {measured.root}"
    )
    display.evaluation(measured.evaluation.to_json())
    if json_output:
        print_json(measured.evaluation.to_json())


def curves(
    run: Annotated[str | None, typer.Argument(help="A run, by name; the one that trained last when left out.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json_output: JsonOption = False,
) -> None:
    """Draw what a run has logged, finished or not, as one HTML file: losses, λ, distances, labels kept, validation.

    Example: hdml curves
    """
    from cli.display import Display, print_json
    from hdml.curves import write_curves
    from hdml.run import LOG

    logged = sorted((workspace / "runs").glob(f"*/{LOG}"), key=lambda file: file.stat().st_mtime)
    if run is None and not logged:
        raise HdmlError(f"Curves need a run that has trained, but {workspace / 'runs'} has none; begin with hdml train.")
    page = write_curves(workspace / "runs" / run if run else logged[-1].parent)
    Display(json_output=json_output).say(f"Wrote {page}")
    if json_output:
        print_json({"curves": str(page)})


def carry_out(
    folder: Path, device: "torch.device", display: "Display", *, processes: "Processes | None" = None, gpus: int = 1
) -> dict[str, Any]:
    """Train a planned run to its end and tell what came out.

    Args:
        processes: that train it together, of which this is the first; None: this one alone.
        gpus: processes to be started for it, each on a GPU of its own; 1 starts none.
    """
    from hdml.distributed import ALONE, launch
    from hdml.fit import finish_run
    from hdml.run import read_record

    display.say(f"Run {folder} on {f'{gpus} GPUs' if gpus > 1 else device}")
    try:
        if gpus > 1:
            launch(gpus, train_share, folder, device, display.console.stderr)
            record = read_record(folder)
        else:
            with display.bars():
                record = finish_run(folder, device=device, watcher=display, processes=processes or ALONE)
    except KeyboardInterrupt:
        display.say(f"Stopped; go on with: hdml train --resume --run {folder.name} --workspace {folder.parent.parent}")
        raise
    display.before_and_after(record)
    step = f"step {record['chosen_step']} of {record['config']['steps']}"
    if "refit" in record:
        refit = record["refit"]
        display.say(f"These figures are of the model of {step}, before the refit; the encoder has since learned from all photos.")
        step = f"trained anew on {refit['photos']} photos of {refit['classes']} classes, {refit['steps']} steps"
    display.say(f"Wrote {folder / 'encoder.onnx'} ({step})")
    display.parity(record["parity"])
    display.say("Next: hdml index FOLDER")
    return record


def train_share(folder: Path, device: "torch.device", json_output: bool) -> None:
    """What each of the processes that ``--gpus`` starts does; the first one's progress is shown."""
    from cli.display import Display
    from hdml.distributed import join
    from hdml.fit import finish_run, take_part

    processes, device = join(device)
    if processes.first:
        display = Display(json_output=json_output)
        with display.bars():
            finish_run(folder, device=device, watcher=display, processes=processes)
    else:
        take_part(folder, device=device, processes=processes)
    processes.leave()


def marks_of(index_dir: Path) -> "list[Mark]":
    """The marks of an index whose photos are still there, as training takes them; raises HdmlError when there are none."""
    from hdml.feedback import Mark, MarkedPhoto
    from indexing.catalogue import Catalogue

    with Catalogue(index_dir) as catalogue:
        gallery, found = catalogue.about().gallery, []
        for mark in catalogue.marks():
            if not mark.present:
                continue
            sent = catalogue.query_photo(mark.id)
            if sent is None:
                query = MarkedPhoto(mark.query_path, gallery / mark.query_path, mark.query_label)
            else:
                file = Path("feedback", f"{sent.hash.hex()}.jpg")
                query = MarkedPhoto(sent.name, file, None, sent.size, sent.hash.hex(), sent.jpeg)
            found.append(Mark(query, MarkedPhoto(mark.item_path, gallery / mark.item_path, mark.item_label), mark.right))
    if not found:
        raise HdmlError(
            f"--feedback needs marks on results, but the index {index_dir.name} has none of photos that are there; "
            "mark some on the page that hdml serve shows."
        )
    return found


def check_gpus(gpus: int, device: "torch.device") -> None:
    """Refuse more GPUs than torch can use, and starting processes that torchrun has started."""
    import torch

    found = torch.cuda.device_count() if device.type == "cuda" else 0
    if gpus > max(1, found):
        raise HdmlError(f"--gpus {gpus} needs as many GPUs that torch can use, but training has {found or 'none'}.")
    if gpus > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        raise HdmlError("torchrun has started a process for each GPU already; leave out --gpus.")


def new_run(workspace: Path, name: str) -> Path:
    """The folder of a run to be made."""
    if Path(name).name != name:
        raise HdmlError(f"A run's name is that of its folder in {workspace / 'runs'} and holds no slash, but got {name}.")
    folder = workspace / "runs" / name
    if folder.exists():
        raise HdmlError(f"A new run needs a name of its own, but {folder} exists; choose another --run, or say --resume.")
    return folder


def built_in_photos(workspace: Path, display: "Display") -> Path:
    """The built-in set, drawn into the workspace unless it is there."""
    from hdml.butterflies import write_butterflies

    folder = workspace / "butterflies"
    if not folder.exists():
        display.say(f"Drawing the built-in butterflies into {folder}")
    write_butterflies(folder)
    return folder


@contextmanager
def drawn_photos() -> Iterator[list[Path]]:
    """A few drawn photo files, to compare an untrained encoder on before there are any others."""
    from hdml.butterflies import write_butterflies

    with TemporaryDirectory() as folder:
        write_butterflies(Path(folder) / "butterflies", species=16, images=4)
        yield sorted(Path(folder).rglob("*.jpg"))


def choose_torch_device(device: str) -> "torch.device":
    """The device of training: auto takes a GPU that torch can use."""
    import torch

    from indexing.device import check_device

    check_device(device)
    if device == "cuda" and not torch.cuda.is_available():
        raise HdmlError("--device cuda needs a GPU that torch can use, but it finds none; hdml doctor tells more.")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def _numbers(options: list[str]) -> dict[str, float]:
    """``name=number`` as a dictionary."""
    found = {}
    for option in options:
        name, _, number = option.partition("=")
        try:
            found[name] = float(number)
        except ValueError as error:
            raise HdmlError(f"--loss-option must be a name and a number such as margin=0.5, got {option}.") from error
    return found


def _trained_run(workspace: "Workspace", given: str | None) -> Path:
    """The folder of a run by its name or folder, exported or not, or of the newest one that is."""
    from hdml.run import MODEL

    if given is None:
        return workspace.newest_encoder().parent
    named = (workspace.runs_dir / given, Path(given))
    return next((path for path in named if (path / MODEL).exists()), None) or workspace.find_encoder(given).parent


def _unfinished_run(workspace: Path, name: str | None) -> Path:
    from hdml.run import unfinished_runs

    unfinished = unfinished_runs(workspace / "runs")
    chosen = [run for run in unfinished if name in (None, run.name)]
    if not chosen:
        names = ", ".join(run.name for run in unfinished) or "none"
        wanted = f"the run {name}" if name else "an unfinished run"
        raise HdmlError(f"--resume needs {wanted} in {workspace / 'runs'}, but the unfinished ones there are: {names}.")
    return chosen[0]
