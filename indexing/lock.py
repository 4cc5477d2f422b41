"""The lock of an index: one process at a time indexes, and searchers can tell whether one does.

The operating system holds it for a process and frees it however that process ends; the file means nothing by itself.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from indexing.errors import HdmlError

LOCK = "lock"
_PATIENCE_S = 0.5  # a searcher that asks holds the lock too, for microseconds

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: BinaryIO, *, shared: bool) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # it knows no shared locks: of two that ask, one hears yes
else:
    import fcntl

    def _try_lock(file: BinaryIO, *, shared: bool) -> None:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


@contextmanager
def indexing_alone(index_dir: Path) -> Iterator[None]:
    """Hold the lock of an index, whose folder is made when missing; raises HdmlError while another process holds it."""
    try:
        index_dir.mkdir(parents=True, exist_ok=True)
        file = (index_dir / LOCK).open("ab")
    except OSError as error:
        raise HdmlError(
            f"the index {index_dir} cannot be made or written: {error.strerror}; free some space, change the permissions "
            "or choose another place"
        ) from error
    with file:
        deadline = time.monotonic() + _PATIENCE_S
        while not _locked(file, shared=False):
            if time.monotonic() > deadline:
                raise HdmlError(f"{index_dir} is being indexed by another process; wait for it or end it, then run this again")
            time.sleep(_PATIENCE_S / 50)
        yield


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
