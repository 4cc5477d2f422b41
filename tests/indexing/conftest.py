"""Places where not all may be done: a user whom permissions bind, a folder that this user may enter, and a small disk."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_NOBODY = 65534  # the user without rights of its own, on every Unix that has one


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that ordinary_user can be given; what lies above tmp_path is closed to all users but the one that runs tests."""
    if os.name == "nt":
        pytest.skip("needs POSIX permissions")
    with TemporaryDirectory() as name:
        yield Path(name)


@contextmanager
def ordinary_user(folder: Path) -> Iterator[None]:
    """Give a folder of root's to a user whom permissions bind, and be that user meanwhile; anybody else is one already."""
    if os.geteuid() != 0:
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, _NOBODY, -1)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root on Linux")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
