"""The arms of a comparison by name: a loss, ``+hdml`` or not, and what is changed about it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hdml.config import TrainConfig
from hdml.hardness import VARIANTS, default_alpha
from hdml.metric_losses import LOSSES, loss_spec
from hdml.settings import SETTINGS
from indexing.errors import HdmlError

MODIFIERS: dict[str, tuple[dict[str, Any], str]] = {
    **{name: ({"variants": (name,)}, what) for name, what in VARIANTS.items()},
    "paper": ({"setting": "paper"}, "in the setting of the paper's authors"),
    "re-estimated": ({"reestimate_bn": True}, "BatchNorm statistics taken anew from training photos"),
    "frozen-bn": ({"freeze_bn": True}, "BatchNorm statistics of the backbone kept"),
    "equal-compute": ({}, "as many more steps as a step with HDML costs more"),
    "tuned": ({}, "the best of three strengths, chosen on validation classes with the first seed"),
}
DEFAULT_ARMS = ("untrained", "npair", "npair+hdml", "multi-similarity", "multi-similarity+hdml", "proxy-anchor")
CONTROLS = (
    "npair+hdml no-pull",
    "npair+hdml no-generator",
    "npair+hdml in-statistics",
    "npair re-estimated",
    "npair equal-compute",
    "npair tuned",
)
_STRENGTHS = (1 / 3, 1.0, 3.0)


@dataclass(frozen=True)
class Frozen:
    """How to embed without training: by the starting weights, or by an ONNX file; whitened or not."""

    whiten: bool
    encoder: Path | None = None


@dataclass(frozen=True)
class ArmSpec:
    """One way to train.

    Attributes:
        name: as it is asked for and shown.
        description: in words.
        settings: what it changes, as :func:`hdml.fit.plan_run` takes it.
        frozen: of an arm that does not train.
        equal_compute: whether its steps are lengthened to the time of HDML's.
        tuned: whether its strength is chosen on validation classes.
    """

    name: str
    description: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    frozen: Frozen | None = None
    equal_compute: bool = False
    tuned: bool = False

    @property
    def trains(self) -> bool:
        return self.frozen is None

    @property
    def is_hdml(self) -> bool:
        return self.settings.get("method") == "hdml"

    @property
    def loss(self) -> str:
        return str(self.settings.get("loss", ""))

    @property
    def plain(self) -> str:
        """The name of the arm that is the same without HDML, of one that has it."""
        first, *changes = self.name.split(" ")
        return " ".join([first.removesuffix("+hdml"), *(change for change in changes if change not in VARIANTS)])

    @property
    def slug(self) -> str:
        """The name as part of a folder's name."""
        return re.sub(r"[^\w+.:-]", "_", self.name)


def arm_spec(name: str) -> ArmSpec:
    """The arm of a name such as ``npair+hdml no-pull``.

    Raises:
        HdmlError: the name has an unknown loss or change, or a combination that cannot be.
    """
    name = " ".join(name.split())
    if name.split(" ")[0] in ("untrained", "frozen"):
        return _frozen_arm(name)
    first, *changes = name.split(" ") if name else [""]
    loss, plus, suffix = first.partition("+")
    if loss not in LOSSES or (plus and suffix != "hdml"):
        raise HdmlError(
            f"An arm is untrained, frozen NETWORK, or a loss ({', '.join(LOSSES)}), with +hdml or without, and changes after it "
            f"({', '.join(MODIFIERS)}); got {name!r}."
        )
    spec = loss_spec(loss)
    if plus and not spec.takes_hdml:
        raise HdmlError(f"There is no arm {first}: {spec.refusal}.")
    settings: dict[str, Any] = {"loss": loss, "method": "hdml" if plus else "plain", "variants": ()}
    told = [f"{loss} made hardness-aware" if plus else f"the {loss} loss alone"]
    for change in changes:
        if change not in MODIFIERS:
            raise HdmlError(f"An arm's changes are {', '.join(MODIFIERS)}; got {change!r} in {name!r}.")
        if change in VARIANTS and not plus:
            raise HdmlError(f"{change} is a change of HDML, but {name!r} has none; say {loss}+hdml {change}.")
        given, what = MODIFIERS[change]
        settings |= {**given, "variants": (*settings["variants"], *given.get("variants", ()))}
        told.append(what)
    return ArmSpec(name, "; ".join(told), settings, equal_compute="equal-compute" in changes, tuned="tuned" in changes)


def _frozen_arm(name: str) -> ArmSpec:
    """``untrained``, ``frozen resnet50:imagenet`` or ``frozen FILE.onnx``, each with ``whitened`` behind it or not."""
    kind, *rest = name.split(" ")
    whiten = rest[-1:] == ["whitened"]
    network = " ".join(rest[:-1] if whiten else rest)
    how = ", whitened by the principal components of the training photos" if whiten else ""
    if kind == "untrained":
        if network:
            raise HdmlError(
                f"An untrained arm is untrained or untrained whitened, got {name!r}; other networks are frozen NETWORK."
            )
        return ArmSpec(name, f"features of the starting weights{how}", frozen=Frozen(whiten))
    if network.endswith(".onnx"):
        encoder = Path(network)
        if not encoder.is_file():
            raise HdmlError(f"A frozen arm needs an ONNX file or a torchvision network, but there is no file {network}.")
        return ArmSpec(name, f"embeddings of {encoder.name}{how}", frozen=Frozen(whiten, encoder.resolve()))
    backbone, _, weights = network.partition(":")
    if not backbone:
        raise HdmlError(f"A frozen arm is frozen resnet50:imagenet, frozen resnet18:FILE or frozen FILE.onnx, got {name!r}.")
    settings = {"backbone": backbone, "weights": weights or "imagenet"}
    return ArmSpec(name, f"features of {backbone}{how}", settings, frozen=Frozen(whiten))


def arm_specs(names: Sequence[str]) -> list[ArmSpec]:
    """The arms of some names; raises HdmlError when one is unknown or named twice."""
    specs = [arm_spec(name) for name in names]
    twice = sorted({spec.name for spec in specs if sum(other.name == spec.name for other in specs) > 1})
    if twice:
        raise HdmlError(f"Every arm is compared once, but {twice[0]} is named twice.")
    return specs


def trials(spec: ArmSpec) -> list[dict[str, Any]]:
    """The settings that a tuned arm chooses among, a third, one and three times the default of what makes its loss hard.

    With HDML that is α; without, the price of length for losses that see lengths, else the loss's first option.
    """
    setting = spec.settings.get("setting", "default")
    if spec.is_hdml:
        alpha = default_alpha(setting, spec.loss)
        return [{"alpha": alpha * factor} for factor in _STRENGTHS]
    loss = loss_spec(spec.loss)
    if not loss.normalizes:
        regulariser = SETTINGS[setting].get("regulariser", TrainConfig.regulariser)
        return [{"regulariser": regulariser * factor} for factor in _STRENGTHS]
    option, value = next((name, value) for name, value in loss.options.items() if value)
    return [{"loss_options": {option: value * factor}} for factor in _STRENGTHS]
