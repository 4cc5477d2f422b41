"""The cells of a comparison: one arm under one seed is one run, carried out in a process of its own.

A process of its own gives back all memory, tells its peak, and takes nothing down with it. It ends itself when the process that
waits for it is gone, so that a killed comparison leaves nothing running and can be started again at once.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, cast

from hdml.arms import Frozen
from indexing.errors import HdmlError

_ORPHANED = 1


class CellWatcher(Protocol):
    """Whoever is told how a cell goes."""

    def say(self, sentence: str) -> None:
        """Something the user should know."""

    def cell_step(self, cell: str, done: int, total: int) -> None:
        """Steps of a cell done so far."""


@dataclass(frozen=True)
class Cell:
    """A planned run.

    Attributes:
        frozen: how to embed without training; None trains.
    """

    run: Path
    frozen: Frozen | None


@dataclass
class _Started:
    cell: Cell
    process: BaseProcess
    failure: str | None = None


def carry_out_cells(cells: Iterable[Cell], *, device: str, jobs: int, watcher: CellWatcher) -> None:
    """Carry planned runs to their ends, each in a process of its own.

    Args:
        cells: the next one is asked for when a process is free for it.
        device: torch's name of it.
        jobs: how many run at once, sharing the threads that torch takes.

    Raises:
        HdmlError: what stopped a run, in its own words; those beside it are ended where they are.
    """
    waiting = iter(cells)
    started: dict[Connection, _Started] = {}
    try:
        while True:
            while len(started) < jobs and (cell := next(waiting, None)) is not None:
                listening, process = _start(cell, device, jobs)
                started[listening] = _Started(cell, process)
            if not started:
                return
            for listening in cast("list[Connection]", wait(started)):
                if not _listen(listening, started[listening], watcher):
                    _conclude(started.pop(listening))
    finally:
        for one in started.values():
            one.process.terminate()
        for one in started.values():
            one.process.join()


def _start(cell: Cell, device: str, jobs: int) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")
    listening, speaking = context.Pipe(duplex=False)
    arguments = (cell.run, cell.frozen, device, jobs, speaking, os.getpid())
    process = context.Process(target=_carry_out, args=arguments, daemon=True)
    process.start()
    speaking.close()  # the process's own end alone keeps the pipe open
    return listening, process


def _listen(listening: Connection, started: _Started, watcher: CellWatcher) -> bool:
    """Pass on one thing that the process says; returns whether it has more to say."""
    try:
        kind, content = listening.recv()
    except EOFError:
        return False
    if kind == "failure":
        started.failure = str(content)
    elif kind == "step":
        watcher.cell_step(started.cell.run.name, *content)
    else:
        watcher.say(str(content))
    return True


def _conclude(started: _Started) -> None:
    """Wait for a process that has fallen silent; raises HdmlError when it failed."""
    started.process.join()
    name, code = started.cell.run.name, started.process.exitcode
    if started.failure is None and code != 0:
        started.failure = f"The run {name} ended without a word (exit code {code}); say the same command again to go on."
    if started.failure is not None:
        raise HdmlError(started.failure)


def _carry_out(run: Path, frozen: Frozen | None, device: str, jobs: int, messages: Connection, parent: int) -> None:
    import faiss
    import torch

    from hdml.fit import finish_run
    from hdml.frozen import measure_frozen

    # An interruption reaches both; the one who waits decides, and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watcher = _Messenger(messages, parent)
    if jobs > 1:
        threads = max(1, torch.get_num_threads() // jobs)
        torch.set_num_threads(threads)
        faiss.omp_set_num_threads(threads)
    try:
        if frozen is not None:
            measure_frozen(run, frozen, device=torch.device(device), watcher=watcher)
        else:
            finish_run(run, device=torch.device(device), watcher=watcher, export=False)
    except HdmlError as error:
        messages.send(("failure", str(error)))


class _Messenger:
    """Watches a run for a parent that listens at the other end."""

    def __init__(self, messages: Connection, parent: int) -> None:
        self._messages = messages
        self._parent = parent

    def say(self, sentence: str) -> None:
        self._messages.send(("say", sentence))

    def read(self, done: int, total: int) -> None:
        self._end_with_parent()

    def step(self, progress: Any) -> None:
        self._end_with_parent()
        self._messages.send(("step", (progress.step, progress.steps)))

    def _end_with_parent(self) -> None:
        if os.getppid() != self._parent:
            os._exit(_ORPHANED)
