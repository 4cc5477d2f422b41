"""Training: the loop over steps, which can be killed and resumed."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from hdml.augmentation import TrainingPhotos
from hdml.config import TrainConfig
from hdml.data import LabelledPhotos, Photo
from hdml.diagnostics import Spread, StepFigures, read_back, spread_of
from hdml.distributed import ALONE, Processes
from hdml.evaluate import Evaluation
from hdml.measure import evaluate_network
from hdml.model import Backbone, reestimate_batchnorm
from hdml.probes import Probes
from hdml.run import CHECKPOINT, MODEL, StepLog
from hdml.sampling import ClassSampler, Sampler, TripletSampler
from hdml.trainee import Trainee, check_gradients, choose_autocast, make_loss, step_losses, update

_CHECKPOINT_SECONDS = 30.0
_PREFETCHED_BATCHES = 4
_SPREAD_EVERY = 10  # steps
_READ_SECONDS = 1.0
_REESTIMATED_ON = 20  # batches


@dataclass(frozen=True)
class TrainProgress:
    """One step as told to whoever watches."""

    step: int
    steps: int
    figures: StepFigures
    metric_loss_avg: float
    images_per_second: float
    validation: Evaluation | None
    spread: Spread | None


@dataclass(frozen=True)
class TrainTime:
    """How long training took, interruptions left out.

    Attributes:
        seconds: in all, measuring the validation classes included.
        waited: of these, seconds in which the network waited for photos to be decoded and augmented.
    """

    seconds: float
    waited: float


LoadedBatch = tuple[int, Tensor, Tensor]
"""Step, images [B, 3, H, W] or a share of them, and labels [B] of the whole batch."""


class Waited:
    """Passes batches on and counts the seconds that it waited for them."""

    def __init__(self, batches: Iterator[LoadedBatch]) -> None:
        self._batches = batches
        self.seconds = 0.0

    def __iter__(self) -> Iterator[LoadedBatch]:
        while True:
            began = time.monotonic()
            batch = next(self._batches, None)
            self.seconds += time.monotonic() - began
            if batch is None:
                return
            yield batch


def train(
    config: TrainConfig,
    backbone: Backbone,
    photos: TrainingPhotos,
    *,
    train_set: LabelledPhotos,
    validation_set: LabelledPhotos | None,
    run: Path,
    device: torch.device,
    report: Callable[[TrainProgress], None],
    processes: Processes = ALONE,
    apart: Sequence[tuple[Photo, Photo]] = (),
) -> TrainTime:
    """Train from the run's checkpoint, if it has one, to the last step; leaves the chosen model in the run.

    The model with the best MAP@R on the validation classes is chosen; without validation classes, the last. Batches,
    augmentation and dropout are functions of the seed and the step alone, so that a resumed run equals an uninterrupted one,
    bit for bit on the CPU.

    A checkpoint does not tell how many processes made it, and any number goes on with it. With the backbone's BatchNorm frozen,
    all numbers compute the same up to rounding; else it normalises each share by itself, and its running statistics are those of
    the first share. Dropout and stochastic depth of the backbone draw other numbers in every process.

    Args:
        backbone: with its starting weights, the same in all processes.
        photos: read already.
        run: folder for the checkpoint, the chosen model and the log, which the first process alone writes, and all can read.
        report: told by the first process alone.
        processes: that train together, each calling this.
        apart: pairs of photos learned from, of two classes, that are to meet in batches.

    Raises:
        HdmlError: training diverged, or the checkpoint is damaged.
    """
    torch.manual_seed(config.seed)
    position = {photo: index for index, photo in enumerate(train_set.photos)}
    pairs = [(position[one], position[other]) for one, other in apart]
    sampler = make_sampler(config, train_set.labels.tolist(), pairs)
    loss = make_loss(config, classes_per_batch=sampler.classes_per_batch, classes=len(train_set.classes))
    epoch = max(1, len(train_set.paths) // (config.photos_per_class * sampler.classes_per_batch))
    trainee = Trainee(backbone, config, loss=loss, classes=len(train_set.classes), window=epoch, device=device)
    autocast = choose_autocast(device)
    first, best, before = 0, -1.0, TrainTime(0.0, 0.0)
    if (run / CHECKPOINT).exists():
        state = trainee.restore_checkpoint(run / CHECKPOINT)
        first, best, before = state["steps_done"], state["best"], TrainTime(state["seconds"], state.get("waited", 0.0))
    evaluate_at = {round((i + 1) * config.steps / config.evaluations) for i in range(config.evaluations)} | {config.steps}
    log = StepLog(run, steps_done=first) if processes.first else None
    probes = None
    if processes.first and trainee.hardness is not None:
        probes = Probes(run, train_set, image_size=config.image_size, steps=config.steps, steps_done=first, seed=config.seed)
        if probes.due(first):
            probes.look(trainee, first)
    began = saved = read = time.monotonic()
    pin = device.type == "cuda"
    batches = Waited(_batches(sampler, photos, train_set, range(first, config.steps), config.seed, processes, pin=pin))
    # Steps that the device may still be computing, and what they will be logged with.
    launched: list[tuple[int, dict[str, Tensor]]] = []
    trainee.train()
    for step, images, labels in batches:
        torch.manual_seed(_step_seed(config.seed, step))
        trainee.set_rates(rate_factor(step, config))
        channels_last = images.to(device, non_blocking=True, memory_format=torch.channels_last)
        losses = step_losses(trainee, channels_last, labels, autocast=autocast, processes=processes)
        update(trainee, losses, processes)
        launched.append((step, losses.scalars))
        done = step + 1
        if probes is not None and probes.due(done):
            probes.look(trainee, done)
        evaluates = done in evaluate_at
        # A GPU that is asked after every step how it went would stand still while the next one is launched.
        if not (evaluates or device.type == "cpu" or time.monotonic() - read > _READ_SECONDS):
            continue
        check_gradients(trainee, step)
        if evaluates and config.reestimate_bn:
            if processes.first:
                again = _batches(sampler, photos, train_set, range(_REESTIMATED_ON), config.seed)
                reestimate_batchnorm(trainee.model, (images.to(device) for _, images, _ in again))
                trainee.train()
            processes.copy_buffers(trainee.model)
        validation = None
        if evaluates and log is not None:
            validation = _validate(trainee, validation_set, config, device)
            trainee.train()
            score = validation.map_at_r if validation else 0.0
            if score >= best:
                best = score
                trainee.save_model(run / MODEL, {"steps_done": done, "validation": validation.to_json() if validation else None})
        now = time.monotonic()
        if log is not None:
            spread = spread_of(losses.embeddings) if any(each % _SPREAD_EVERY == 0 for each, _ in launched) else None
            rate = len(launched) * len(labels) / (now - read)
            average = trainee.metric_loss_avg.mean.item()
            figures = read_back([scalars for _, scalars in launched])
            looked_at = [(None, None)] * (len(launched) - 1) + [(validation, spread)]
            for (each, _), values, (seen, spread) in zip(launched, figures, looked_at, strict=True):
                of_step = StepFigures(**values)
                row = {"step": each, **asdict(of_step), "validation": seen.to_json() if seen else None}
                log.add(row | (asdict(spread) if spread else {}))
                report(TrainProgress(each + 1, config.steps, of_step, average, rate, seen, spread))
            if evaluates or now - saved > _CHECKPOINT_SECONDS:
                saved = now
                times = TrainTime(before.seconds + saved - began, before.waited + batches.seconds)
                trainee.save_checkpoint(run / CHECKPOINT, {"steps_done": done, "best": best, **asdict(times)})
        launched.clear()
        read = now
    if log is not None:
        log.close()
    if probes is not None:
        probes.close()
    return TrainTime(before.seconds + time.monotonic() - began, before.waited + batches.seconds)


def make_sampler(config: TrainConfig, labels: Sequence[int], apart: Sequence[tuple[int, int]] = ()) -> Sampler:
    """The batches that a configuration learns from: pairs or more of each class, or the authors' disjoint triplets.

    Args:
        labels: class of each photo.
        apart: pairs of photos that are to meet.
    """
    if config.disjoint_triplets:
        return TripletSampler(labels, classes_per_batch=config.classes_per_batch, seed=config.seed, apart=apart)
    return ClassSampler(
        labels,
        classes_per_batch=config.classes_per_batch,
        photos_per_class=config.photos_per_class,
        seed=config.seed,
        apart=apart,
    )


def _batches(
    sampler: Sampler,
    photos: TrainingPhotos,
    train_set: LabelledPhotos,
    steps: range,
    seed: int,
    processes: Processes = ALONE,
    *,
    pin: bool = False,
) -> Iterator[LoadedBatch]:
    """The batches of these steps, or a process's share of them, the next few prepared in threads while the network works.

    Pinned, they are copied to a GPU while it computes.
    """

    def load(step: int) -> LoadedBatch:
        batch = sampler.batch(step)
        own = processes.share(len(batch.photos))
        drawn = [train_set.photos[index] for index in batch.photos[own.start : own.stop]]
        images = photos.batch(drawn, (seed, step), first_row=own.start)
        return step, images.pin_memory() if pin else images, torch.from_numpy(batch.labels)

    with ThreadPoolExecutor(max_workers=_PREFETCHED_BATCHES) as pool:
        waiting = [pool.submit(load, step) for step in steps[:_PREFETCHED_BATCHES]]
        for following in range(len(steps)):
            batch = waiting.pop(0).result()
            if following + _PREFETCHED_BATCHES < len(steps):
                waiting.append(pool.submit(load, steps[following + _PREFETCHED_BATCHES]))
            yield batch


def _validate(
    trainee: Trainee, validation_set: LabelledPhotos | None, config: TrainConfig, device: torch.device
) -> Evaluation | None:
    if validation_set is None:
        return None
    return evaluate_network(trainee.encoder(), validation_set, config.image_size, device)


def _step_seed(seed: int, step: int) -> int:
    return seed * 1_000_003 + step


def rate_factor(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine to zero; paper: 1, ½ and ¼, as at steps 5,632 and 6,848 of the authors' 8,000."""
    if config.setting == "paper":
        return 0.5 ** sum(step >= share * config.steps for share in (5632 / 8000, 6848 / 8000))
    warmup = max(1, round(config.warmup * config.steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, config.steps - warmup)))
