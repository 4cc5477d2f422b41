"""Every step of a process that outlives it, counted: commits, renames, links, removals and writes; one of them may be the last.

    from durable_steps import Watch

The hooks are put into Python's own functions, of this process alone. A step is known by the function of the product that does
it (its phase), by its kind and by the name of the file, with N for numbers. It can be cut short in three places: just before it,
just after it, and in the middle (torn): of a write, half of the bytes are there; of a commit, a part of what it added to the
write-ahead log. The log is cut after the commit, which leaves on the disk what a kill between two of SQLite's own writes does.
"""

import builtins
import io
import json
import os
import random
import re
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trials import Contents, contents

import indexing

BEFORE, TORN, AFTER = "before", "torn", "after"
_PRODUCT = str(Path(indexing.__file__).parent)
_CHANGES = ("INSERT", "UPDATE", "DELETE", "CREATE", "VACUUM", "PRAGMA JOURNAL_MODE", "PRAGMA WAL_CHECKPOINT")
_OWN_TABLES = ("walk", "described", "pending", "missing", "kept")  # of one connection alone, gone with it
_CATALOGUE = "catalogue.sqlite"


@dataclass(frozen=True)
class Step:
    """A step: which of its name it is, its phase, kind and file, whether it can be torn, and the commits that were before it."""

    turn: int
    phase: str
    kind: str
    what: str
    tearable: bool
    commits: int

    @property
    def name(self) -> str:
        return f"{self.phase}: {self.kind} {self.what}"


class Watch:
    """Counts the steps of this process, tells each in a file before it is done and after, and kills it at one of them.

    Attributes:
        steps: that were done.
        moments: what the catalogue held at first and after every commit to it; only where ``remember`` asks for it.
    """

    def __init__(
        self, log: Path, *, kill_at: tuple[str, int] = ("", 0), moment: str = BEFORE, seed: int = 0, remember: bool = False
    ) -> None:
        """Begin to count; nothing is seen before ``install``.

        Args:
            log: is told of every step, before and after it.
            kill_at: name of a step, and which of that name.
            moment: BEFORE, TORN or AFTER.
            seed: draws how much of a torn step is left.
        """
        self.steps: list[Step] = []
        self.moments: list[Contents | None] = []
        self._kill_at, self._moment, self._remember = kill_at, moment, remember
        self._random = random.Random(seed)
        self._commits, self._turns = 0, Counter[str]()
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        self._inside = False

    def step(
        self,
        kind: str,
        what: str,
        act: Callable[[], Any],
        *,
        tear: Callable[[float], bool] | None = None,
        held: Callable[[], Contents | None] | None = None,
    ) -> Any:
        """Do a step.

        Args:
            tear: leaves a share of what the step did, where it can.
            held: what the catalogue holds now, of a step that may have changed that.
        """
        if self._inside:  # a step of ours within a step, as of a copy that is written
            return act()
        step = Step(0, _phase(), kind, re.sub(r"\d+|^[0-9a-f]{16}", "N", what), tear is not None, self._commits)
        self._turns[step.name] += 1
        step = replace(step, turn=self._turns[step.name])
        self.steps.append(step)
        chosen = (step.name, step.turn) == self._kill_at
        self._tell(step, done=False)
        if chosen and self._moment == BEFORE:
            _die()
        self._inside = True
        try:
            result = act()
            if chosen and self._moment == TORN and tear is not None:
                tear(self._random.uniform(0.05, 0.95))
                _die()
            if held is not None:
                self._commits += 1
                if self._remember:
                    self.moments.append(held())
        except BaseException:  # nothing was done, as where there is no file to remove
            self.steps.pop()
            self._turns[step.name] -= 1
            raise
        finally:
            self._inside = False
        self._tell(step, done=True)
        if chosen:
            _die()
        return result

    def _tell(self, step: Step, *, done: bool) -> None:
        told = {**asdict(step), "commits": self._commits, "done": done}
        os.write(self._log, json.dumps(told).encode() + b"\n")

    def install(self) -> None:
        """Put the hooks in."""
        _watch_files(self)
        _watch_databases(self)


def last_step(log: Path) -> dict[str, Any] | None:
    """What the process told last before it died: a Step's fields and whether it was done; None when it had none."""
    lines = log.read_text().splitlines() if log.exists() else []
    found: dict[str, Any] | None = json.loads(lines[-1]) if lines else None
    return found


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def _phase() -> str:
    """The product's function that is at work, by the one that the operation called."""
    frame, names = sys._getframe(1), list[str]()
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_PRODUCT) and not code.co_name.startswith(("<", "__")):
            names.append(code.co_name.strip("_"))
        frame = frame.f_back  # type: ignore[assignment]
    return names[-2] if len(names) > 1 else names[0] if names else "outside"


