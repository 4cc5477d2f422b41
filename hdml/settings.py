"""The two settings: ours, and that of the paper and its authors' code; and how what a user leaves open is decided.

Sources and every difference between the two are in docs/method.md.
"""

from collections.abc import Mapping
from typing import Any

from hdml.metric_losses import loss_spec
from indexing.errors import HdmlError

_BATCH = 64  # photos

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "dimension": 128,
        "backbone_lr": 7e-5,
        "head_lr": 7e-5,
        "generator_lr": 1e-2,
        "classifier_lr": 1e-3,
        "weight_decay": 5e-3,
        "regulariser": 3e-3,
        "warmup": 0.0,
    },
}
"""Fields of :class:`hdml.config.TrainConfig` that a setting sets; those of the authors are the ones for Cars196."""

PAPER_BY_DATA: dict[str, dict[str, Any]] = {
    "cars196": {"beta": 1e4},
    "cub200": {"backbone_lr": 6e-5, "head_lr": 6e-5, "beta": 5e3, "regulariser": 1.5e-2, "weight_decay": 1e-3, "dimension": 256},
    "sop": {
        "backbone_lr": 2e-5,
        "head_lr": 2e-5,
        "generator_lr": 5e-4,
        "beta": 5e4,
        "weight_decay": 9e-3,
        "dimension": 512,
    },
}
"""What the authors' settings for other data sets change."""

SCRATCH_LR = 1e-3
FINE_TUNE_LR = 4e-4
_PAPER_BATCH = 128  # photos
_PAPER_TRIPLETS = 40


def decide(
    *,
    loss: str,
    method: str | None,
    setting: str,
    data_set: str | None,
    lr: float | None,
    from_scratch: bool,
    classes_per_batch: int | None,
    photos_per_class: int | None,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Fields of :class:`hdml.config.TrainConfig` for what a user chose; what is None, or not given, is decided here.

    Args:
        data_set: one of :data:`hdml.public_sets.PUBLISHED`, for some of which the authors have settings of their own.
        given: other fields of the configuration.

    Raises:
        HdmlError: there is no such loss, setting or method, or they do not go together.
    """
    try:
        spec = loss_spec(loss)
    except ValueError as error:
        raise HdmlError(f"--loss: {error}; hdml train --list-losses tells more.") from error
    if setting not in SETTINGS:
        raise HdmlError(f"--setting must be one of {', '.join(SETTINGS)}, got {setting}.")
    method = method or ("hdml" if spec.takes_hdml else "plain")
    if method == "hdml" and not spec.takes_hdml:
        raise HdmlError(
            f"--method hdml does not go with --loss {loss}: {spec.refusal}; say --method plain or choose another loss."
        )
    unknown = sorted(set(given.get("loss_options") or {}) - set(spec.options))
    if unknown:
        options = ", ".join(spec.options) or "none"
        raise HdmlError(f"--loss-option must name an option of {loss} ({options}), got {unknown[0]}.")
    ours = not spec.library
    if photos_per_class not in (None, 2) and (method == "hdml" or ours):
        raise HdmlError(
            f"--photos-per-class must be 2 for {loss} with --method {method}, whose tuples are pairs; got {photos_per_class}."
        )
    photos = photos_per_class or (2 if method == "hdml" else spec.photos_per_class)
    by_data = PAPER_BY_DATA.get(data_set or "", {}) if setting == "paper" else {}
    chosen = {**SETTINGS[setting], **by_data, **{name: value for name, value in given.items() if value is not None}}
    if lr is not None:
        chosen["backbone_lr"] = lr
    elif setting == "default":
        chosen["backbone_lr"] = SCRATCH_LR if from_scratch else FINE_TUNE_LR
    if classes_per_batch is None:
        classes_per_batch = _BATCH // photos
        if setting == "paper":
            classes_per_batch = _PAPER_TRIPLETS if loss == "triplet" else _PAPER_BATCH // photos
    return {
        **chosen,
        "loss": loss,
        "method": method,
        "setting": setting,
        "classes_per_batch": classes_per_batch,
        "photos_per_class": photos,
    }
