"""Training: the configuration, one step of HDML or of its plain loss, and the loop that can be killed and resumed."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hdml.augmentation import TrainingPhotos
from hdml.checkpoint import (
    load_tensors,
    module_tensors,
    optimizer_tensors,
    restore_modules,
    restore_optimizer,
    save_tensors,
)
from hdml.data import LabelledPhotos
from hdml.evaluate import Evaluation
from hdml.hardness import HardnessAware, StepFigures, StepLosses, real_loss
from hdml.losses import MetricLoss, embedding_regulariser, metric_loss
from hdml.measure import evaluate_network
from hdml.model import Backbone, EmbeddingModel, EncoderNetwork
from hdml.run import CHECKPOINT, MODEL, StepLog
from hdml.sampling import PairSampler
from hdml.synthesis import WindowMean
from indexing.errors import HdmlError

_CHECKPOINT_SECONDS = 30.0
_PREFETCHED_BATCHES = 4


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a run, as recorded in its run.json."""

    backbone: str  # a torchvision classification network
    weights: str  # none, imagenet or a file
    image_size: int  # side of the network's square input, pixels
    method: str  # hdml or plain
    loss: str  # npair or triplet
    test_classes: str  # rule of the class split
    steps: int  # optimiser steps
    classes_per_batch: int = 32  # N: a batch is N anchors and N positives
    dimension: int = 128  # D of the embeddings
    backbone_lr: float = 1e-4  # AdamW, peak after the warm-up
    head_lr: float = 1e-3
    generator_lr: float = 1e-3
    classifier_lr: float = 1e-3
    weight_decay: float = 1e-2  # decoupled
    warmup: float = 0.05  # share of the steps
    alpha: float = 0.25  # pulling factor, in units of the loss at chance
    beta: float = 0.1  # weight of the synthetic tuples, in units of J_gen
    margin: float = 1.0  # triplet, squared embedding distance
    regulariser: float = 0.1  # of embedding lengths
    evaluations: int = 10  # of the validation classes, over the whole run
    seed: int = 0


@dataclass(frozen=True)
class TrainProgress:
    """One step as told to whoever watches."""

    step: int
    steps: int
    figures: StepFigures
    metric_loss_avg: float
    images_per_second: float
    validation: Evaluation | None


class Trainee:
    """The modules that learn and their optimiser: all that a checkpoint holds."""

    def __init__(
        self, backbone: Backbone, config: TrainConfig, *, loss: MetricLoss, classes: int, window: int, device: torch.device
    ) -> None:
        self.loss = loss
        self.regulariser = config.regulariser
        self.model = EmbeddingModel(backbone, config.dimension).to(device).to(memory_format=torch.channels_last)
        groups = [
            {"params": list(backbone.parameters()), "lr": config.backbone_lr},
            {"params": list(self.model.head.parameters()), "lr": config.head_lr},
        ]
        self.hardness: HardnessAware | None = None
        if config.method == "hdml":
            self.hardness = HardnessAware(
                loss,
                features=backbone.dimension,
                dimension=config.dimension,
                classes=classes,
                window=window,
                alpha=config.alpha,
                beta=config.beta,
                regulariser=config.regulariser,
            ).to(device)
            groups += [
                {"params": list(self.hardness.generator.parameters()), "lr": config.generator_lr},
                {"params": list(self.hardness.classifier.parameters()), "lr": config.classifier_lr},
            ]
        self.metric_loss_avg = self.hardness.metric_loss_avg if self.hardness else WindowMean(window)
        self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        self._peak_rates = [float(group["lr"]) for group in self.optimizer.param_groups]

    def modules(self) -> dict[str, nn.Module]:
        """Those that a loss moves, by the names of :class:`hdml.hardness.StepLosses`."""
        if self.hardness is None:
            return {"model": self.model}
        return {"model": self.model, "generator": self.hardness.generator, "classifier": self.hardness.classifier}

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
        if self.hardness is None:
            return {"model": self.model, "metric_loss_avg": self.metric_loss_avg}
        return {"model": self.model, "hardness": self.hardness}


def step_losses(trainee: Trainee, images: Tensor, labels: Tensor, *, autocast: torch.autocast) -> StepLosses:
    """All losses of one batch, from one pass through the backbone.

    Args:
        images: [2N, 3, H, W], anchors first.
        labels: [N] training class of each pair.
    """
    with autocast:
        features, embeddings = trainee.model(images)
    if trainee.hardness is not None:
        losses: StepLosses = trainee.hardness(features, embeddings, labels.repeat(2), head=trainee.model.head)
        return losses
    anchors, positives = embeddings.float().chunk(2)
    real = real_loss(trainee.loss, anchors, positives)
    trainee.metric_loss_avg.add(real.item())
    penalty = trainee.regulariser * embedding_regulariser(anchors, positives)
    return StepLosses({"model": real + penalty}, StepFigures(real.item()))