def _watch_files(watch: Watch) -> None:
    system: Any = os
    for name in ("replace", "rename", "link"):
        system.__dict__[name] = _two_names(watch, name, getattr(os, name))
    for name in ("unlink", "remove", "mkdir", "rmdir", "fsync"):
        system.__dict__[name] = _one_name(watch, "unlink" if name == "remove" else name, getattr(os, name))
    sendfile, plain_open = os.sendfile, io.open

    def send(target: int, *rest: Any) -> int:
        name = _opened_as(target).name
        began = os.fstat(target).st_size

        def tear(share: float) -> bool:
            os.truncate(target, began + int(share * (os.fstat(target).st_size - began)))
            return True

        sent: int = watch.step("write", name, lambda: sendfile(target, *rest), tear=tear)
        return sent

    def opened(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **named: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return plain_open(file, mode, buffering, *rest, **named)
        return _open_watched(watch, file, mode, *rest, **named)

    system.sendfile = send
    for module in (io, builtins):
        module.__dict__["open"] = opened
    import faiss as typed

    faiss: Any = typed
    write_index = faiss.write_index

    def write(index: Any, file: str, *rest: Any) -> None:
        def tear(share: float) -> bool:
            os.truncate(file, int(share * os.stat(file).st_size))  # noqa: PTH116 - Path's would be watched
            return True

        watch.step("write", Path(file).name, lambda: write_index(index, file, *rest), tear=tear)

    faiss.write_index = write


def _two_names(watch: Watch, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
    def done(source: Any, target: Any, **named: Any) -> Any:
        what = Path(os.fsdecode(target))
        held = (lambda: _held_by(what)) if what.name == _CATALOGUE else None
        return watch.step(name, what.name, lambda: act(source, target, **named), held=held)

    return done


def _one_name(watch: Watch, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
    def done(target: Any, *rest: Any, **named: Any) -> Any:
        what = _opened_as(target) if isinstance(target, int) else Path(os.fsdecode(target))
        held = (lambda: None) if (name, what.name) == ("unlink", _CATALOGUE) else None
        return watch.step(name, what.name, lambda: act(target, *rest, **named), held=held)

    return done


def _opened_as(file: int) -> Path:
    return Path(f"/proc/self/fd/{file}").readlink()


def _open_watched(watch: Watch, file: Any, mode: str, encoding: str | None = None, *_: Any, **named: Any) -> Any:
    class Raw(io.FileIO):
        def write(self, data: Any) -> int:
            began = self.tell()

            def tear(share: float) -> bool:
                self.truncate(began + int(share * len(data)))
                return True

            written: int = watch.step("write", Path(os.fsdecode(file)).name, lambda: super(Raw, self).write(data), tear=tear)
            return written

    exists = os.access(file, os.F_OK)
    letters = mode.replace("b", "").replace("t", "")
    raw = Raw(file, letters) if exists else watch.step("create", Path(os.fsdecode(file)).name, lambda: Raw(file, letters))
    binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
    if "b" in mode:
        return binary
    return io.TextIOWrapper(binary, named.get("encoding", encoding), newline=named.get("newline"))


def _watch_databases(watch: Watch) -> None:
    plain_connect = sqlite3.connect

    class Connection(sqlite3.Connection):
        file = Path()
        inside_write = False

        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            act = super().execute
            self.inside_write = self.in_transaction and (self.inside_write or sql == "BEGIN IMMEDIATE")
            cursor: sqlite3.Cursor = self._watched(sql, lambda: act(sql, *rest))
            if sql == "BEGIN IMMEDIATE":
                self.inside_write = True
            return cursor

        def executemany(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            act = super().executemany
            cursor: sqlite3.Cursor = self._watched(sql, lambda: act(sql, *rest))
            return cursor

        def executescript(self, sql: str) -> sqlite3.Cursor:
            act = super().executescript
            if "TABLE walk" in sql:
                return act(sql)
            cursor: sqlite3.Cursor = self._commit("script", lambda: act(sql))
            return cursor

        def close(self) -> None:
            act = super().close
            watch.step("close", self.file.name, act)

        def _watched(self, sql: str, act: Callable[[], Any]) -> Any:
            words = " ".join(sql.split()).upper()
            if words == "COMMIT":
                return self._commit("commit", act) if self.inside_write else act()
            verb = next((verb for verb in _CHANGES if words.startswith(verb)), None)
            if verb is None or any(f" {table.upper()} " in f"{words} " for table in _OWN_TABLES):
                return act()
            if self.in_transaction:
                return watch.step("statement", self.file.name, act) if self.inside_write else act()
            return self._commit(f"commit of {verb}", act)

        def _commit(self, kind: str, act: Callable[[], Any]) -> Any:
            log = self.file.with_name(f"{self.file.name}-wal")
            began = _size(log)

            def tear(share: float) -> bool:
                grown = _size(log) - began
                if grown <= 0:
                    return False
                os.truncate(log, began + int(share * grown))
                return True

            held = (lambda: contents(self)) if self.file.name == _CATALOGUE else None
            return watch.step(kind, self.file.name, act, tear=tear, held=held)

    def connect(database: Any, *rest: Any, **named: Any) -> sqlite3.Connection:
        connection = plain_connect(database, *rest, factory=Connection, **named)
        connection.file = Path(os.fsdecode(database).removeprefix("file://").split("?")[0])
        return connection

    sqlite3.__dict__["connect"] = connect


def _size(file: Path) -> int:
    return os.stat(file).st_size if os.access(file, os.F_OK) else 0  # noqa: PTH116 - Path's would be watched


def _held_by(catalogue: Path) -> Contents | None:
    """What a catalogue holds that has just got its name."""
    connection = sqlite3.Connection(f"file:{catalogue}?mode=ro", uri=True)
    try:
        return contents(connection)
    finally:
        connection.close()
