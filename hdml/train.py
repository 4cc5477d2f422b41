"""Training: the configuration, one step of HDML or of its plain loss, and the loop that can be killed and resumed."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hdml.augmentation import TrainingPhotos
from hdml.averages import WindowMean
from hdml.checkpoint import (
    load_tensors,
    module_tensors,
    optimizer_tensors,
    restore_modules,
    restore_optimizer,
    save_tensors,
)
from hdml.data import LabelledPhotos, Photo
from hdml.diagnostics import Spread, StepFigures, read_back, spread_of
from hdml.distributed import ALONE, Processes
from hdml.evaluate import Evaluation
from hdml.gradient_cache import features_in_chunks
from hdml.hardness import HardnessAware, StepLosses, has_regulariser
from hdml.losses import embedding_regulariser
from hdml.measure import evaluate_network
from hdml.metric_losses import MetricLoss, metric_loss
from hdml.model import Backbone, EmbeddingModel, EncoderNetwork, freeze_batchnorm, reestimate_batchnorm
from hdml.run import CHECKPOINT, MODEL, StepLog
from hdml.sampling import ClassSampler, Sampler, TripletSampler
from hdml.tuples import Tuples, pair_tuples, triplet_tuples
from hdml.weights import load_backbone
from indexing.errors import HdmlError

_CHECKPOINT_SECONDS = 30.0
_PREFETCHED_BATCHES = 4
_SPREAD_EVERY = 10  # steps
_READ_SECONDS = 1.0
_REESTIMATED_ON = 20  # batches


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a run, as recorded in its run.json."""

    backbone: str  # a torchvision classification network
    weights: str  # none, imagenet or a file
    image_size: int  # side of the network's square input, pixels
    method: str  # hdml or plain
    loss: str  # a name in hdml.metric_losses.LOSSES
    test_classes: str  # rule of the class split
    steps: int  # optimiser steps
    setting: str = "default"  # or paper: reductions, means, optimiser and statistics of the authors' code
    classes_per_batch: int = 32  # N
    photos_per_class: int = 2  # of each of the N classes; HDML takes pairs
    dimension: int = 128  # D of the embeddings
    backbone_lr: float = 1e-4  # AdamW, peak after the warm-up; in the paper setting Adam, before the two halvings
    head_lr: float = 1e-3
    generator_lr: float = 1e-3
    classifier_lr: float = 1e-3
    loss_lr: float = 1e-2  # of the proxies of a loss that has some (Kim et al., CVPR 2020: 100 times the backbone's)
    weight_decay: float = 1e-2  # decoupled; in the paper setting coupled, of backbone and head alone
    warmup: float = 0.05  # share of the steps; none in the paper setting
    alpha: float | None = None  # pulling factor; None: see hdml.hardness.default_alpha
    beta: float | None = None  # weight factor of the synthetic tuples; None: see hdml.hardness.default_beta
    loss_options: dict[str, float] = field(default_factory=dict)  # over the loss's defaults
    regulariser: float = 0.1  # of embedding lengths, for losses that see them
    variants: tuple[str, ...] = ()  # of hdml.hardness.VARIANTS
    freeze_bn: bool = False  # statistics of the backbone's BatchNorm stay those of its starting weights
    reestimate_bn: bool = False  # statistics of every BatchNorm are taken anew from training photos before a model is measured
    chunk: int | None = None  # photos that the backbone takes at once, in each process; None: all
    evaluations: int = 10  # of the validation classes, over the whole run
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "variants", tuple(self.variants))  # JSON gives back a list

    @property
    def disjoint_triplets(self) -> bool:
        """Whether batches are the authors' disjoint triplets, whose loss is summed, and not pairs that all meet all."""
        return self.setting == "paper" and self.loss == "triplet"


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


