"""Files and folders for others to read, which appear when they are whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from indexing.errors import HdmlError


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """The name to write a file or folder under, which gets its own when it is whole, and is removed when anything is raised.

    Raises:
        HdmlError: nothing can be written there.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise HdmlError(
            f"{path} cannot be written: {error.strerror or error}; free some space or choose another place"
        ) from error
    finally:
        with suppress(OSError):  # where nothing could be written nothing can be removed
            if unfinished.is_dir():
                shutil.rmtree(unfinished)
            else:
                unfinished.unlink()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, that appears when it is whole; raises HdmlError where it cannot be written."""
    with appearing(path) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
