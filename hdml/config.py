"""Everything that decides the outcome of a run."""

from dataclasses import dataclass, field


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
