"""From a labelled folder to a finished run: read, split, measure, train, choose, measure again, export.

A run is planned once (:func:`plan_run`) and then carried from wherever it stands to its end (:func:`finish_run`), so that a new
run and a resumed one take the same path.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

import hdml
from hdml.augmentation import TrainingPhotos
from hdml.checkpoint import load_tensors, restore_modules
from hdml.data import LabelledPhotos, evaluation_preprocessing, read_labelled_folder
from hdml.embed import embed_photos
from hdml.export import PARITY_PHOTOS, export_encoder, export_synthesizer, fingerprint_of
from hdml.measure import evaluate_network, measured_photos
from hdml.metric_losses import LOSSES
from hdml.model import EmbeddingModel, EncoderNetwork, FeatureGenerator, build_backbone
from hdml.run import CHECKPOINT, ENCODER, MODEL, SYNTHESIZER, read_record, write_record
from hdml.settings import decide
from hdml.splits import ClassSplit, absolute_rule, split_classes, validation_photos
from hdml.train import TrainConfig, TrainProgress, make_sampler, train
from hdml.weights import WeightsUnavailable, load_backbone
from indexing.errors import HdmlError
from indexing.preprocess import DECODE_ERRORS

_EPOCHS = 30
_STEPS = (200, 3000)
_IMAGE_SIZE = (64, 224)
_SIZES_SAMPLED = 100


class Watcher(Protocol):
    """Whoever is told how a run goes."""

    def say(self, sentence: str) -> None:
        """Something the user should know."""

    def read(self, done: int, total: int) -> None:
        """Photos read so far."""

    def step(self, progress: TrainProgress) -> None:
        """One step of training is done."""


def plan_run(
    data: Path,
    run: Path,
    *,
    watcher: Watcher,
    method: str | None = None,
    loss: str = "npair",
    setting: str = "default",
    test_classes: str = "none",
    backbone: str = "resnet18",
    weights: str = "auto",
    image_size: int | None = None,
    steps: int | None = None,
    lr: float | None = None,
    classes_per_batch: int | None = None,
    photos_per_class: int | None = None,
    **settings: Any,
) -> None:
    """Decide everything that is left open and write the run's record.

    Args:
        data: folder with one sub-folder per class.
        run: the run's folder, to be made.
        method, loss, test_classes, backbone: as :class:`hdml.train.TrainConfig` has them.
        weights: as :func:`hdml.weights.load_backbone` takes them, or ``auto``: ImageNet's where they can be had, else none.
        image_size: pixels; None takes the photos' usual shorter side in steps of 32, between 64 and 224.
        steps: None takes 30 passes over the photos of the training classes, between 200 and 3,000 steps.
        lr: of the backbone, 0 leaves its weights alone; None takes 1e-3 from random weights and 4e-4 from trained ones, and in
            the paper setting the authors' rate.
        classes_per_batch, photos_per_class: None takes the loss's own photos per class, two with HDML, and as many classes as
            make a batch of 64 (in the paper setting, the authors' batch).
        settings: other fields of :class:`hdml.train.TrainConfig`; None takes the setting's own.

    Raises:
        HdmlError: the folder or a setting cannot be used; nothing is written.
    """
    photos = read_labelled_folder(data)
    size = image_size or _usual_size(photos.files)
    if weights == "auto":
        weights = _best_weights(backbone, size, watcher)
    load_backbone(backbone, weights, image_size=size)
    # A run is resumed and measured from other folders than the one it was planned in.
    weights = weights if weights in ("none", "imagenet") else str(Path(weights).resolve())
    test_classes = absolute_rule(test_classes)
    split = split_classes(photos, test_classes)
    learned = photos.of_classes(split.train)
    config = TrainConfig(
        backbone=backbone,
        weights=weights,
        image_size=size,
        test_classes=test_classes,
        steps=steps or 0,
        **decide(
            loss=loss,
            method=method,
            setting=setting,
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
        "data": {"name": data.resolve().name, "root": str(data.resolve()), "digest": _digest(photos)},
        "method": config.method,
        "loss": config.loss,
        "config": asdict(config),
    }
    write_record(run, record)


def finish_run(run: Path, *, device: torch.device, watcher: Watcher) -> dict[str, Any]:
    """Carry a planned run, however far it is, to its end; returns its record with ``before`` and ``after``.

    Raises:
        HdmlError: its photos changed since it began, training diverged, or the exported encoder disagrees with torch.
    """
    record = read_record(run)
    config = TrainConfig(**record["config"])
    photos, decoded = _read_photos(record, config, watcher)
    split = ClassSplit(**record["classes"]) if "classes" in record else split_classes(photos, config.test_classes)
    measured_on, measured = measured_photos(photos, split)
    _say_split(photos, split, measured_on, watcher)
    torch.manual_seed(config.seed)
    backbone = load_backbone(config.backbone, config.weights, image_size=config.image_size)
    if "before" not in record:
        before = evaluate_network(EncoderNetwork(backbone, None), measured, config.image_size, device)
        record |= {"before": before.to_json(), "measured_on": measured_on, "classes": asdict(split)}
        write_record(run, record)
    torch.manual_seed(config.seed)
    train(
        config,
        backbone,
        decoded,
        train_set=photos.of_classes(split.train),
        validation_set=validation_photos(photos, split),
        run=run,
        device=device,
        report=watcher.step,
    )
    model, generator, state = load_trained(run, config)
    encoder = EncoderNetwork(model.backbone, model.head)
    after = evaluate_network(encoder, measured, config.image_size, device)
    record |= {"after": after.to_json(), "chosen_step": state["steps_done"], "lambda": state["pulling_share"]}
    record |= _export(run, encoder, generator, record, measured.files)
    record |= {"status": "finished", "finished": _now()}
    write_record(run, record)
    (run / CHECKPOINT).unlink()
    return record


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
    if record["method"] == "untrained":
        raise HdmlError(f"{run.name} is an untrained backbone, exported already; its encoder is {run / ENCODER}.")
    config = TrainConfig(**record["config"])
    photos = _readable_sample(read_labelled_folder(Path(record["data"]["root"])), config.image_size)
    model, generator, _ = load_trained(run, config)
    record |= _export(run, EncoderNetwork(model.backbone, model.head), generator, record, photos)
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


def _export(
    run: Path, encoder: EncoderNetwork, generator: FeatureGenerator | None, record: dict[str, Any], photos: Sequence[Path]
) -> dict[str, Any]:
    """The encoder comes last: a run that has one can be indexed with, and its index takes the synthesizer along."""
    config = TrainConfig(**record["config"])
    exported: dict[str, Any] = {}
    # What generates otherwise than from pulled embeddings alone cannot be shown from a catalogue of embeddings.
    generates = not {"residual", "no-generator"} & set(config.variants)
    if generator is not None and encoder.head is not None and generates:
        preprocessing = evaluation_preprocessing(config.image_size)
        sample = embed_photos(encoder, photos[:32], preprocessing, torch.device("cpu"))
        exported["synthesizer_difference"] = export_synthesizer(
            generator,
            encoder.head,
            run / SYNTHESIZER,
            share=record["lambda"],
            loss=config.loss,
            on_sphere=LOSSES[config.loss].normalizes,
            fingerprint=fingerprint_of(encoder, preprocessing),
            embeddings=sample.embeddings,
            norms=sample.norms,
        )
    card = export_encoder(
        encoder,
        run / ENCODER,
        image_size=config.image_size,
        backbone=config.backbone,
        training_data=f"{record['data']['name']}: {len(record['classes']['train'])} classes",
        photos=photos,
    )
    return {"parity": asdict(card), **exported}


def _readable_sample(photos: LabelledPhotos, image_size: int) -> list[Path]:
    """Photos from all over the folder to compare an export on, without those that training could not read either."""
    sample = photos.photos[:: max(1, len(photos.photos) // PARITY_PHOTOS)]
    failures = TrainingPhotos(photos.root, image_size).read(sample, keep=(), on_read=lambda: None)
    return [photos.root / photo.path for photo in sample if photo not in failures]


def _read_photos(record: dict[str, Any], config: TrainConfig, watcher: Watcher) -> tuple[LabelledPhotos, TrainingPhotos]:
    """All readable photos, those of the training classes decoded and kept; the others are told with their reasons."""
    photos = read_labelled_folder(Path(record["data"]["root"]))
    if _digest(photos) != record["data"]["digest"]:
        raise HdmlError(
            f"A run goes on with the photos it began with, but those in {photos.root} have changed since "
            f"{record['started']}; start a new run."
        )
    learned = split_classes(photos, config.test_classes).train
    decoded = TrainingPhotos(photos.root, config.image_size)
    done = 0

    def on_read() -> None:
        nonlocal done
        done += 1
        watcher.read(done, len(photos.paths))

    failures = decoded.read(photos.photos, keep=set(photos.of_classes(learned).photos), on_read=on_read)
    for left_out, reason in (*photos.left_out, *failures.items()):
        watcher.say(f"Left out: {left_out}: {reason}")
    return photos.without(failures), decoded


def _say_split(photos: LabelledPhotos, split: ClassSplit, measured_on: str, watcher: Watcher) -> None:
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    counted = [
        f"{name} {len(classes)} classes, {len(photos.of_classes(classes).paths)} photos" for name, classes in parts.items()
    ]
    watcher.say(f"Classes split: {'; '.join(counted)}. Figures will be of: {measured_on}.")
    sizes = np.bincount(photos.labels, minlength=len(photos.classes))
    lonely = [name for name, size in zip(photos.classes, sizes, strict=True) if size == 1]
    if lonely:
        listed = ", ".join(lonely[:5]) + (", …" if len(lonely) > 5 else "")
        watcher.say(f"Classes with a single photo form no pair and teach nothing; there are {len(lonely)}: {listed}.")
    if not split.validation:
        watcher.say("Too few classes to hold any out for validation: the last step's model is taken.")


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


def _digest(photos: LabelledPhotos) -> str:
    """Of the photos' names and sizes: enough to see that a folder is not the one that a run began with."""
    listing = "\n".join(f"{path.as_posix()} {(photos.root / path).stat().st_size}" for path in photos.paths)
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
