"""The indexes that the server answers from, opened when first asked for and then kept open."""

import threading
from pathlib import Path

from indexing.errors import HdmlError
from indexing.hardness import HardnessLens
from indexing.search import OpenIndex
from indexing.workspace import IndexInfo, Workspace


class UnknownIndex(HdmlError):
    """A request names an index that the server does not have."""


class Galleries:
    """Open indexes and their lenses; safe from several threads.

    An index that is made while the server runs can be asked for at once.
    """

    def __init__(self, workspace: Workspace, *, default: Path | None = None, device: str = "auto") -> None:
        """Serve a workspace.

        Args:
            default: folder of the index that answers when none is named; the last updated one if not given.
            device: where to embed and search, see ``--device``.
        """
        self._workspace, self._default, self._device = workspace, default, device
        self._indexes: dict[Path, OpenIndex] = {}
        self._lenses: dict[Path, HardnessLens] = {}
        self._lock = threading.RLock()

    def listed(self) -> list[IndexInfo]:
        """The workspace's indexes, the default one first."""
        return sorted(self._workspace.indexes(), key=lambda index: index.path != self._default)

    def index(self, name: str | None = None) -> OpenIndex:
        """The index of that name, or the default one; raises HdmlError when there is none or it cannot be opened."""
        path = self._find(name)
        with self._lock:
            if path not in self._indexes:
                self._indexes[path] = OpenIndex(path, device=self._device)
            return self._indexes[path]

    def lens(self, name: str | None = None) -> HardnessLens:
        """The lens of an index; raises NoLens when it has none, and HdmlError as index does."""
        opened = self.index(name)
        with self._lock:
            if opened.path not in self._lenses:
                self._lenses[opened.path] = HardnessLens(opened)
            return self._lenses[opened.path]

    def close(self) -> None:
        for opened in self._indexes.values():
            opened.close()

    def _find(self, name: str | None) -> Path:
        if name is None:
            return self._default or self._workspace.find_index()
        if self._default is not None and name == self._default.name:
            return self._default
        # Only listed names: a path from the network must not open anything.
        indexes = {index.name: index.path for index in self._workspace.indexes()}
        if name not in indexes:
            raise UnknownIndex(f"the server has no index {name}; it has {', '.join(indexes) or 'none'}")
        return indexes[name]
