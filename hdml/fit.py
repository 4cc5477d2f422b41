"""From a labelled folder to a finished run: read, split, measure, train, choose, measure again, export.

A run is planned once (:func:`plan_run`) and then carried from wherever it stands to its end (:func:`finish_run`), so that a new
run and a resumed one take the same path.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import hdml
from hdml.advice import reporting, say_batches
from hdml.augmentation import TrainingPhotos
from hdml.checkpoint import load_tensors, restore_modules
from hdml.config import TrainConfig
from hdml.data import LabelledPhotos
from hdml.device import peak_memory
from hdml.distributed import ALONE, Processes
from hdml.embed import embed_photos
from hdml.export import PARITY_PHOTOS, export_encoder, export_synthesizer, fingerprint_of
from hdml.feedback import Mark, count_lesson, keep_marks
from hdml.measure import TEST, evaluate_network_on, measured_photos, read_recorded
from hdml.metric_losses import LOSSES
from hdml.model import EmbeddingModel, EncoderNetwork, FeatureGenerator, build_backbone
from hdml.outcomes import write_outcomes
from hdml.run import (
    CHECKPOINT,
    ENCODER,
    MODEL,
    REFIT,
    SPLIT,
    SYNTHESIZER,
    lens_history,
    read_record,
    write_lists,
    write_record,
)
from hdml.run_photos import check_leaks, digest_of, read_run_photos, say_split
from hdml.settings import decide
from hdml.sources import read_photos
from hdml.splits import Split, make_rule, split_photos, validation_photos
from hdml.train import make_sampler, train
from hdml.trainee import starting_backbone
from hdml.watcher import Silent, Watcher
from hdml.weights import WeightsUnavailable, load_backbone
from indexing.errors import HdmlError
from indexing.preprocess import DECODE_ERRORS, evaluation_preprocessing

_EPOCHS = 30
_STEPS = (200, 3000)
_IMAGE_SIZE = (64, 224)
_SIZES_SAMPLED = 100


def plan_run(
    data: Path,
    run: Path,
    *,
    watcher: Watcher,
    method: str | None = None,
    loss: str = "npair",
    setting: str = "default",
    data_set: str | None = None,
    split: str = "class",
    test_classes: str | None = None,
    hold_out: float | None = None,
    refit: bool = False,
    backbone: str = "resnet18",
    weights: str = "auto",
    image_size: int | None = None,
    steps: int | None = None,
    lr: float | None = None,
    classes_per_batch: int | None = None,
    photos_per_class: int | None = None,
    marks: Sequence[Mark] = (),
    **settings: Any,
) -> None:
    """Decide everything that is left open and write the run's record.

    Args:
        data: folder with one sub-folder per class, a manifest, or where ``data_set`` lies.
        run: the run's folder, to be made.
        data_set: one of :data:`hdml.public_sets.PUBLISHED`.
        split, test_classes, hold_out: as :func:`hdml.splits.make_rule` takes them.
        refit: once a model is chosen and measured, train anew on all classes and export that one.
        method, loss, backbone: as :class:`hdml.config.TrainConfig` has them.
        weights: as :func:`hdml.weights.load_backbone` takes them, or ``auto``: ImageNet's where they can be had, else none.
        image_size: pixels; None takes the photos' usual shorter side in steps of 32, between 64 and 224.
        steps: None takes 30 passes over the photos of the training classes, between 200 and 3,000 steps.
        lr: of the backbone, 0 leaves its weights alone; None takes 1e-3 from random weights and 4e-4 from trained ones, and in
            the paper setting the authors' rate.
        classes_per_batch, photos_per_class: None takes the loss's own photos per class, two with HDML, and as many classes as
            make a batch of 64 (in the paper setting, the authors' batch).
        marks: right and wrong marks on search results, to be learned from too.
        settings: other fields of :class:`hdml.config.TrainConfig`; None takes the setting's own.

    Raises:
        HdmlError: the photos or a setting cannot be used; nothing is written.
    """
    photos = read_photos(data, data_set)
    size = image_size or _usual_size(photos.files)
    if weights == "auto":
        weights = _best_weights(backbone, size, watcher)
    load_backbone(backbone, weights, image_size=size)
    # A run is resumed and measured from other folders than the one it was planned in.
    weights = weights if weights in ("none", "imagenet") else str(Path(weights).resolve())
    rule = make_rule(photos, split=split, test_classes=test_classes, hold_out=hold_out)
    learned = split_photos(photos, rule).train_set
    config = TrainConfig(
        backbone=backbone,
        weights=weights,
        image_size=size,
        test_classes=rule.test_classes,
        steps=steps or 0,
        **decide(
            loss=loss,
            method=method,
            setting=setting,
            data_set=data_set,
            lr=lr,
            from_scratch=weights == "none",
            classes_per_batch=classes_per_batch,
            photos_per_class=photos_per_class,
            given=settings,
        ),
    )
    batch = len(make_sampler(config, learned.labels.tolist()).batch(0).photos)
    config = replace(config, steps=steps or int(np.clip(_EPOCHS * (len(learned.paths) // batch), *_STEPS)))
    record = {
        "format": 1,
        "version": hdml.__version__,
        "status": "training",
        "started": _now(),
        "data": {
            "name": data_set or data.resolve().name,
            "root": str(data.resolve()),
            "data_set": data_set,
            "digest": digest_of(photos),
        },
        "split": {"by": rule.by, "hold_out": rule.hold_out},
        **({"refit": {}} if refit else {}),
        **({"feedback": {"marks": len(marks)}} if marks else {}),
        "method": config.method,
        "loss": config.loss,
        "config": asdict(config),
    }
    if marks:
        keep_marks(run, marks)
    write_record(run, record)


def finish_run(
    run: Path, *, device: torch.device, watcher: Watcher, processes: Processes = ALONE, export: bool = True
) -> dict[str, Any]:
    """Carry a planned run, however far it is, to its end; returns its record with ``before`` and ``after``.

    Of several processes, the first does this, and the others :func:`take_part`.

    Args:
        export: whether to export its encoder too; :func:`export_again` can do so later.

    Raises:
        HdmlError: its photos changed since it began, training diverged, or the exported encoder disagrees with torch.
    """
    record = read_record(run)
    config = TrainConfig(**record["config"])
    split, decoded, looks = read_run_photos(run, record, config, watcher, processes)
    measured_on, measured = measured_photos(split)
    seen = split.seen_set if measured_on == TEST else None
    say_split(split, measured_on, watcher)
    if "feedback" in record:
        record["feedback"] |= count_lesson(run)
    if looks is not None:
        record |= check_leaks(run, record, split, looks, watcher)
    say_batches(config, make_sampler(config, split.train_set.labels.tolist()), split.train_set, watcher)
    backbone = starting_backbone(config)
    if "before" not in record:
        untrained = EncoderNetwork(backbone, None)
        before = evaluate_network_on(untrained, measured, config.image_size, device)
        record |= {"before": before.to_json(), "measured_on": measured_on, "classes": asdict(split.classes)}
        if seen is not None:
            record["seen"] = {"before": evaluate_network_on(untrained, seen, config.image_size, device).to_json()}
        write_lists(run / SPLIT, split.to_json())
        write_record(run, record)
    if "after" not in record:
        times = train(
            config,
            backbone,
            decoded,
            train_set=split.train_set,
            validation_set=validation_photos(split.validation_set, split.train_set) if split.validation_set else None,
            run=run,
            device=device,
            report=reporting(watcher),
            processes=processes,
            apart=split.apart,
        )
        model, _, state = load_trained(run, config)
        encoder = EncoderNetwork(model.backbone, model.head)
        after = evaluate_network_on(encoder, measured, config.image_size, device)
        if seen is not None:
            record["seen"]["after"] = evaluate_network_on(encoder, seen, config.image_size, device).to_json()
        record |= {"after": after.to_json(), "chosen_step": state["steps_done"], "lambda": state["pulling_share"]}
        record |= {"seconds": times.seconds, "waited": times.waited / times.seconds, "peak_memory": peak_memory(device)}
        write_outcomes(run, after.outcomes, measured)
        write_record(run, record)
    if "refit" in record:
        processes.tell(record["chosen_step"])
        record |= _refit(run, record, config, split, decoded, device, watcher, processes)
    if export:
        record |= _export(run, record, config, measured.files)
    record |= {"status": "finished", "finished": _now()}
    write_record(run, record)
    for folder in (run, run / REFIT):
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return record


def take_part(run: Path, *, device: torch.device, processes: Processes) -> None:
    """What every process but the first does of a run: it trains."""
    watcher = Silent()
    record = read_record(run)
    config = TrainConfig(**record["config"])
    split, decoded, _ = read_run_photos(run, record, config, watcher, processes)
    backbone = starting_backbone(config)
    if "after" not in record:
        train(
            config,
            backbone,
            decoded,
            train_set=split.train_set,
            validation_set=None,
            run=run,
            device=device,
            report=watcher.step,
            processes=processes,
            apart=split.apart,
        )
    if "refit" in record:
        _train_anew(run, processes.tell(), config, split, decoded, device, watcher, processes)


def exported_from(run: Path, record: dict[str, Any]) -> Path:
    """The folder of the model that a run exports: its own, or that of the refit."""
    return run / REFIT if "refit" in record else run


def _refit(
    run: Path,
    record: dict[str, Any],
    config: TrainConfig,
    split: Split,
    decoded: TrainingPhotos,
    device: torch.device,
    watcher: Watcher,
    processes: Processes,
) -> dict[str, Any]:
    """Train anew on all photos, for as many steps as were best, into a folder of its own; returns what the record keeps of it."""
    steps, photos = record["chosen_step"], split.photos
    watcher.say(f"Training anew on all {len(photos.classes)} classes, {len(photos.paths)} photos, for the {steps} steps chosen.")
    _train_anew(run, steps, config, split, decoded, device, watcher, processes)
    return {"refit": {"steps": steps, "classes": len(photos.classes), "photos": len(photos.paths)}}


def _train_anew(
    run: Path,
    steps: int,
    config: TrainConfig,
    split: Split,
    decoded: TrainingPhotos,
    device: torch.device,
    watcher: Watcher,
    processes: Processes,
) -> None:
    """Nothing is left to choose by, so the last step's model is taken. The learning rate falls to zero at that step."""
    folder = run / REFIT
    folder.mkdir(exist_ok=True)
    backbone = starting_backbone(config)
    train(
        replace(config, steps=steps),
        backbone,
        decoded,
        train_set=split.photos,
        validation_set=None,
        run=folder,
        device=device,
        report=reporting(watcher),
        processes=processes,
        apart=split.apart,
    )


def export_untrained(run: Path, *, backbone: str, weights: str, image_size: int, photos: Sequence[Path]) -> dict[str, Any]:
    """A run without training: the backbone's own features as embeddings, exported and checked on the photos."""
    network = EncoderNetwork(load_backbone(backbone, weights, image_size=image_size), None)
    run.mkdir(parents=True)
    training_data = "none" if weights == "none" else f"none ({weights} weights)"
    card = export_encoder(
        network, run / ENCODER, image_size=image_size, backbone=backbone, training_data=training_data, photos=photos
    )
    record = {
        "format": 1,
        "version": hdml.__version__,
        "status": "finished",
        "method": "untrained",
        "config": {"backbone": backbone, "weights": weights, "image_size": image_size},
        "parity": asdict(card),
        "finished": _now(),
    }
    write_record(run, record)
    return record


def export_again(run: Path) -> dict[str, Any]:
    """Export a trained run's encoder and synthesizer anew from its chosen model, checked on photos of its own folder."""
    record = read_record(run)
    if record["status"] != "finished":
        raise HdmlError(f"{run.name} has not finished training; go on with: hdml train --resume --run {run.name}")
    if record["method"] in ("untrained", "added"):
        what = "an untrained backbone" if record["method"] == "untrained" else "a network that was added"
        raise HdmlError(f"{run.name} is {what}, exported already; its encoder is {run / ENCODER}.")
    config = TrainConfig(**record["config"])
    photos = _readable_sample(read_recorded(record), config.image_size)
    record |= _export(run, record, config, photos)
    write_record(run, record)
    return record


def load_trained(run: Path, config: TrainConfig) -> tuple[EmbeddingModel, FeatureGenerator | None, dict[str, Any]]:
    """The chosen model of a run, its generator if it has one, and what was saved beside them."""
    tensors, state = load_tensors(run / MODEL)
    backbone = build_backbone(config.backbone, image_size=config.image_size, pretrained_input=config.weights != "none")
    model = EmbeddingModel(backbone, config.dimension)
    if config.method != "hdml":
        restore_modules({"model": model}, tensors)
        return model, None, state
    generator = FeatureGenerator(config.dimension, backbone.dimension)
    restore_modules({"model": model, "generator": generator}, tensors)
    return model, generator, state


def _export(run: Path, record: dict[str, Any], config: TrainConfig, photos: Sequence[Path]) -> dict[str, Any]:
    """The encoder comes last: a run that has one can be indexed with, and its index takes the synthesizer along."""
    model, generator, state = load_trained(exported_from(run, record), config)
    encoder = EncoderNetwork(model.backbone, model.head)
    exported: dict[str, Any] = {"lambda": state["pulling_share"]}
    # What generates otherwise than from pulled embeddings alone cannot be shown from a catalogue of embeddings.
    generates = not {"residual", "no-generator"} & set(config.variants)
    if generator is not None and encoder.head is not None and generates:
        preprocessing = evaluation_preprocessing(config.image_size)
        sample = embed_photos(encoder, photos[:32], preprocessing, torch.device("cpu"))
        exported["synthesizer_difference"] = export_synthesizer(
            generator,
            encoder.head,
            run / SYNTHESIZER,
            share=state["pulling_share"],
            loss=config.loss,
            on_sphere=LOSSES[config.loss].normalizes,
            fingerprint=fingerprint_of(encoder, preprocessing),
            embeddings=sample.embeddings,
            norms=sample.norms,
            loss_options={**LOSSES[config.loss].options, **config.loss_options},
            training=lens_history(
                exported_from(run, record),
                steps=record["refit"]["steps"] if "refit" in record else config.steps,
                chosen=state["steps_done"],
                share=state["pulling_share"],
            ),
        )
    classes = record["refit"]["classes"] if "refit" in record else len(record["classes"]["train"])
    card = export_encoder(
        encoder,
        run / ENCODER,
        image_size=config.image_size,
        backbone=config.backbone,
        training_data=f"{record['data']['name']}: {classes} classes",
        photos=photos,
    )
    return {"parity": asdict(card), **exported}


def _readable_sample(photos: LabelledPhotos, image_size: int) -> list[Path]:
    """Photos from all over the folder to compare an export on, without those that training could not read either."""
    sample = photos.photos[:: max(1, len(photos.photos) // PARITY_PHOTOS)]
    failures = TrainingPhotos(photos.root, image_size).read(sample, keep=(), on_read=lambda: None)
    return [photos.root / photo.path for photo in sample if photo not in failures]


def _best_weights(backbone: str, image_size: int, watcher: Watcher) -> str:
    try:
        load_backbone(backbone, "imagenet", image_size=image_size)
    except WeightsUnavailable as error:
        watcher.say(f"Training starts from random weights, which needs more photos and steps. {error}")
        return "none"
    return "imagenet"


def _usual_size(files: Sequence[Path]) -> int:
    sampled = files[:: max(1, len(files) // _SIZES_SAMPLED)]
    sides = [side for side in map(_shorter_side, sampled) if side is not None]
    usual = int(np.median(sides)) if sides else _IMAGE_SIZE[1]
    return int(np.clip(usual // 32 * 32, *_IMAGE_SIZE))


def _shorter_side(file: Path) -> int | None:
    """From the file's header alone; None when it cannot be read, which reading the photos will tell."""
    try:
        with Image.open(file) as image:
            return min(image.size)
    except DECODE_ERRORS:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
