"""What learns in a run: its modules, their losses over one batch, and the step that moves them."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hdml.averages import WindowMean
from hdml.checkpoint import (
    load_tensors,
    module_tensors,
    optimizer_tensors,
    restore_modules,
    restore_optimizer,
    save_tensors,
)
from hdml.config import TrainConfig
from hdml.diagnostics import read_back
from hdml.distributed import ALONE, Processes
from hdml.gradient_cache import features_in_chunks
from hdml.hardness import HardnessAware, StepLosses, has_regulariser
from hdml.losses import embedding_regulariser
from hdml.metric_losses import MetricLoss, metric_loss
from hdml.model import Backbone, EmbeddingModel, EncoderNetwork, freeze_batchnorm
from hdml.tuples import Tuples, pair_tuples, triplet_tuples
from hdml.weights import load_backbone
from indexing.errors import HdmlError


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


def check_gradients(trainee: Trainee, step: int) -> None:
    """Raise HdmlError when a gradient is not finite; where one was not in an earlier step, those after it are not either."""
    gradients = {name: [p.grad for p in parameters if p.grad is not None] for name, parameters in trainee.learning.items()}
    norms = read_back([{name: torch.nn.utils.get_total_norm(found) for name, found in gradients.items()}])[0]
    for name, norm in norms.items():
        if not math.isfinite(norm):
            raise HdmlError(
                f"Gradients must be finite, but at step {step + 1} that of the {name} has the length {norm}: training has "
                "diverged; start again with a lower --lr."
            )


def choose_autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the device computes in it; elsewhere a context that changes nothing."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)
