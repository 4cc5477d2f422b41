"""Hardness-aware deep metric learning around a tuple loss, for any training loop.

W. Zheng, Z. Chen, J. Lu, J. Zhou, "Hardness-Aware Deep Metric Learning", CVPR 2019 (arXiv:1903.05503).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdml.losses import MetricLoss, embedding_regulariser
from hdml.model import FeatureGenerator
from hdml.synthesis import WindowMean, generator_losses, pulling_share, real_weight, synthesize


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
class StepLosses:
    """The losses of one step by the name of the module that each moves, and moves alone (METHOD: who learns from what).

    Attributes:
        by_module: ``model``: J_metric = w·J_m + (1−w)·J_syn plus the length regulariser; ``generator``: J_gen; ``classifier``:
            cross-entropy of real features. With the plain method, ``model`` alone: J_m plus the regulariser.
        figures: what is logged.
    """

    by_module: dict[str, Tensor]
    figures: StepFigures

    @property
    def total(self) -> Tensor:
        """What to call ``backward`` on."""
        return torch.stack(list(self.by_module.values())).sum()


class HardnessAware(nn.Module):
    """A tuple loss made hardness-aware, with the generator and the classifier that this takes.

    Call it as a loss, call ``backward`` on the total, and give its parameters to an optimiser too. One backward pass serves all:
    the graph is cut so that J_metric reaches what made features and embeddings, and the head, but not the generator that it runs
    through; J_gen reaches the generator alone, and the cross-entropy of real features the classifier alone.

    λ and the weight of the real tuples follow the running means of J_m and J_gen over the last steps, which are buffers and so
    part of ``state_dict``.

    Args:
        loss: from :func:`hdml.losses.metric_loss`.
        features: F, length of the backbone's features.
        dimension: D, length of the embeddings.
        classes: that labels can name, from 0.
        window: steps of the running means; the paper takes an epoch.
        alpha: pulling factor, in units of the loss at chance (docs/decisions/scale-free-factors.md).
        beta: weight factor of the synthetic tuples, in units of J_gen.
        regulariser: weight of the squared lengths of the embeddings.
    """

    def __init__(
        self,
        loss: MetricLoss,
        *,
        features: int,
        dimension: int,
        classes: int,
        window: int = 64,
        alpha: float = 0.25,
        beta: float = 0.1,
        regulariser: float = 0.1,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.alpha = alpha
        self.beta = beta
        self.regulariser = regulariser
        self.generator = FeatureGenerator(dimension, features)
        self.classifier = nn.Linear(features, classes)
        self.metric_loss_avg = WindowMean(window)
        self.generator_loss_avg = WindowMean(window)

    @property
    def pulling_share(self) -> float:
        """λ of the next step."""
        return pulling_share(self.metric_loss_avg.mean, self.alpha * self.loss.at_chance)

    def forward(self, features: Tensor, embeddings: Tensor, labels: Tensor, *, head: nn.Module) -> StepLosses:
        """All losses of one batch of pairs; in training, the running means move on.

        Args:
            features: [2N, F] y = f(x) of the backbone, two photos of each of N classes in any order.
            embeddings: [2N, D] z = g(y) of the head, not normalised.
            labels: [2N] class of each photo.
            head: g, any module from [B, F] to [B, D]; embeds the synthetic features, and its running statistics, if it has any,
                do not learn of them (docs/decisions/batchnorm.md).

        Raises:
            ValueError: a class has not exactly two photos.
        """
        first, second = pairs_of(labels)
        features = torch.cat([features[first], features[second]]).float()
        anchors, positives = embeddings[first].float(), embeddings[second].float()
        share = self.pulling_share
        weight = real_weight(self.generator_loss_avg.mean, self.beta)
        real = real_loss(self.loss, anchors, positives)
        tuples = synthesize(anchors, positives, generator=self.generator, head=head, share=share)
        synthetic = self.loss.function(tuples.anchors, tuples.candidates)
        reconstruction, soft = generator_losses(
            tuples.rows, features, labels[first], generator=self.generator, classifier=self.classifier
        )
        generation = (reconstruction + soft) / 2
        penalty = self.regulariser * embedding_regulariser(anchors, positives)
        classification = F.cross_entropy(self.classifier(features.detach()), labels[first].repeat(2))
        figures = StepFigures(
            metric_loss=real.item(),
            synthetic_loss=synthetic.item(),
            reconstruction_loss=reconstruction.item(),
            label_loss=soft.item(),
            classifier_loss=classification.item(),
            pulling_share=share,
            real_weight=weight,
        )
        if self.training:
            self.metric_loss_avg.add(figures.metric_loss)
            self.generator_loss_avg.add(generation.item())
        metric = weight * real + (1 - weight) * synthetic + penalty
        return StepLosses({"model": metric, "generator": generation, "classifier": classification}, figures)


def real_loss(loss: MetricLoss, anchors: Tensor, positives: Tensor) -> Tensor:
    """J_m of N real pairs [N, D]: every anchor's candidates are the N positives."""
    return loss.function(anchors, positives[None].expand(len(anchors), -1, -1))


def pairs_of(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Positions [N] of the first and of the second photo of each class in labels [2N], in the order of the first ones.

    Raises:
        ValueError: a class has not exactly two photos.
    """
    same = labels[:, None] == labels[None]
    counts = same.sum(1)
    if not bool((counts == 2).all()):
        odd = int(torch.nonzero(counts != 2)[0, 0])
        raise ValueError(
            f"every class of a batch must have exactly 2 photos, but class {labels[odd].item()} has {counts[odd].item()}; "
            "draw pairs, for example with pytorch-metric-learning's MPerClassSampler(labels, m=2, batch_size=...)"
        )
    partner = (same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)).int().argmax(1)
    first = torch.nonzero(partner > torch.arange(len(labels), device=labels.device))[:, 0]
    return first, partner[first]
