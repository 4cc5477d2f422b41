"""How much memory there is for the taking, and giving back what is not needed any more."""

import ctypes
import platform
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT = 1024 * 1024  # bytes


def available_memory() -> int | None:
    """Bytes that this process could still have: the Linux kernel's estimate and its container's limit; None elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    available = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    left = _left_in_container()
    return available if left is None else min(left, available or left)


def _left_in_container() -> int | None:
    """What the limit of a version 2 control group leaves; None without a limit."""
    try:
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(used))


def return_freed_memory() -> None:
    """Have this process give freed blocks of a MiB and more back to the system at once, where its C library is glibc.

    By itself glibc learns from every large block that is freed to keep ones of that size, up to 32 MiB, and up to 64 MiB of them
    in every thread's arena, for good (mallopt(3), M_MMAP_THRESHOLD). What a server decodes differs in size by the thousand.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    malloc = ctypes.CDLL(None)
    for threshold in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
        malloc.mallopt(threshold, _KEPT)
