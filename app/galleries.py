"""The indexes that the server answers from, opened when first asked for and then kept open."""

import threading
import weakref
from contextlib import suppress
from pathlib import Path

from indexing.catalogue import CATALOGUE
from indexing.encoder import is_imported
from indexing.errors import HdmlError
from indexing.generation import Generation
from indexing.hardness import HardnessLens
from indexing.search import OpenIndex
from indexing.workspace import IndexInfo, Workspace, read_index_info


class UnknownIndex(HdmlError):
    """A request names an index that the server does not have."""


class Galleries:
    """Open indexes and their lenses; safe from several threads.

    An index that is made while the server runs can be asked for at once, and so can one that is removed and made anew.

    Attributes:
        workspace: whose indexes these are.
    """

    def __init__(self, workspace: Workspace, *, default: Path | None = None, device: str = "auto") -> None:
        """Serve a workspace.

        Args:
            default: folder of the index that answers when none is named, inside the workspace or not; the last updated one if
                not given.
            device: where to embed and search, see ``--device``.
        """
        self.workspace, self._device = workspace, device
        self._default = None if default is None else default.resolve()
        self._kept: dict[Path, _KeptOpen] = {}
        self._lock = threading.Lock()

    def listed(self) -> list[IndexInfo]:
        """What can be asked for by name, the default one first."""
        return served_indexes(self.workspace, self._default)

    def index(self, name: str | None = None) -> OpenIndex:
        """The index of that name, or the default one; raises HdmlError when there is none or it cannot be opened."""
        return self._keep(name).index()

    def lens(self, name: str | None = None) -> HardnessLens:
        """The lens of an index; raises NoLens when it has none, and HdmlError as index does."""
        return self._keep(name).lens()

    def moments(self) -> list[tuple[str, Generation]]:
        """What is searched at this moment in each index that is open, by its name."""
        with self._lock:
            opened = [(path.name, kept.opened) for path, kept in self._kept.items()]
        return [(name, index.present()) for name, index in opened if index is not None]

    def close(self) -> None:
        for kept in self._kept.values():
            kept.close()

    def _keep(self, name: str | None) -> "_KeptOpen":
        path = self._find(name)
        with self._lock:
            return self._kept.setdefault(path, _KeptOpen(path, self._device))

    def _find(self, name: str | None) -> Path:
        if name is None:
            return self._default or self.workspace.find_index()
        if self._default is not None and name == self._default.name:
            return self._default
        # Compared with what there is: a name from the network must not become a path.
        indexes = {path.parent.name: path.parent for path in self.workspace.indexes_dir.glob(f"*/{CATALOGUE}")}
        if name not in indexes:
            names = sorted(indexes.keys() | ({self._default.name} if self._default else set()))
            raise UnknownIndex(f"the server has no index {name}; it has {', '.join(names) or 'none'}")
        return indexes[name]


def served_indexes(workspace: Workspace, default: Path | None) -> list[IndexInfo]:
    """A workspace's indexes, the last updated first; before all others the default one, which may lie outside it."""
    found = workspace.indexes()
    if default is None:
        return found
    first = read_index_info(default)
    return [first, *(index for index in found if index.name != first.name)]


def make_ready(galleries: Galleries) -> dict[str, str | None]:
    """Open the index that answers when none is named, and its encoder, unless they are; raises HdmlError where that fails."""
    opened = galleries.index()
    moment = opened.present()
    if not is_imported(moment.model):
        opened.encoder_of(moment)
    return {"status": "ready", "index": opened.name, "model": moment.model}


def warm(galleries: Galleries) -> None:
    """Make ready in a thread of its own; whoever asks first is told what is wrong."""

    def open_all() -> None:
        with suppress(HdmlError):
            make_ready(galleries)

    threading.Thread(target=open_all, daemon=True).start()


class _KeptOpen:
    """An index that stays open while its catalogue is the same file; one that has taken its place is opened in its stead."""

    def __init__(self, path: Path, device: str) -> None:
        self._path, self._device = path, device
        self.opened: OpenIndex | None = None
        self._lens: HardnessLens | None = None
        self._file: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def index(self) -> OpenIndex:
        with self._lock:
            return self._current()

    def lens(self) -> HardnessLens:
        with self._lock:
            opened = self._current()
            if self._lens is None or self._lens.model != opened.present().model:
                self._lens = HardnessLens(opened)
            return self._lens

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()

    def _current(self) -> OpenIndex:
        file = _identity(self._path / CATALOGUE)
        if self.opened is None or file != self._file:
            opened = OpenIndex(self._path, device=self._device)
            # Other threads may still search what this one replaces: the last to let go of it closes it.
            weakref.finalize(opened, opened.catalogue.close)
            self.opened, self._lens, self._file = opened, None, file
        return self.opened


def _identity(file: Path) -> tuple[int, int] | None:
    """Device and number of a file, which no other file has while it is open; None when there is none."""
    try:
        about = file.stat()
    except FileNotFoundError:
        return None
    return about.st_dev, about.st_ino
