"""Several processes that train one model, each on a device of its own: who they are, and what they exchange.

Every process computes the backbone's features of its share of a batch. The features are gathered, and from there on all of them
compute the same: head, generator and loss see the whole batch (docs/decisions/distributed.md).
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException, start_processes
from torch.nn import functional as F

from indexing.errors import HdmlError

# The others wait while the first one measures and writes, and a launcher ends them all when one fails.
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """Those that train together, as one of them sees it; alone, it sees the whole batch and everything else does nothing."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes, measures and tells."""
        return self.rank == 0

    def share(self, rows: int) -> range:
        """Which rows of a batch are this process's own; of all processes, in the order of their ranks, the whole batch.

        Raises:
            HdmlError: there are fewer rows than processes.
        """
        if rows < self.size:
            raise HdmlError(
                f"A batch needs a photo for each process, but {rows} photos are shared by {self.size}; use fewer processes, or "
                "raise --classes-per-batch."
            )
        return range(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def gather(self, own: Tensor, rows: int) -> Tensor:
        """[rows, ...] of the whole batch from every process's share, in the order of the batch, with gradients.

        Every process computes the same loss from what it gets. The gradient that reaches ``own`` is the sum over all processes,
        ``size`` times that of the loss: :meth:`average_gradients` takes the mean of these sums.
        """
        if self.size == 1:
            return own
        whole: Tensor = _Gather.apply(own, [Processes(rank, self.size).share(rows) for rank in range(self.size)], self.rank)
        return whole

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, which is that of the loss in one process.

        The mean of ``size`` equal losses is the loss. A process holds what its own copy of a parameter did to all of them: of
        the backbone ``size`` times its share's part, and of everything behind :meth:`gather` the whole.
        """
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        means = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def copy_buffers(self, module: nn.Module) -> None:
        """Give every process the first one's buffers."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def tell(self, words: Any = None) -> Any:
        """What the first process says, for all; those that are early wait."""
        if self.size == 1:
            return words
        said = [words]
        dist.broadcast_object_list(said, 0)
        return said[0]

    @contextmanager
    def own_randomness(self) -> Iterator[None]:
        """Random numbers of this process alone, from the seed set before; afterwards all processes draw the same again."""
        if self.size == 1:
            yield
            return
        (seed,) = np.random.SeedSequence((torch.initial_seed(), self.rank)).generate_state(1)
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(int(seed))
            yield

    def leave(self) -> None:
        """End the exchange; not after a failure, when the others would be waited for."""
        if self.size > 1:
            dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    """All shares, concatenated. torch.distributed.nn's own is deprecated since torch 2.15 and wants shares of one size."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, shares: list[range], rank: int) -> Tensor:
        ctx.own, ctx.size = shares[rank], len(shares)
        padding = max(map(len, shares)) - len(own)
        padded = F.pad(own, (0, 0) * (own.dim() - 1) + (0, padding)).contiguous()
        gathered = [torch.empty_like(padded) for _ in shares]
        dist.all_gather(gathered, padded)
        return torch.cat([part[: len(share)] for part, share in zip(gathered, shares, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # The sum over the processes' losses, which are equal, so that nothing needs to be exchanged.
        return ctx.size * gradient[ctx.own.start : ctx.own.stop], None, None


ALONE = Processes()


def join(device: torch.device) -> tuple[Processes, torch.device]:
    """Join the processes that ``torchrun`` or :func:`launch` started; returns them and the device of this one.

    Alone where neither did, as the environment tells.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return ALONE, device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    return Processes(dist.get_rank(), dist.get_world_size()), device


def launch(processes: int, function: Callable[..., None], *arguments: Any) -> None:
    """Call a function of a module in several new processes that can :func:`join`, and wait for them; one that fails ends all.

    Raises:
        HdmlError: what one of them raised, or that one was killed.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    failures: SimpleQueue[str] = torch.multiprocessing.get_context("spawn").SimpleQueue()
    try:
        each = (processes, store.port, failures, function, arguments)
        start_processes(_member, each, processes, start_method="spawn")  # type: ignore[no-untyped-call]
    except ProcessException as error:
        if not failures.empty():  # the first that torch sees to fail may be one whose partner has failed
            raise HdmlError(failures.get()) from None
        if isinstance(error, ProcessExitedException):
            raise HdmlError(f"A process ended without a word (exit code {error.exit_code}); go on with --resume.") from error
        raise


def _member(
    rank: int, size: int, port: int, failures: "SimpleQueue[str]", function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    # An interruption reaches all: the one that waits tells of it, and these end at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    # The last is torch's own word for a store that the launcher keeps.
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    try:
        function(*arguments)
    except HdmlError as error:
        failures.put(str(error))
        raise SystemExit(1) from error
