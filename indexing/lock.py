"""The lock of an index: one process at a time indexes, and searchers can tell whether one does.

The operating system holds it for a process and frees it however that process ends. The file says only who took it last, so that
whoever has to wait is told; it locks nothing by itself.
"""

import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from indexing.errors import HdmlError

LOCK = "lock"
_PATIENCE_S = 0.5  # a searcher that asks holds the lock too, for microseconds
_FAR = 1 << 20  # the byte that Windows locks, which nobody can read then: behind all that is written

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: BinaryIO, *, shared: bool) -> None:
        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # it knows no shared locks: of two that ask, one hears yes
else:
    import fcntl

    def _try_lock(file: BinaryIO, *, shared: bool) -> None:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


@contextmanager
def indexing_alone(index_dir: Path) -> Iterator[None]:
    """Hold the lock of an index, whose folder is made when missing; raises HdmlError while another process holds it.

    The error says which process that is, as far as it can be told.
    """
    try:
        index_dir.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(index_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
    except OSError as error:
        raise HdmlError(
            f"the index {index_dir} cannot be made or written: {error.strerror}; free some space, change the permissions "
            "or choose another place"
        ) from error
    with file:
        deadline = time.monotonic() + _PATIENCE_S
        while not _locked(file, shared=False):
            if time.monotonic() > deadline:
                raise HdmlError(
                    f"{index_dir} is being indexed by another process{_holder(index_dir)}; wait for it or end it, then run this "
                    "again"
                )
            time.sleep(_PATIENCE_S / 50)
        _sign(file)
        yield


def _sign(file: BinaryIO) -> None:
    """Write into the lock that is held whose it is."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join(words),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with suppress(OSError):  # a full disk is told by what needs it; here it only leaves the holder unnamed
        file.truncate(0)
        file.seek(0)
        file.write(json.dumps(about).encode())


def _holder(index_dir: Path) -> str:
    """Who holds the lock, in brackets; nothing where that is not known, as of one that has taken it this moment."""
    try:
        about = json.loads((index_dir / LOCK).read_text(encoding="utf-8"))
        pid, host, command, since = int(about["pid"]), about["host"], about["command"], about["since"]
    except (OSError, ValueError, TypeError, KeyError):
        return ""
    if host == socket.gethostname() and not _is_alive(pid):  # the one before, which was killed
        return ""
    return f" ({command}: process {pid} on {host}, since {since})"


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # os.kill would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def is_being_indexed(index_dir: Path) -> bool:
    """Whether a process holds the lock of an index at this moment."""
    try:
        with (index_dir / LOCK).open("rb") as file:
            return not _locked(file, shared=True)
    except FileNotFoundError:  # every indexer makes it
        return False


def _locked(file: BinaryIO, *, shared: bool) -> bool:
    """Take the lock, which closing the file gives back; False when another has it."""
    try:
        _try_lock(file, shared=shared)
    except (BlockingIOError, PermissionError):  # what POSIX and Windows say of a lock that is taken
        return False
    return True
