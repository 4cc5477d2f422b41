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
from torch.nn import functional as F

from hdml.checkpoint import (
    load_tensors,
    module_tensors,
    optimizer_tensors,
    restore_modules,
    restore_optimizer,
    save_tensors,
)
from hdml.data import LabelledPhotos, TrainingPhotos
from hdml.evaluate import Evaluation
from hdml.losses import MetricLoss, embedding_regulariser, metric_loss
from hdml.measure import evaluate_network
from hdml.model import Backbone, EmbeddingModel, EncoderNetwork, FeatureGenerator
from hdml.run import CHECKPOINT, MODEL, StepLog
from hdml.sampling import PairSampler
from hdml.synthesis import (
    WindowMean,
    generator_losses,
    pulling_share,
    real_weight,
    synthesize,
)
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
class StepFigures:
    """What one step is logged with.

    Attributes:
        metric_loss: J_m, raw and unweighted.
        synthetic_loss: J_syn; None without HDML, as all below.
        reconstruction_loss, label_loss: J_recon and J_soft, scale-free.
        classifier_loss: cross-entropy of real features.
        pulling_share: λ of this step.
        real_weight: exp(−β/J_gen) of this step.
    """

    metric_loss: float
    synthetic_loss: float | None = None
    reconstruction_loss: float | None = None
    label_loss: float | None = None
    classifier_loss: float | None = None
    pulling_share: float | None = None
    real_weight: float | None = None


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
    """The modules that learn, their optimiser and the two running means: all that a checkpoint holds."""

    def __init__(
        self, backbone: Backbone, config: TrainConfig, *, loss: MetricLoss, classes: int, window: int, device: torch.device
    ) -> None:
        self.loss = loss
        self.alpha = config.alpha * loss.at_chance
        self.model = EmbeddingModel(backbone, config.dimension).to(device).to(memory_format=torch.channels_last)
        self.generator: FeatureGenerator | None = None
        self.classifier: nn.Linear | None = None
        groups = [
            {"params": list(backbone.parameters()), "lr": config.backbone_lr},
            {"params": list(self.model.head.parameters()), "lr": config.head_lr},
        ]
        if config.method == "hdml":
            self.generator = FeatureGenerator(config.dimension, backbone.dimension).to(device)
            self.classifier = nn.Linear(backbone.dimension, classes).to(device)
            groups += [
                {"params": list(self.generator.parameters()), "lr": config.generator_lr},
                {"params": list(self.classifier.parameters()), "lr": config.classifier_lr},
            ]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        self._peak_rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.metric_loss_avg = WindowMean(window)
        self.generator_loss_avg = WindowMean(window)

    def modules(self) -> dict[str, nn.Module]:
        candidates = {"model": self.model, "generator": self.generator, "classifier": self.classifier}
        return {name: module for name, module in candidates.items() if module is not None}

    def set_rates(self, factor: float) -> None:
        for group, peak in zip(self.optimizer.param_groups, self._peak_rates, strict=True):
            group["lr"] = factor * peak

    def encoder(self) -> EncoderNetwork:
        return EncoderNetwork(self.model.backbone, self.model.head)

    def save_model(self, path: Path, state: dict[str, Any]) -> None:
        """What is exported: model and generator as they stand, and the λ that they stand at."""
        share = pulling_share(self.metric_loss_avg.mean, self.alpha) if self.generator else None
        modules = {name: module for name, module in self.modules().items() if name != "classifier"}
        save_tensors(path, module_tensors(modules), {**state, "pulling_share": share})

    def save_checkpoint(self, path: Path, state: dict[str, Any]) -> None:
        """Everything that the next step depends on."""
        windows = {"metric_loss": list(self.metric_loss_avg.values), "generator_loss": list(self.generator_loss_avg.values)}
        tensors = {**module_tensors(self.modules()), **optimizer_tensors(self.optimizer)}
        save_tensors(path, tensors, {**state, "windows": windows})

    def restore_checkpoint(self, path: Path) -> dict[str, Any]:
        tensors, state = load_tensors(path)
        restore_modules(self.modules(), tensors)
        restore_optimizer(self.optimizer, tensors)
        self.metric_loss_avg.values.extend(state["windows"]["metric_loss"])
        self.generator_loss_avg.values.extend(state["windows"]["generator_loss"])
        return state


