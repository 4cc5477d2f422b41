"""The synthesizer: an ONNX file that pulls negatives, generates features and embeds them again, and what it knows of its run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexing.encoder import hdml_metadata, open_session
from indexing.errors import HdmlError
from indexing.tuple_losses import TUPLE_LOSSES

SYNTHESIZER = "synthesizer.onnx"  # its name in a run's and in an index's folder

Vector = NDArray[np.float32]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Stage:
    """λ of the method once so many steps were done."""

    step: int
    share: float


@dataclass(frozen=True)
class Probed:
    """A photo of a probe tuple: its class in training, and the hash of its bytes, by which an index may know it."""

    label: str
    hash: bytes


@dataclass(frozen=True)
class ProbeLook:
    """What had become of the probe tuples once so many steps were done; lists have one value of each tuple.

    Attributes:
        step, share: steps that were done, and λ of the next.
        d_ap, d_an, pulled: distances from the anchor to the positive, the real negative and the pulled one.
        again_ap, reembedded: to the positive and the synthetic, once all are generated and embedded again.
        label_kept: whether the classifier that trained beside the model gave the synthetic the negative's label.
    """

    step: int
    share: float
    d_ap: list[float]
    d_an: list[float]
    pulled: list[float]
    again_ap: list[float]
    reembedded: list[float]
    label_kept: list[bool]


@dataclass(frozen=True)
class Training:
    """What a synthesizer knows of the run that it comes from.

    Attributes:
        steps: in all.
        chosen: steps that were done when its model was.
        stages: λ over the run, earliest first, as the log has it.
        tuples: anchor, positive and negative of each probe tuple; none where none were watched.
        looks: what became of them, earliest first.
    """

    steps: int
    chosen: int
    stages: list[Stage] = field(default_factory=list)
    tuples: list[tuple[Probed, Probed, Probed]] = field(default_factory=list)
    looks: list[ProbeLook] = field(default_factory=list)


class Synthesizer:
    """A run's synthesis, as exported to ``synthesizer.onnx``.

    Attributes:
        pulling_share: λ of the method at the chosen checkpoint; 1 leaves negatives where they are, 0 pulls them to d⁺.
        loss, loss_options: the metric loss, as ``hdml train`` knows it.
        on_sphere: whether it works on unit embeddings, because its loss sees directions alone.
        fingerprint: of the encoder whose embeddings it works on.
        training: of its run; None in files exported before there was such a thing.
    """

    def __init__(self, path: Path) -> None:
        """Raises HdmlError when the file is not a synthesizer of this product."""
        # The network is a few small layers: a GPU would only add the time to start one.
        self._session = open_session(path, device="cpu")
        try:
            about = json.loads(hdml_metadata(self._session, path))
            if "lambda" not in about:
                raise HdmlError(f"{path} must be a synthesizer, but it is another ONNX file of hdml's; export the run again")
            self.pulling_share, self.loss = float(about["lambda"]), str(about["loss"])
            self.fingerprint = str(about["fingerprint"])
            self.on_sphere = bool(about.get("on_sphere", False))  # those of before had no such losses
            self.loss_options: Mapping[str, float] = {k: float(v) for k, v in about.get("loss_options", {}).items()}
            self._tuple_loss = TUPLE_LOSSES[self.loss]
            self.tuple_loss(*np.ones((3, 1, 1), np.float32))  # whether the options are those of the loss
            self.training = _training(about.get("training"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise HdmlError(f"{path} must be a synthesizer, but its metadata is damaged; export the run again") from error

    def synthesize(
        self, anchors: Vectors, positives: Vectors, negatives: Vectors, share: float | None = None
    ) -> tuple[Vectors, Vectors]:
        """Pull each negative towards its anchor, generate from it, and embed the result again.

        Args:
            anchors, positives: [D] or [N, D], of unit length if ``on_sphere``, else unnormalised.
            negatives: [N, D], likewise.
            share: λ, the model's own by default.

        Returns:
            The pulled and the synthetic embeddings, each [N, D], likewise.
        """
        feed = {
            "anchors": np.broadcast_to(anchors, negatives.shape),
            "positives": np.broadcast_to(positives, negatives.shape),
            "negatives": negatives,
            "lambda": np.array(self.pulling_share if share is None else share, np.float32),
        }
        pulled, synthetic = self._session.run(
            ["pulled", "synthetic"], {name: np.ascontiguousarray(value, np.float32) for name, value in feed.items()}
        )
        return pulled, synthetic

    def tuple_loss(self, anchors: Vectors, positives: Vectors, negatives: Vectors) -> NDArray[np.float64]:
        """The run's metric loss of single tuples [N, D]: [N]."""
        return self._tuple_loss(anchors, positives, negatives, **self.loss_options)


def _training(about: dict[str, Any] | None) -> Training | None:
    if about is None:
        return None
    stages = [Stage(int(step), float(share)) for step, share in about["stages"]]
    probes = about.get("probes", {"tuples": [], "looks": []})
    photos = [[Probed(str(one["label"]), bytes.fromhex(one["hash"])) for one in members] for members in probes["tuples"]]
    tuples = [(anchor, positive, negative) for anchor, positive, negative in photos]
    looks = [ProbeLook(**look) for look in probes["looks"]]
    if any(len(values) != len(tuples) for look in looks for values in vars(look).values() if isinstance(values, list)):
        raise ValueError("a look must have a value of each tuple")
    return Training(int(about["steps"]), int(about["chosen"]), stages, tuples, looks)
