"""Checkpoints: whole or as they were before, equal to what was saved, and never code."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hdml.checkpoint import (
    load_tensors,
    module_tensors,
    optimizer_tensors,
    restore_modules,
    restore_optimizer,
    save_tensors,
)
from indexing.errors import HdmlError

OLD = {"weights": torch.arange(6.0).reshape(2, 3), "counter": torch.tensor(7)}
OLD_STATE = {"steps_done": 3, "best": 0.125, "windows": {"metric_loss": [1.5, 0.1]}, "validation": None}
SAVE_AND_DIE = """
import os, signal, sys
from pathlib import Path
import torch
import hdml.checkpoint

def die(*arguments, **keywords):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "half written":  # killed while the bytes are on their way
    def save_half(tensors, path, metadata):
        Path(path).write_bytes(b"half a file")
        die()
    hdml.checkpoint.save_file = save_half
else:  # written, but not yet under its name
    hdml.checkpoint.os.fsync = die
hdml.checkpoint.save_tensors(Path(sys.argv[1]), {"weights": torch.zeros(9)}, {"steps_done": 4})
"""
SAVE_WITH_LIMITED_FILES = """
import resource, signal, sys
from pathlib import Path
import torch
from hdml.checkpoint import save_tensors
from indexing.errors import HdmlError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    save_tensors(Path(sys.argv[1]), {"weights": torch.zeros(100_000)}, {})
except HdmlError as error:
    sys.exit(str(error))
"""


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Bit for bit, types and shapes included."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert found[name].contiguous().numpy().tobytes() == tensor.contiguous().numpy().tobytes(), name


def run_python(program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=120, check=False)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A checkpoint of OLD and OLD_STATE."""
    save_tensors(tmp_path / "run.safetensors", OLD, OLD_STATE)
    return tmp_path / "run.safetensors"


def test_tensors_and_state_come_back_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {
        "transposed": torch.randn(3, 5).t(),
        "channels_last": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "learned": nn.Parameter(torch.randn(4)),
        "brain_float": torch.randn(4).bfloat16().view(torch.int16),
        "number": torch.tensor(12),
        "special": torch.tensor([float("nan"), float("inf"), -0.0]),
    }
    state = {"steps_done": 5, "best": 0.1 + 0.2, "windows": {"metric_loss": [1e-30, 3.0]}, "name": "Schmetterling – ä"}
    save_tensors(tmp_path / "a.safetensors", tensors, state)
    found, found_state = load_tensors(tmp_path / "a.safetensors")
    assert_same(found, {name: tensor.detach() for name, tensor in tensors.items()})
    assert found_state == state
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_modules_and_optimiser_go_on_as_if_never_saved(tmp_path: Path) -> None:
    """Two optimisers with moments and step counts: one goes on, the other is rebuilt from the file; both take the same step."""

    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        groups = [{"params": list(module[0].parameters()), "lr": 0.1}, {"params": list(module[1].parameters()), "lr": 0.01}]
        return module, torch.optim.AdamW(groups)

    def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        optimizer.zero_grad()
        module(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()

    torch.manual_seed(1)
    module, optimizer = build()
    step(module, optimizer, seed=2)
    save_tensors(tmp_path / "a.safetensors", {**module_tensors({"model": module}), **optimizer_tensors(optimizer)}, {})
    step(module, optimizer, seed=3)

    tensors, _ = load_tensors(tmp_path / "a.safetensors")
    again, optimizer_again = build()
    restore_modules({"model": again}, tensors)
    restore_optimizer(optimizer_again, tensors)
    step(again, optimizer_again, seed=3)
    assert_same(again.state_dict(), module.state_dict())
    assert [group["lr"] for group in optimizer_again.param_groups] == [0.1, 0.01]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("moment", ["half written", "not yet renamed"])
def test_killed_while_writing_the_old_file_stays_and_the_next_write_takes_its_place(old: Path, moment: str) -> None:
    killed = run_python(SAVE_AND_DIE, old, moment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    found, state = load_tensors(old)
    assert_same(found, OLD)
    assert state == OLD_STATE
    save_tensors(old, {"weights": torch.ones(2)}, {"steps_done": 4})
    assert_same(load_tensors(old)[0], {"weights": torch.ones(2)})
    assert [path.name for path in old.parent.iterdir()] == [old.name]


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX resource limits")
def test_full_disk_is_a_sentence_and_the_old_file_stays(old: Path) -> None:
    """A file that may not grow stands for the disk: safetensors reports both by an error of its own."""
    stopped = run_python(SAVE_WITH_LIMITED_FILES, old)
    assert stopped.returncode == 1
    assert re.fullmatch(rf"{re.escape(str(old))} cannot be written \(.*File too large.*\); free some space .*\n", stopped.stderr)
    assert_same(load_tensors(old)[0], OLD)
    assert [path.name for path in old.parent.iterdir()] == [old.name]


def damaged(kind: str, old: Path) -> bytes:
    content = old.read_bytes()
    match kind:
        case "cut short":
            return content[:-1]
        case "empty":
            return b""
        case "text":
            return b"these are not tensors\n"
        case "header changed":
            return content[:8] + b"}" + content[9:]
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["cut short", "empty", "text", "header changed"])
def test_damaged_file_is_one_sentence_with_its_name(old: Path, kind: str) -> None:
    old.write_bytes(damaged(kind, old))
    with pytest.raises(HdmlError) as raised:
        load_tensors(old)
    assert str(raised.value).startswith(f"{old} should be a checkpoint of hdml but cannot be read (")
    assert str(raised.value).endswith("); start a new run.")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"hdml": "not JSON"}])
def test_safetensors_file_of_another_program_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"weights": torch.zeros(2)}, tmp_path / "foreign.safetensors", metadata=metadata)
    with pytest.raises(HdmlError, match=r"foreign\.safetensors should be a checkpoint of hdml"):
        load_tensors(tmp_path / "foreign.safetensors")


def test_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(HdmlError, match=r"absent\.safetensors should be a checkpoint of hdml"):
        load_tensors(tmp_path / "absent.safetensors")


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("as_torch_file", [False, True])
def test_pickle_in_place_of_a_checkpoint_is_refused_and_never_run(tmp_path: Path, as_torch_file: bool) -> None:
    trace, path = tmp_path / "it ran", tmp_path / "checkpoint.safetensors"
    if as_torch_file:
        torch.save({"weights": Payload(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(trace)))
    with pytest.raises(HdmlError, match="should be a checkpoint of hdml"):
        load_tensors(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Payload(trace)))  # noqa: S301 (that the payload would have left its trace)
    assert trace.exists()


def test_file_is_readable_without_hdml(old: Path) -> None:
    """The format is safetensors' own: a length, a JSON header with our state in it, then the numbers."""
    content = old.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header["__metadata__"]["hdml"]) == OLD_STATE
    start, end = header["weights"]["data_offsets"]
    values = np.frombuffer(content[8 + length :][start:end], np.float32).reshape(header["weights"]["shape"])
    np.testing.assert_array_equal(values, OLD["weights"].numpy())
