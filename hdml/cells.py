"""The cells of a comparison: one arm under one seed is one run, carried out in a process of its own.

A process of its own gives back all memory, tells its peak, and takes nothing down with it. It ends itself when the process that
waits for it is gone, so that a killed comparison leaves nothing running and can be started again at once.
"""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from hdml.arms import Frozen
from indexing.errors import HdmlError

_ORPHANED = 1


class CellWatcher(Protocol):
    """Whoever is told how a cell goes."""

    def say(self, sentence: str) -> None:
        """Something the user should know."""

    def cell_step(self, cell: str, done: int, total: int) -> None:
        """Steps of a cell done so far."""


def carry_out_cell(run: Path, *, frozen: Frozen | None, device: str, watcher: CellWatcher) -> None:
    """Carry a planned run to its end in another process.

    Args:
        frozen: how to embed without training; None trains.
        device: torch's name of it.

    Raises:
        HdmlError: what stopped the run, in its own words.
    """
    context = multiprocessing.get_context("spawn")
    listening, speaking = context.Pipe(duplex=False)
    process = context.Process(target=_carry_out, args=(run, frozen, device, speaking, os.getpid()), daemon=True)
    process.start()
    speaking.close()  # the process's own end alone keeps the pipe open
    try:
        failure = _listen(listening, run.name, watcher)
    except BaseException:
        process.terminate()
        raise
    finally:
        process.join()
    if failure is None and process.exitcode != 0:
        failure = f"The run {run.name} ended without a word (exit code {process.exitcode}); say the same command again to go on."
    if failure is not None:
        raise HdmlError(failure)


def _listen(messages: Connection, cell: str, watcher: CellWatcher) -> str | None:
    """Pass on what the process says until it is silent for good; returns why it failed, if it said so."""
    while True:
        try:
            kind, content = messages.recv()
        except EOFError:
            return None
        if kind == "failure":
            return str(content)
        if kind == "step":
            watcher.cell_step(cell, *content)
        else:
            watcher.say(str(content))


def _carry_out(run: Path, frozen: Frozen | None, device: str, messages: Connection, parent: int) -> None:
    import torch

    from hdml.fit import finish_run
    from hdml.frozen import measure_frozen

    # An interruption reaches both; the one who waits decides, and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watcher = _Messenger(messages, parent)
    try:
        if frozen is not None:
            measure_frozen(run, frozen, device=torch.device(device), watcher=watcher)
        else:
            finish_run(run, device=torch.device(device), watcher=watcher)
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
