"""Where a backbone's starting weights come from: torchvision's download, a local file, or nowhere."""

import pickle
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hdml.model import Backbone, build_backbone
from indexing.errors import HdmlError

MIN_MATCHED = 0.95
"""Share of the backbone's tensors that a weights file must provide."""
_PROBE_SECONDS = 5
_CLASSIFIER_PREFIXES = ("fc.", "classifier.", "head.", "heads.", "aux1.", "aux2.", "AuxLogits.")


class WeightsUnavailable(HdmlError):
    """ImageNet weights that are neither on disk nor to be had from the network."""


@dataclass(frozen=True)
class WeightsFile:
    """Where torchvision keeps a network's ImageNet weights: the address and the file on this machine."""

    url: str
    path: Path


def load_backbone(name: str, weights: str, *, image_size: int) -> Backbone:
    """A backbone with its starting weights.

    Args:
        name: a torchvision classification network.
        weights: ``none`` (random, from torch's global generator), ``imagenet``, or the path of a ``.safetensors`` or
            ``.pth``/``.pt`` state dict of the same network; a classifier in it is ignored.
        image_size: side of the square input in pixels.

    Raises:
        WeightsUnavailable: ``imagenet`` while offline, with nothing on disk.
        HdmlError: unknown network, or a file that cannot be read or does not fit.
    """
    backbone = build_backbone(name, image_size=image_size, pretrained_input=weights != "none")
    if weights == "none":
        return backbone
    state = _imagenet_state(name) if weights == "imagenet" else _read_state(Path(weights))
    _load_matching(backbone, state, source=f"{name} ImageNet weights" if weights == "imagenet" else weights)
    return backbone


def imagenet_file(name: str) -> WeightsFile:
    """The address of torchvision's ImageNet weights of a network and where they lie, or would lie, on this machine."""
    url = str(torchvision.models.get_model_weights(name).DEFAULT.url)
    return WeightsFile(url, Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1])


def _imagenet_state(name: str) -> dict[str, Tensor]:
    file = imagenet_file(name)
    if not file.path.exists():
        _require_reachable(name, file)
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise _unavailable(name, file) from error
    return state


def _require_reachable(name: str, file: WeightsFile) -> None:
    """Ask for the header first, so that a machine without a network gets a sentence and no half-printed download."""
    try:
        with urllib.request.urlopen(urllib.request.Request(file.url, method="HEAD"), timeout=_PROBE_SECONDS):
            pass
    except (urllib.error.URLError, OSError) as error:
        raise _unavailable(name, file) from error


def _unavailable(name: str, file: WeightsFile) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"The ImageNet weights of {name} must be downloaded once, but {file.url} cannot be reached from here; "
        f"fetch that file elsewhere and put it at {file.path}, or choose --weights none or a file of your own."
    )


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise HdmlError(f"--weights must be imagenet, none or a .safetensors or .pth file, but there is no file {path}.")
    try:
        is_safetensors = path.suffix == ".safetensors"
        state: dict[str, Any] = load_file(path) if is_safetensors else torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, OSError, EOFError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HdmlError(f"--weights must be a state dict of tensors, but {path} cannot be read as one ({reason}).") from error
    for wrapper in ("state_dict", "model"):  # how training scripts commonly wrap theirs
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    return {str(key).removeprefix("module."): value for key, value in state.items() if isinstance(value, Tensor)}


def _load_matching(backbone: Backbone, state: dict[str, Tensor], *, source: str) -> None:
    network = backbone.network
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(_CLASSIFIER_PREFIXES)}
    state = _fit_position_embedding(network, state)
    matched = {
        name: state[name].to(tensor.dtype)
        for name, tensor in wanted.items()
        if name in state and state[name].shape == tensor.shape
    }
    if len(matched) < MIN_MATCHED * len(wanted):
        missing = sorted(wanted.keys() - matched.keys())
        listed = ", ".join(missing[:12]) + (f" and {len(missing) - 12} more" if len(missing) > 12 else "")
        raise HdmlError(
            f"{source} must hold at least {MIN_MATCHED:.0%} of the network's {len(wanted)} tensors with their shapes, but only "
            f"{len(matched)} match; missing or of another shape: {listed}. Is it a state dict of the chosen --backbone?"
        )
    network.load_state_dict(matched, strict=False)


def _fit_position_embedding(network: torch.nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """ViT weights of another image size: resample the learned positions, as torchvision's fine-tuning recipe does."""
    if not isinstance(network, torchvision.models.VisionTransformer) or "encoder.pos_embedding" not in state:
        return state
    fitted: dict[str, Tensor] = torchvision.models.vision_transformer.interpolate_embeddings(
        image_size=network.image_size, patch_size=network.patch_size, model_state=dict(state)
    )
    return fitted
