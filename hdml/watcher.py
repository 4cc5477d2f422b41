"""Whoever is told how a run goes: the command line's display, or a test's notes."""

from typing import Protocol

from hdml.train import TrainProgress


class Watcher(Protocol):
    """Whoever is told how a run goes."""

    def say(self, sentence: str) -> None:
        """Something the user should know."""

    def read(self, done: int, total: int) -> None:
        """Photos read so far."""

    def step(self, progress: TrainProgress) -> None:
        """One step of training is done."""


class Silent:
    """Watches without a word: what it is told is told elsewhere too."""

    def say(self, sentence: str) -> None:
        pass

    def read(self, done: int, total: int) -> None:
        pass

    def step(self, progress: TrainProgress) -> None:
        pass
