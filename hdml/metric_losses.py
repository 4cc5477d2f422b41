"""The metric losses by name: our own tuple losses, and the rivals that pytorch-metric-learning has, with defaults and sources."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hdml.losses import (
    angular_loss,
    contrastive_loss,
    margin_loss,
    multi_similarity_loss,
    npair_loss,
    triplet_loss,
)
from hdml.tuples import Tuples, pair_tuples

TupleLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
_NO_TUPLES = "it compares every photo with learned proxies, so that no synthetic sample has an anchor to be pulled towards"
_ALL_AT_ONCE = "it {what}, so that an anchor would meet the synthetic samples of others"


@dataclass(frozen=True)
class LossSpec:
    """What there is to know of a loss before a batch is seen.

    Attributes:
        source: the paper, and where the defaults come from.
        library: name of its class in pytorch_metric_learning.losses; empty for our own.
        miner: name and arguments of its class in pytorch_metric_learning.miners.
        shared: arguments of the loss that its miner takes too.
        squared: whether both measure squared distances.
        options: what ``--loss-option`` sets, with the defaults.
        tuple_loss: the loss over tuples, which HDML needs.
        refusal: without one, why.
        photos_per_class: how many photos of a class a batch holds.
        normalizes: whether it sees directions alone.
        has_proxies: whether it has parameters, for which it is told classes and dimension.
    """

    name: str
    source: str
    library: str = ""
    miner: tuple[str, Mapping[str, Any]] | None = None
    shared: tuple[str, ...] = ()
    squared: bool = False
    options: Mapping[str, float] = field(default_factory=dict)
    tuple_loss: Callable[..., Tensor] | None = None
    refusal: str = ""
    photos_per_class: int = 2
    normalizes: bool = True
    has_proxies: bool = False

    @property
    def takes_hdml(self) -> bool:
        return self.tuple_loss is not None


_SPECS = (
    LossSpec("npair", "Sohn, NIPS 2016; over all other classes of the batch", tuple_loss=npair_loss, normalizes=False),
    LossSpec(
        "triplet",
        "all triplets of the batch's pairs on squared distances; margin of HDML, CVPR 2019",
        options={"margin": 1.0},
        tuple_loss=triplet_loss,
        normalizes=False,
    ),
    LossSpec(
        "triplet-semihard",
        "Schroff et al., CVPR 2015; its margin and squared distances of unit embeddings",
        library="TripletMarginLoss",
        miner=("TripletMarginMiner", {"type_of_triplets": "semihard"}),
        shared=("margin", "distance"),
        squared=True,
        options={"margin": 0.2},
        refusal="its miner chooses among the real negatives, and a pulled one is no longer semi-hard",
        photos_per_class=4,
    ),
    LossSpec(
        "triplet-hard",
        "Hermans et al., arXiv:1703.07737; batch-hard, margin of the library's TripletMarginLoss",
        library="TripletMarginLoss",
        miner=("BatchHardMiner", {}),
        options={"margin": 0.05},
        refusal="its miner keeps one negative of each anchor, which HDML would pull as well as all others",
        photos_per_class=4,
    ),
    LossSpec(
        "contrastive",
        "Hadsell et al., CVPR 2006; margins of the library",
        library="ContrastiveLoss",
        options={"pos_margin": 0.0, "neg_margin": 1.0},
        tuple_loss=contrastive_loss,
    ),
    LossSpec(
        "lifted",
        "Oh Song et al., CVPR 2016; margins of the library",
        library="LiftedStructureLoss",
        options={"neg_margin": 1.0, "pos_margin": 0.0},
        refusal=_ALL_AT_ONCE.format(what="sums over the negatives of the positive too"),
    ),
    LossSpec(
        "angular",
        "J. Wang et al., ICCV 2017; 40 degrees as in the library",
        library="AngularLoss",
        options={"alpha": 40.0},
        tuple_loss=angular_loss,
    ),
    LossSpec(
        "margin",
        "Wu et al., ICCV 2017; their margin and boundary, distance-weighted sampling",
        library="MarginLoss",
        miner=("DistanceWeightedMiner", {"cutoff": 0.5, "nonzero_loss_cutoff": 1.4}),
        options={"margin": 0.2, "beta": 1.2},
        tuple_loss=margin_loss,
        photos_per_class=4,
    ),
    LossSpec(
        "histogram",
        "Ustinova and Lempitsky, NIPS 2016; 100 bins as in the library",
        library="HistogramLoss",
        options={"n_bins": 100},
        refusal=_ALL_AT_ONCE.format(what="compares the distributions of all pairs of the batch"),
        photos_per_class=4,
    ),
    LossSpec(
        "multi-similarity",
        "X. Wang et al., CVPR 2019; scales of the paper, the library's miner with the paper's ε",
        library="MultiSimilarityLoss",
        miner=("MultiSimilarityMiner", {"epsilon": 0.1}),
        options={"alpha": 2.0, "beta": 50.0, "base": 0.5},
        tuple_loss=multi_similarity_loss,
        photos_per_class=4,
    ),
    LossSpec(
        "supcon",
        "Khosla et al., NeurIPS 2020; temperature of the paper",
        library="SupConLoss",
        options={"temperature": 0.1},
        refusal=_ALL_AT_ONCE.format(what="has every photo of the batch in the denominator of every anchor"),
        photos_per_class=4,
    ),
    LossSpec(
        "ntxent",
        "T. Chen et al., ICML 2020, with classes for views; temperature of the library",
        library="NTXentLoss",
        options={"temperature": 0.07},
        refusal=_ALL_AT_ONCE.format(what="has every other photo of the batch in the denominator of every pair"),
    ),
    LossSpec(
        "circle",
        "Sun et al., CVPR 2020; relaxation and scale of the library",
        library="CircleLoss",
        options={"m": 0.4, "gamma": 80.0},
        refusal="its weights depend on how far each similarity is from its optimum, which pulling would set",
        photos_per_class=4,
    ),
    LossSpec(
        "proxy-nca",
        "Movshovitz-Attias et al., ICCV 2017; softmax scale of the library",
        library="ProxyNCALoss",
        options={"softmax_scale": 1.0},
        refusal=_NO_TUPLES,
        has_proxies=True,
    ),
    LossSpec(
        "proxy-anchor",
        "Kim et al., CVPR 2020; margin and scale of the paper",
        library="ProxyAnchorLoss",
        options={"margin": 0.1, "alpha": 32.0},
        refusal=_NO_TUPLES,
        has_proxies=True,
    ),
    LossSpec(
        "soft-triple",
        "Qian et al., ICCV 2019; centres and scales of the library",
        library="SoftTripleLoss",
        options={"centers_per_class": 10, "la": 20.0, "gamma": 0.1, "margin": 0.01},
        refusal=_NO_TUPLES,
        has_proxies=True,
    ),
    LossSpec(
        "arcface",
        "Deng et al., CVPR 2019; 28.6 degrees and scale 64, as in the paper",
        library="ArcFaceLoss",
        options={"margin": 28.6, "scale": 64.0},
        refusal=_NO_TUPLES,
        has_proxies=True,
    ),
)
LOSSES: dict[str, LossSpec] = {spec.name: spec for spec in _SPECS}


def loss_spec(name: str) -> LossSpec:
    """The entry of ``LOSSES``; raises ValueError with the known names when there is none."""
    if name not in LOSSES:
        raise ValueError(f"the loss must be one of {', '.join(LOSSES)}, got {name!r}")
    return LOSSES[name]


class MetricLoss(nn.Module):
    """A metric loss on batches of embeddings, and on tuples where it has a form for them.

    Attributes:
        spec: its entry of ``LOSSES``.
        at_chance: the tuple loss of embeddings that carry no information, the unit of α; 0 without a tuple loss.
    """

    def __init__(
        self, spec: LossSpec, options: Mapping[str, float], *, classes_per_batch: int, classes: int, dimension: int
    ) -> None:
        super().__init__()
        self.spec = spec
        self.tuple_loss: TupleLoss | None = spec.tuple_loss and functools.partial(spec.tuple_loss, **options)
        self.at_chance = chance_value(self.tuple_loss, classes_per_batch) if self.tuple_loss else 0.0
        self._library: nn.Module | None = None
        self._miner: nn.Module | None = None
        if spec.library:
            self._library, self._miner = _from_library(spec, options, classes, dimension)

    def forward(self, embeddings: Tensor, labels: Tensor, tuples: Tuples | None = None) -> Tensor:
        """J_m of a batch, raw and unweighted: embeddings [B, D] as the head gives them, labels [B].

        Args:
            tuples: for our own losses, which photos form tuples; those of :func:`hdml.tuples.pair_tuples` when left out.
        """
        if self._library is None:
            assert self.tuple_loss is not None
            return self.tuple_loss(*(tuples or pair_tuples(labels)).of(embeddings))
        mined = self._miner(embeddings, labels) if self._miner is not None else None
        loss: Tensor = self._library(embeddings, labels, mined)
        return loss


def metric_loss(
    name: str,
    *,
    classes_per_batch: int,
    classes: int = 0,
    dimension: int = 0,
    options: Mapping[str, float] | None = None,
    summed: bool = False,
) -> MetricLoss:
    """The metric loss of a name in ``LOSSES``.

    Args:
        classes_per_batch: N, for the value at chance.
        classes, dimension: of the training set and of the embeddings, for losses with proxies.
        options: of the loss's own, over its defaults.
        summed: the triplet loss as the authors of HDML sum it; others have no such form.

    Raises:
        ValueError: unknown name or option, a sum of another loss than triplet,
            or a loss with proxies that is not told the classes and the dimension.
    """
    spec = loss_spec(name)
    unknown = sorted(set(options or {}) - set(spec.options))
    if unknown:
        raise ValueError(f"{name} has the options {', '.join(spec.options) or '(none)'}, got {unknown[0]!r}")
    if spec.has_proxies and not (classes and dimension):
        raise ValueError(f"{name} has a proxy for every class and needs classes and dimension, got {classes} and {dimension}")
    chosen = {**spec.options, **(options or {})}
    if summed:
        if name != "triplet":
            raise ValueError(f"triplet alone can be summed over its tuples, got {name!r}")
        chosen["summed"] = True
    return MetricLoss(spec, chosen, classes_per_batch=classes_per_batch, classes=classes, dimension=dimension)


def chance_value(tuple_loss: TupleLoss, classes: int) -> float:
    """The loss when embeddings tell nothing: of unit vectors that are all at right angles, N classes of two photos each."""
    rows = torch.eye(2 * classes, dtype=torch.float64)
    return tuple_loss(*pair_tuples(torch.arange(classes).repeat(2)).of(rows)).item()


def _from_library(
    spec: LossSpec, options: Mapping[str, float], classes: int, dimension: int
) -> tuple[nn.Module, nn.Module | None]:
    from pytorch_metric_learning import distances, losses, miners  # takes seconds, and our own losses do without

    arguments: dict[str, Any] = {
        # An option whose default is a whole number is a count.
        key: int(value) if isinstance(spec.options[key], int) else value
        for key, value in options.items()
    }
    if spec.has_proxies:
        arguments |= {"num_classes": classes, "embedding_size": dimension}
    if spec.squared:
        arguments["distance"] = distances.LpDistance(power=2)
    loss: nn.Module = getattr(losses, spec.library)(**arguments)
    if spec.miner is None:
        return loss, None
    name, settings = spec.miner
    miner: nn.Module = getattr(miners, name)(**settings, **{key: arguments[key] for key in spec.shared})
    return loss, miner