@dataclass(frozen=True)
class StepLosses:
    """The losses of one step, each with the name of the module that it moves (METHOD: who learns from what).

    Attributes:
        by_module: ``model``: J_metric = w·J_m + (1−w)·J_syn plus the length regulariser; ``generator``: J_gen; ``classifier``:
            cross-entropy of real features. With the plain method, ``model`` alone: J_m plus the regulariser.
        generator_loss: J_gen as its running mean is to see it; None with the plain method.
        figures: what is logged.
    """

    by_module: dict[str, Tensor]
    generator_loss: float | None
    figures: StepFigures


def step_losses(trainee: Trainee, images: Tensor, labels: Tensor, *, config: TrainConfig, autocast: torch.autocast) -> StepLosses:
    """All losses of one batch, from one pass through the backbone.

    Args:
        images: [2N, 3, H, W], anchors first.
        labels: [N] training class of each pair.
    """
    with autocast:
        features, embeddings = trainee.model(images)
    features, embeddings = features.float(), embeddings.float()
    anchors, positives = embeddings.chunk(2)
    real = trainee.loss.function(anchors, positives[None].expand(len(anchors), -1, -1))
    penalty = config.regulariser * embedding_regulariser(anchors, positives)
    if trainee.generator is None or trainee.classifier is None:
        return StepLosses({"model": real + penalty}, None, StepFigures(real.item()))
    share = pulling_share(trainee.metric_loss_avg.mean, trainee.alpha)
    weight = real_weight(trainee.generator_loss_avg.mean, config.beta)
    tuples = synthesize(anchors, positives, generator=trainee.generator, head=trainee.model.head, share=share)
    synthetic = trainee.loss.function(tuples.anchors, tuples.candidates)
    reconstruction, soft = generator_losses(tuples, features, labels, trainee.classifier)
    generation = (reconstruction + soft) / 2
    classification = F.cross_entropy(trainee.classifier(features.detach()), labels.repeat(2))
    metric = weight * real + (1 - weight) * synthetic + penalty
    figures = StepFigures(
        metric_loss=real.item(),
        synthetic_loss=synthetic.item(),
        reconstruction_loss=reconstruction.item(),
        label_loss=soft.item(),
        classifier_loss=classification.item(),
        pulling_share=share,
        real_weight=weight,
    )
    by_module = {"model": metric, "generator": generation, "classifier": classification}
    return StepLosses(by_module, generation.item(), figures)


def update(trainee: Trainee, losses: StepLosses) -> None:
    """Move every module by its own loss and none by another's.

    Each gradient is taken with respect to the loss's own parameters alone, so that nothing can leak, while that of J_syn still
    runs back through the generator and the pull into backbone and head.

    Raises:
        HdmlError: a gradient is not finite; nothing has moved.
    """
    modules = trainee.modules()
    for name, loss in losses.by_module.items():
        parameters = list(modules[name].parameters())
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        if not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
            raise HdmlError(
                f"Gradients must be finite, but training has diverged (the loss of the {name} is {loss.item():.4g}); "
                "start again with a lower --lr."
            )
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
    trainee.optimizer.step()
    trainee.metric_loss_avg.add(losses.figures.metric_loss)
    if losses.generator_loss is not None:
        trainee.generator_loss_avg.add(losses.generator_loss)


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
        losses = step_losses(trainee, channels_last, labels.to(device), config=config, autocast=autocast)
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
        paths = [train_set.paths[index] for index in [*batch.anchors, *batch.positives]]
        return step, photos.batch(paths, (seed, step)), torch.from_numpy(batch.labels)

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