class Trainee:
    """The modules that learn and their optimiser: all that a checkpoint holds."""

    def __init__(
        self, backbone: Backbone, config: TrainConfig, *, loss: MetricLoss, classes: int, window: int, device: torch.device
    ) -> None:
        self.config = config
        self.loss = loss.to(device)
        self.regulariser = config.regulariser if has_regulariser(loss.spec, paper=config.setting == "paper") else 0.0
        self.model = EmbeddingModel(backbone, config.dimension).to(device).to(memory_format=torch.channels_last)
        groups = [
            {"params": list(backbone.parameters()), "lr": config.backbone_lr},
            {"params": list(self.model.head.parameters()), "lr": config.head_lr},
        ]
        if proxies := list(loss.parameters()):
            groups.append({"params": proxies, "lr": config.loss_lr})
        self.hardness: HardnessAware | None = None
        if config.method == "hdml":
            self.hardness = HardnessAware(
                loss,
                features=backbone.dimension,
                dimension=config.dimension,
                classes=classes,
                setting="paper" if config.setting == "paper" else "default",
                window=window,
                alpha=config.alpha,
                beta=config.beta,
                regulariser=config.regulariser,
                variants=config.variants,
            ).to(device)
            groups += [
                {"params": list(self.hardness.generator.parameters()), "lr": config.generator_lr},
                {"params": list(self.hardness.classifier.parameters()), "lr": config.classifier_lr},
            ]
        self.metric_loss_avg = self.hardness.metric_loss_avg if self.hardness else WindowMean(window)
        fused = device.type == "cuda"  # one kernel a group instead of a dozen, each launched from Python
        self.optimizer: torch.optim.Optimizer
        if config.setting == "paper":  # the decay is in the loss: see penalty
            self.optimizer = torch.optim.Adam(groups, fused=fused)
        else:
            self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=fused)
        self.learning = {name: tuple(module.parameters()) for name, module in self.modules().items()}
        self._peak_rates = [float(group["lr"]) for group in self.optimizer.param_groups]

    def train(self) -> None:
        """Put what learns into training mode."""
        self.model.train()
        if self.config.freeze_bn:
            freeze_batchnorm(self.model.backbone)

    def modules(self) -> dict[str, nn.Module]:
        """Those that a loss moves, by the names of :class:`hdml.hardness.StepLosses`; a loss's proxies move with the model."""
        parts: list[nn.Module] = [self.model, self.loss]
        moved: dict[str, nn.Module] = {"model": nn.ModuleList(parts)}
        if self.hardness is not None:
            moved |= {"generator": self.hardness.generator, "classifier": self.hardness.classifier}
        return moved

    def tuples(self, labels: Tensor) -> Tuples | None:
        """Which photos of a batch form tuples; None for a loss of the library, which finds them itself."""
        if self.config.disjoint_triplets:
            return triplet_tuples(labels)
        return pair_tuples(labels) if self.loss.spec.takes_hdml and self.config.photos_per_class == 2 else None

    def penalty(self) -> Tensor:
        """Coupled weight decay, half of its factor times the squared length of the model's weights; 0 where it is decoupled.

        Without BatchNorm's scales and shifts, as in the authors' code: a scale of 1 for each channel would keep J_avg up.
        """
        if self.config.setting != "paper":
            return torch.zeros(())
        decayed = [
            parameter
            for module in self.model.modules()
            if not isinstance(module, nn.modules.batchnorm._BatchNorm)
            for parameter in module.parameters(recurse=False)
        ]
        squares = torch.stack([parameter.square().sum() for parameter in decayed])
        return 0.5 * self.config.weight_decay * squares.sum()

    def set_rates(self, factor: float) -> None:
        for group, peak in zip(self.optimizer.param_groups, self._peak_rates, strict=True):
            group["lr"] = factor * peak

    def encoder(self) -> EncoderNetwork:
        return EncoderNetwork(self.model.backbone, self.model.head)

    def save_model(self, path: Path, state: dict[str, Any]) -> None:
        """What is exported: model and generator as they stand, and the λ that they stand at."""
        modules: dict[str, nn.Module] = {"model": self.model}
        if self.hardness is not None:
            modules["generator"] = self.hardness.generator
        share = self.hardness.pulling_share if self.hardness else None
        save_tensors(path, module_tensors(modules), {**state, "pulling_share": share})

    def save_checkpoint(self, path: Path, state: dict[str, Any]) -> None:
        """Everything that the next step depends on."""
        save_tensors(path, {**module_tensors(self._stateful()), **optimizer_tensors(self.optimizer)}, state)

    def restore_checkpoint(self, path: Path) -> dict[str, Any]:
        tensors, state = load_tensors(path)
        restore_modules(self._stateful(), tensors)
        restore_optimizer(self.optimizer, tensors)
        return state

    def _stateful(self) -> dict[str, nn.Module]:
        averages: dict[str, nn.Module] = (
            {"metric_loss_avg": self.metric_loss_avg} if self.hardness is None else {"hardness": self.hardness}
        )
        return {"model": self.model, "loss": self.loss, **averages}