def update(trainee: Trainee, losses: StepLosses) -> None:
    """Move every module by its own loss.

    Raises:
        HdmlError: a gradient is not finite; nothing has moved.
    """
    trainee.optimizer.zero_grad()
    torch.autograd.backward(losses.total)
    for name, module in trainee.modules().items():
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        if not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            raise HdmlError(
                f"Gradients must be finite, but training has diverged (the loss of the {name} is "
                f"{losses.by_module[name].item():.4g}); start again with a lower --lr."
            )
    trainee.optimizer.step()


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
) -> None:
    """Train from the run's checkpoint, if it has one, to the last step; leaves the chosen model in the run.

    The model with the best MAP@R on the validation classes is chosen; without validation classes, the last. Batches,
    augmentation and dropout are functions of the seed and the step alone, so that a resumed run equals an uninterrupted one,
    bit for bit on the CPU.

    Args:
        backbone: with its starting weights.
        photos: read already.
        run: folder for the checkpoint, the chosen model and the log.

    Raises:
        HdmlError: training diverged, or the checkpoint is damaged.
    """
    sampler = PairSampler(train_set.labels.tolist(), classes_per_batch=config.classes_per_batch, seed=config.seed)
    loss = metric_loss(config.loss, classes_per_batch=sampler.classes_per_batch, margin=config.margin)
    epoch = max(1, len(train_set.paths) // (2 * sampler.classes_per_batch))
    trainee = Trainee(backbone, config, loss=loss, classes=len(train_set.classes), window=epoch, device=device)
    autocast = _autocast(device)
    first, best = 0, -1.0
    if (run / CHECKPOINT).exists():
        state = trainee.restore_checkpoint(run / CHECKPOINT)
        first, best = state["steps_done"], state["best"]
    evaluate_at = {round((i + 1) * config.steps / config.evaluations) for i in range(config.evaluations)} | {config.steps}
    log = StepLog(run, steps_done=first)
    saved = reported = time.monotonic()
    trainee.model.train()
    for step, images, labels in _batches(sampler, photos, train_set, range(first, config.steps), config.seed):
        torch.manual_seed(_step_seed(config.seed, step))
        trainee.set_rates(_rate_factor(step, config))
        channels_last = images.to(device, non_blocking=True, memory_format=torch.channels_last)
        losses = step_losses(trainee, channels_last, labels.to(device), autocast=autocast)
        update(trainee, losses)
        done = step + 1
        validation = None
        if done in evaluate_at:
            validation = _validate(trainee, validation_set, config, device)
            score = validation.map_at_r if validation else 0.0
            if score >= best:
                best = score
                trainee.save_model(run / MODEL, {"steps_done": done, "validation": validation.to_json() if validation else None})
        row = {"step": step, **asdict(losses.figures), "validation": validation.to_json() if validation else None}
        log.add(row)
        if done in evaluate_at or time.monotonic() - saved > _CHECKPOINT_SECONDS:
            trainee.save_checkpoint(run / CHECKPOINT, {"steps_done": done, "best": best})
            saved = time.monotonic()
        now = time.monotonic()
        rate, reported = len(images) / (now - reported), now
        report(TrainProgress(done, config.steps, losses.figures, trainee.metric_loss_avg.mean, rate, validation))
    log.close()


def _batches(
    sampler: PairSampler, photos: TrainingPhotos, train_set: LabelledPhotos, steps: range, seed: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(step, images [2N, 3, H, W], labels [N]), the next few prepared in threads while the network works."""

    def load(step: int) -> tuple[int, Tensor, Tensor]:
        batch = sampler.batch(step)
        drawn = [train_set.photos[index] for index in [*batch.anchors, *batch.positives]]
        return step, photos.batch(drawn, (seed, step)), torch.from_numpy(batch.labels)

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
    evaluation = evaluate_network(trainee.encoder(), validation_set, config.image_size, device)
    trainee.model.train()
    return evaluation


def _step_seed(seed: int, step: int) -> int:
    return seed * 1_000_003 + step


def _rate_factor(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup = max(1, round(config.warmup * config.steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, config.steps - warmup)))


def _autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the device computes in it; elsewhere a context that changes nothing."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)
