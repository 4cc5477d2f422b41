"""Indexes of photos: embedding them, keeping them, searching them. Needs no torch.

from indexing import open_index

with open_index("gallery") as index:
    for result in index.search_photo("query.jpg", k=5):
        print(result.score, result.path)
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexing.search import OpenIndex

__all__ = ["open_index"]


def open_index(index: str | Path | None = None, *, workspace: str | Path = "workspace", device: str = "auto") -> "OpenIndex":
    """Open an index for searching; a context manager.

    Args:
        index: its name or folder; None takes the one that was updated last.
        workspace: the folder that holds it.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises:
        HdmlError: there is none, it is damaged, or a CUDA that is not there was asked for.
    """
    from indexing.search import OpenIndex
    from indexing.workspace import Workspace

    return OpenIndex(Workspace(Path(workspace)).find_index(index), device=device)