def step_losses(
    trainee: Trainee, images: Tensor, labels: Tensor, *, autocast: torch.autocast, processes: Processes = ALONE
) -> StepLosses:
    """All losses of one batch, from one pass through the backbone, or one for each chunk of photos.

    Args:
        images: [B, 3, H, W], or of several processes this one's share of them.
        labels: [B] training class of each photo of the whole batch; tuples are found without waiting for the device when they
            are on the CPU.
    """
    tuples = trainee.tuples(labels)
    tuples, labels = tuples and tuples.to(images.device), labels.to(images.device, non_blocking=True)
    with autocast:
        with processes.own_randomness():
            own = features_in_chunks(trainee.model.backbone, images, trainee.config.chunk)
        features = processes.gather(own, len(labels))
        embeddings = trainee.model.head(features)
    penalty = trainee.penalty()
    if trainee.hardness is not None:
        losses: StepLosses = trainee.hardness(
            features, embeddings, labels, head=trainee.model.head, tuples=tuples, penalty=penalty
        )
        return losses
    embeddings = embeddings.float()
    real = trainee.loss(embeddings, labels, tuples)
    trainee.metric_loss_avg.add(real)
    if trainee.regulariser and tuples is not None:
        penalty = penalty + trainee.regulariser * embedding_regulariser(*tuples.of(embeddings)[:2])
    return StepLosses({"model": real + penalty}, {"metric_loss": real.detach()}, embeddings)


def update(trainee: Trainee, losses: StepLosses, processes: Processes = ALONE) -> None:
    """Move every module by its own loss, in all processes alike."""
    trainee.optimizer.zero_grad()
    torch.autograd.backward(losses.total)
    processes.average_gradients(parameter for parameters in trainee.learning.values() for parameter in parameters)
    trainee.optimizer.step()


def _check_gradients(trainee: Trainee, step: int) -> None:
    """Raise HdmlError when a gradient is not finite; where one was not in an earlier step, those after it are not either."""
    gradients = {name: [p.grad for p in parameters if p.grad is not None] for name, parameters in trainee.learning.items()}
    norms = read_back([{name: torch.nn.utils.get_total_norm(found) for name, found in gradients.items()}])[0]
    for name, norm in norms.items():
        if not math.isfinite(norm):
            raise HdmlError(
                f"Gradients must be finite, but at step {step + 1} that of the {name} has the length {norm}: training has "
                "diverged; start again with a lower --lr."
            )


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
        evaluates = done in evaluate_at
        # A GPU that is asked after every step how it went would stand still while the next one is launched.
        if not (evaluates or device.type == "cpu" or time.monotonic() - read > _READ_SECONDS):
            continue
        _check_gradients(trainee, step)
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


def starting_backbone(config: TrainConfig) -> Backbone:
    """The backbone that a run begins with: the same for a seed, whatever was drawn before."""
    torch.manual_seed(config.seed)
    return load_backbone(config.backbone, config.weights, image_size=config.image_size)


def make_loss(config: TrainConfig, *, classes_per_batch: int, classes: int) -> MetricLoss:
    """The metric loss of a configuration; its proxies have a stream of their own, so that all arms start alike."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return metric_loss(
            config.loss,
            classes_per_batch=classes_per_batch,
            classes=classes,
            dimension=config.dimension,
            options=config.loss_options,
            summed=config.disjoint_triplets,
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


def choose_autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the device computes in it; elsewhere a context that changes nothing."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)
