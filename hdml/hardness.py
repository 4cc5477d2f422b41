"""Hardness-aware deep metric learning around a metric loss, for any training loop.

W. Zheng, Z. Chen, J. Lu, J. Zhou, "Hardness-Aware Deep Metric Learning", CVPR 2019 (arXiv:1903.05503). Where the two settings
differ from the equations, the authors' code and each other is listed in docs/method.md.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdml.averages import BlockMean, WindowMean
from hdml.diagnostics import StepFigures, read_back, tuple_figures
from hdml.losses import embedding_regulariser, label_loss, length, reconstruction_loss
from hdml.metric_losses import LossSpec, MetricLoss
from hdml.model import FeatureGenerator
from hdml.synthesis import (
    SyntheticTuples,
    generate,
    leaving_no_trace,
    pulling_share,
    real_weight,
    residual_features,
    synthesize,
    synthetic_members,
)
from hdml.tuples import Tuples, pair_tuples

Setting = Literal["default", "paper"]
VARIANTS = {
    "no-pull": "λ = 1: negatives are generated and embedded again where they are",
    "no-generator": "pulled negatives meet the loss as they are, without generator and head",
    "in-statistics": "the head's running statistics learn from synthetic rows too, as in the authors' code",
    "out-of-statistics": "the head's running statistics learn from real rows alone",
    "consistent": "the generator is also taught that a re-embedded negative lies as far as it was pulled",
    "residual": "synthetic features are the real negative's plus the generator's step from z to ẑ",
    "adaptive": "λ is set so that half of the synthetic negatives lie nearer than the positive",
    "label-bound": "every negative is pulled only as far as the features generated from it keep its label",
}
"""Ways to leave something out of HDML, to see what it did, or to try something with it; the first four are controls."""
_AUTHORS_LABEL_FACTOR = 1e4
_VIOLATIONS = 0.5
_ADAPTIVE_STEP = 0.02
_SHARES_TRIED = 5  # of a label-bound negative, from λ to 1


@dataclass(frozen=True)
class StepLosses:
    """The losses of one step by the name of the module that each moves, and moves alone (METHOD: who learns from what).

    Attributes:
        by_module: ``model``: J_metric = w·J_m + (1−w)·J_syn plus the length regulariser; ``generator``: J_gen; ``classifier``:
            cross-entropy of real features. With the plain method, ``model`` alone: J_m plus the regulariser.
        scalars: the fields of ``figures``, on the device.
        embeddings: [B, D] of the batch.
    """

    by_module: dict[str, Tensor]
    scalars: dict[str, Tensor]
    embeddings: Tensor

    @cached_property
    def figures(self) -> StepFigures:
        """What is logged; asking for it waits for the device."""
        return StepFigures(**read_back([self.scalars])[0])

    @property
    def total(self) -> Tensor:
        """What to call ``backward`` on."""
        return torch.stack(list(self.by_module.values())).sum()


class HardnessAware(nn.Module):
    """A metric loss made hardness-aware, with the generator and the classifier that this takes.

    Call it as a loss, call ``backward`` on the total, and give its parameters to an optimiser too. One backward pass serves all:
    the graph is cut so that J_metric reaches what made features and embeddings, and the head, but not the generator that it runs
    through; J_gen reaches the generator alone, and the cross-entropy of real features the classifier alone.

    λ and the weight of the real tuples follow the running means of J_m and J_gen, which are buffers and so part of
    ``state_dict``.

    Args:
        loss: from :func:`hdml.metric_losses.metric_loss`.
        features: F, length of the backbone's features.
        dimension: D, length of the embeddings.
        classes: that labels can name, from 0.
        setting: ``default``: α in units of the loss at chance, J_gen of shares, sliding means of the raw losses (docs/decisions/
            scale-free-factors.md); ``paper``: reductions, means and J_avg of the authors' code.
        window: steps of the sliding means; the paper takes an epoch. The authors' code takes blocks of 64.
        alpha: pulling factor; None takes 0.25, or the paper's 90 for N-pair and 7 for any other loss.
        beta: weight factor of the synthetic tuples; None takes 0.1, or the authors' 1e4 for Cars196.
        regulariser: weight of the squared lengths of the embeddings, for losses that see lengths.
        variants: of ``VARIANTS``.

    Raises:
        ValueError: the loss has no form over tuples, or a variant is unknown.
    """

    def __init__(
        self,
        loss: MetricLoss,
        *,
        features: int,
        dimension: int,
        classes: int,
        setting: Setting = "default",
        window: int = 64,
        alpha: float | None = None,
        beta: float | None = None,
        regulariser: float = 0.1,
        variants: Collection[str] = (),
    ) -> None:
        super().__init__()
        if not loss.spec.takes_hdml:
            raise ValueError(f"{loss.spec.name} cannot be made hardness-aware: {loss.spec.refusal}")
        unknown = sorted(set(variants) - set(VARIANTS))
        if unknown:
            raise ValueError(f"a variant must be one of {', '.join(VARIANTS)}, got {unknown[0]!r}")
        self.loss = loss
        self.paper = setting == "paper"
        self.alpha = alpha if alpha is not None else default_alpha(setting, loss.spec.name)
        self.beta = beta if beta is not None else default_beta(setting)
        self.regulariser = regulariser if has_regulariser(loss.spec, paper=self.paper) else 0.0
        self.variants = frozenset(variants)
        self.traced = "out-of-statistics" not in variants if self.paper else "in-statistics" in variants
        self.generator = FeatureGenerator(dimension, features)
        self.classifier = nn.Linear(features, classes)
        self.metric_loss_avg = BlockMean() if self.paper else WindowMean(window)
        self.generator_loss_avg = BlockMean() if self.paper else WindowMean(window)
        self.adapted_share: Tensor
        self.register_buffer("adapted_share", torch.ones((), dtype=torch.float64))

    @property
    def pulling_share(self) -> float:
        """λ of the next step; asking for it waits for the device."""
        return self._pulling_share().item()

    def _pulling_share(self) -> Tensor:
        if "no-pull" in self.variants:
            return torch.ones_like(self.adapted_share)
        if "adaptive" in self.variants:
            return self.adapted_share.clone()
        return pulling_share(self.metric_loss_avg.mean, self.alpha * (1.0 if self.paper else self.loss.at_chance))

    def forward(
        self,
        features: Tensor,
        embeddings: Tensor,
        labels: Tensor,
        *,
        head: nn.Module,
        tuples: Tuples | None = None,
        penalty: Tensor | float = 0.0,
    ) -> StepLosses:
        """All losses of one batch; in training, the running means move on.

        Args:
            features: [B, F] y = f(x) of the backbone; two photos of each of N classes in any order, unless tuples are given.
            embeddings: [B, D] z = g(y) of the head, not normalised.
            labels: [B] class of each photo.
            head: g, any module from [B, F] to [B, D]; embeds the synthetic features.
            tuples: which photos are whose positives and negatives; :func:`hdml.tuples.pair_tuples` when left out.
            penalty: what else J_metric holds, such as weight decay; the paper setting weighs and logs it with J_m.

        Raises:
            ValueError: a class has not exactly two photos.
        """
        tuples = tuples or pair_tuples(labels)
        # Whatever the autocast, everything from here on is float32, or float64 where that is asked for.
        wide = torch.promote_types(embeddings.dtype, torch.float32)
        features, embeddings = features.to(wide), embeddings.to(wide)
        share = self._pulling_share()
        real_share = real_weight(self.generator_loss_avg.mean, self.beta)
        weight, synthetic_weight = real_share.to(wide), (1 - real_share).to(wide)
        real = self.loss(embeddings, labels, tuples)
        seen = F.normalize(embeddings) if self.loss.spec.normalizes else embeddings
        members = tuples.of(seen)
        shares = self._bearable_shares(seen, features, labels, tuples, share) if "label-bound" in self.variants else share
        synthetic = self._synthesize(seen, features, tuples, head, shares)
        synthetic_loss = self._tuple_loss(synthetic.anchors, synthetic.positives, synthetic.negatives)
        by_name = self._generator_losses(synthetic, features, labels, tuples, head)
        penalty = penalty + self.regulariser * embedding_regulariser(*tuples.of(embeddings)[:2])
        classification = F.cross_entropy(self.classifier(features.detach()), labels)
        if self.paper:
            logged = weight * (real + penalty)
            metric = logged + synthetic_weight * (synthetic_loss + self._synthetic_penalty(synthetic))
        else:
            # The loss over tuples, whose divisor is fixed; for our own losses it is J_m itself.
            with torch.no_grad():
                logged = self._tuple_loss(*members) if self.loss.spec.library else real
            metric = weight * real + synthetic_weight * synthetic_loss + penalty
        owners = labels[tuples.negatives]
        scalars = {
            "metric_loss": real.detach(),
            "synthetic_loss": synthetic_loss.detach(),
            "reconstruction_loss": by_name["reconstruction"].detach(),
            "label_loss": by_name["label"].detach(),
            "classifier_loss": classification.detach(),
            "pulling_share": share,
            "real_weight": real_share,
            **tuple_figures(members, synthetic, owners, by_name["logits"], direction=self.loss.spec.normalizes),
        }
        if self.training:
            self.metric_loss_avg.add(logged)
            self.generator_loss_avg.add(by_name["total"])
            step = _ADAPTIVE_STEP * (scalars["violations"] - _VIOLATIONS)
            self.adapted_share.copy_((self.adapted_share + step).clamp(0.0, 1.0))
        return StepLosses({"model": metric, "generator": by_name["total"], "classifier": classification}, scalars, embeddings)

    @torch.no_grad()
    def look(
        self, features: Tensor, embeddings: Tensor, labels: Tensor, *, head: nn.Module, tuples: Tuples
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """λ, and what becomes of tuples of one negative each, without learning from them; in evaluation mode, if it is called so.

        Args:
            features, embeddings, labels, head, tuples: as for a batch.

        Returns:
            λ of the next step, and [N] each: ``d_ap``, ``d_an`` and ``pulled``, distances from the anchors; ``again_ap`` and
            ``reembedded``, those of positives and synthetics from the anchors once all are generated and embedded again; and
            ``label_kept``, whether the classifier gives the synthetic's features the negative's label.
        """
        share = self._pulling_share()
        seen = F.normalize(embeddings) if self.loss.spec.normalizes else embeddings
        shares = self._bearable_shares(seen, features, labels, tuples, share) if "label-bound" in self.variants else share
        synthetic = self._synthesize(seen, features, tuples, head, shares)
        *_, generated = generate(seen, tuples, generator=self.generator, share=shares, **self._generation(features))
        named = self.classifier(generated[len(seen) :]).argmax(1)
        members = synthetic.anchors, synthetic.positives, synthetic.negatives[:, 0]
        again = [F.normalize(rows) for rows in members] if self.loss.spec.normalizes else members
        anchors, positives, negatives = tuples.of(seen)
        return share, {
            "d_ap": (positives - anchors).norm(dim=1),
            "d_an": (negatives[:, 0] - anchors).norm(dim=1),
            "pulled": (synthetic.pulled[:, 0] - anchors).norm(dim=1),
            "again_ap": (again[1] - again[0]).norm(dim=1),
            "reembedded": (again[2] - again[0]).norm(dim=1),
            "label_kept": named == labels[tuples.negatives[:, 0]],
        }

    def _tuple_loss(self, anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        assert self.loss.tuple_loss is not None
        return self.loss.tuple_loss(anchors, positives, negatives)

    def _synthetic_penalty(self, synthetic: SyntheticTuples) -> Tensor:
        """The length regulariser of J_syn in the authors' code, whose second mean is over positives and negatives."""
        compared = torch.cat([synthetic.positives, synthetic.negatives.flatten(0, 1)])
        return self.regulariser * embedding_regulariser(synthetic.anchors, compared)

    @torch.no_grad()
    def _bearable_shares(self, seen: Tensor, features: Tensor, labels: Tensor, tuples: Tuples, share: Tensor) -> Tensor:
        """λ of every negative [N, M, 1]: the least that was tried, from ``share`` to 1, with which it keeps its label, else 1."""
        owners = labels[tuples.negatives]
        shares = torch.ones(owners.shape, dtype=seen.dtype, device=seen.device)
        for part in range(_SHARES_TRIED):
            tried = 1 - (1 - share) * part / (_SHARES_TRIED - 1)
            *_, generated = generate(seen, tuples, generator=self.generator, share=tried, **self._generation(features))
            named = self.classifier(generated[len(seen) :]).argmax(1).reshape(owners.shape)
            shares = torch.where(named == owners, tried.to(shares.dtype), shares)
        return shares[..., None]

    def _generation(self, features: Tensor) -> dict[str, Any]:
        """How this loss and these variants pull and generate."""
        return {
            "on_sphere": self.loss.spec.normalizes,
            "residual_of": features if "residual" in self.variants else None,
        }

    def _synthesize(self, seen: Tensor, features: Tensor, tuples: Tuples, head: nn.Module, share: Tensor) -> SyntheticTuples:
        synthetic = synthesize(
            seen,
            tuples,
            generator=self.generator,
            head=head,
            share=share,
            trace=self.traced,
            **self._generation(features),
        )
        if "no-generator" not in self.variants:
            return synthetic
        anchors, positives, _ = tuples.of(seen)
        return SyntheticTuples(synthetic.pulled, synthetic.rows, anchors, positives, synthetic.pulled)

    def _generator_losses(
        self, synthetic: SyntheticTuples, features: Tensor, labels: Tensor, tuples: Tuples, head: nn.Module
    ) -> dict[str, Tensor]:
        """J_recon, J_soft and J_gen (section 3.3, equations 8–10), whose gradients reach the generator alone, and its logits.

        J_soft is the mean of two means, over anchors and over what they are compared with, as in the authors' code for N-pair
        (there the sum); in the paper setting, triplets have one mean.
        """
        count, real = len(tuples.anchors), features.detach()
        generated = self.generator(synthetic.rows.detach())
        kept = residual_features(generated, real, tuples) if "residual" in self.variants else generated
        members = kept[synthetic_members(tuples, len(kept))]
        logits = F.linear(members, self.classifier.weight.detach(), self.classifier.bias.detach())
        owners = torch.cat([labels[tuples.anchors], labels[tuples.positives], labels[tuples.negatives].flatten()])
        if self.paper:
            reconstruction = (real - generated[: len(real)]).square().sum()
            if self.loss.spec.name == "npair":
                soft = F.cross_entropy(logits[:count], owners[:count]) + F.cross_entropy(logits[count:], owners[count:])
            else:
                soft = F.cross_entropy(logits, owners)
            total = 0.5 * reconstruction + 0.5 * _AUTHORS_LABEL_FACTOR * soft
        else:
            reconstruction = reconstruction_loss(real, generated[: len(real)])
            soft = (label_loss(logits[:count], owners[:count]) + label_loss(logits[count:], owners[count:])) / 2
            total = (reconstruction + soft) / 2
        if "consistent" in self.variants:
            total = total + self._inconsistency(synthetic, members, tuples, head)
        return {"reconstruction": reconstruction, "label": soft, "total": total, "logits": logits[2 * count :].detach()}

    def _inconsistency(self, synthetic: SyntheticTuples, members: Tensor, tuples: Tuples, head: nn.Module) -> Tensor:
        """Mean squared error of the re-embedded distances, as a share of the pulled ones; moves the generator alone."""
        count = len(tuples.anchors)
        embedded = leaving_no_trace(head, members, frozen=True)
        embedded = F.normalize(embedded) if self.loss.spec.normalizes else embedded
        again = length(embedded[:count, None] - embedded[2 * count :].reshape(*tuples.negatives.shape, -1))
        wanted = length(synthetic.rows[tuples.anchors][:, None] - synthetic.pulled).detach()
        return (again / wanted.clamp_min(1e-6) - 1).square().mean()


def has_regulariser(spec: LossSpec, *, paper: bool) -> bool:
    """Whether embeddings' lengths have a price: with losses that see them; in the paper setting with N-pair alone."""
    return spec.name == "npair" if paper else not spec.normalizes


def default_alpha(setting: str, loss: str) -> float:
    """0.25 in units of the loss at chance; in the paper setting 90 for N-pair and 7 for triplet (section 4.2)."""
    if setting == "default":
        return 0.25
    return 90.0 if loss == "npair" else 7.0


def default_beta(setting: str) -> float:
    """0.1 in units of J_gen; in the paper setting 1e4, the authors' for Cars196."""
    return 0.1 if setting == "default" else 1e4
