"""Checkpoints as one safetensors file: tensors of modules and optimiser, and the rest of the state as JSON in its header."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from indexing.errors import HdmlError

_HEADER = "hdml"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able state so that the file is the old one or the new one, whenever the process is killed.

    Raises:
        HdmlError: the disk is full or may not be written; the old file stays.
    """
    temporary = path.with_name(path.name + ".writing")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(contiguous, temporary, metadata={_HEADER: json.dumps(state)})
    except SafetensorError as error:  # its own, whatever the system said
        temporary.unlink(missing_ok=True)
        raise HdmlError(
            f"{path} cannot be written ({error}); free some space or change the permissions, what was saved before stays."
        ) from error
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(path)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state of a file that :func:`save_tensors` wrote.

    Raises:
        HdmlError: the file is damaged or is not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})[_HEADER])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118 (not a mapping)
    except (SafetensorError, KeyError, OSError, ValueError) as error:
        raise HdmlError(f"{path} should be a checkpoint of hdml but cannot be read ({error}); start a new run.") from error


def module_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """All parameters and buffers, named ``module.parameter``."""
    return {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}


def restore_modules(modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Load what :func:`module_tensors` gave into modules of the same shape."""
    for name, module in modules.items():
        prefix = f"{name}."
        module.load_state_dict({key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)})


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimiser's moments and step counts, named ``optimizer.<parameter index>.<key>``."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{index}.{key}": value for index, entry in state.items() for key, value in entry.items()}


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load what :func:`optimizer_tensors` gave into an optimiser with the same parameters and groups."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
