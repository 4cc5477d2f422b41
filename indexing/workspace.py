"""The workspace: the one folder that holds everything a user makes, runs and indexes."""

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from indexing.catalogue import About, Catalogue, has_catalogue
from indexing.encoder import ENCODER
from indexing.errors import HdmlError
from indexing.gallery import check_gallery

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunInfo:
    """A finished run: its name, folder, encoder file, and when it finished."""

    name: str
    path: Path
    encoder: Path
    finished: datetime


@dataclass(frozen=True)
class IndexInfo:
    """An index: its name, folder, gallery, encoder's fingerprint and file, number of searchable items, and last update."""

    name: str
    path: Path
    gallery: Path
    model: str
    encoder: Path
    items: int
    updated: str


class Workspace:
    """A folder with ``runs/``, ``indexes/`` and ``bundles/``, unpacked ones; none has to exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs_dir = root / "runs"
        self.indexes_dir = root / "indexes"
        self.bundles_dir = root / "bundles"

    def finished_runs(self) -> list[RunInfo]:
        """Runs that have an encoder, the newest first."""
        encoders = self.runs_dir.glob(f"*/{ENCODER}")
        runs = [RunInfo(path.parent.name, path.parent, path, _finished(path)) for path in encoders]
        return sorted(runs, key=lambda run: (run.finished, run.name), reverse=True)

    def newest_encoder(self) -> Path:
        """The encoder of the newest run; raises HdmlError when there is none."""
        runs = self.finished_runs()
        if not runs:
            raise HdmlError(
                f'the workspace {self.root} must hold a finished run, but has none; train one with "hdml train PHOTOS" or '
                'take an untrained network with "hdml export --backbone resnet50 --weights imagenet"'
            )
        return runs[0].encoder

    def find_encoder(self, given: str | Path) -> Path:
        """The encoder that a user means by a run's name or folder, or an .onnx file, which ``runs/`` may be left out of.

        Raises HdmlError when there is none.
        """
        for path in (self.runs_dir / given / ENCODER, self.runs_dir / given, Path(given) / ENCODER, Path(given)):
            if path.is_file():
                return path
        names = ", ".join(run.name for run in self.finished_runs()) or "none"
        raise HdmlError(
            f"the encoder must be a finished run or an .onnx file, but {given} is neither; finished runs in {self.root}: {names}"
        )

    def indexes(self) -> list[IndexInfo]:
        """Indexes that can be opened, the last updated first; a broken one is passed over with a warning in the log."""
        found, broken = self._read_indexes()
        _pass_over(broken)
        return found

    def _read_indexes(self) -> tuple[list[IndexInfo], dict[Path, HdmlError]]:
        """Indexes that can be opened, the last updated first, and the folders of those that cannot, with the reason."""
        found, broken = [], {}
        for path in sorted(self.indexes_dir.glob("*")):
            try:
                if has_catalogue(path):
                    found.append(read_index_info(path))
            except HdmlError as error:
                broken[path] = error
        return sorted(found, key=lambda index: (index.updated, index.name), reverse=True), broken

    def find_index(self, given: str | Path | None = None) -> Path:
        """The folder of the index that a user means by its name, folder or bundle, or of the last updated one.

        Raises HdmlError when there is none, or none that can be opened.
        """
        if given is not None:
            if Path(given).is_file():
                from indexing.bundle import unpack_bundle

                return unpack_bundle(Path(given), self.bundles_dir)
            for path in (self.indexes_dir / given, Path(given)):
                if has_catalogue(path):
                    return path
        indexes, broken = self._read_indexes()
        names = ", ".join([*(index.name for index in indexes), *(path.name for path in broken)])
        if not names:
            missing = "no index" if given is None else f"no index {given} nor any other"
            raise HdmlError(f'the workspace {self.root} must hold an index, but has {missing}; make one with "hdml index FOLDER"')
        if given is not None:
            raise HdmlError(f"the workspace {self.root} has no index {given}; it has {names}")
        if not indexes:
            raise next(iter(broken.values()))
        _pass_over(broken)
        return indexes[0].path

    def index_for_gallery(self, gallery: Path) -> Path:
        """The folder of a gallery's index: the one it has, else a new one named after the gallery's folder.

        The new folder is not made. Raises HdmlError when the gallery is not a folder, or when an index that cannot be opened
        has the new one's name: it may be this gallery's.
        """
        resolved = check_gallery(gallery)
        indexes, broken = self._read_indexes()
        for index in indexes:
            if index.gallery == resolved:
                return index.path
        name = resolved.name or "root"
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        taken = {index.path for index in indexes}
        # A folder without a catalogue is what an interrupted first run left; it may be used.
        path = next(path for path in map(self.indexes_dir.joinpath, names) if path not in taken)
        if path in broken:
            raise broken[path]
        _pass_over(broken)
        return path

    def newer_run(self, index_dir: Path) -> RunInfo | None:
        """The newest run, if it finished after the run that the index's encoder comes from."""
        with Catalogue(index_dir) as catalogue:
            encoder = catalogue.about().encoder
        newest = next(iter(self.finished_runs()), None)
        if newest is None or not encoder.exists() or encoder.samefile(newest.encoder):
            return None
        return newest if newest.finished > _finished(encoder) else None


def _pass_over(broken: dict[Path, HdmlError]) -> None:
    for error in broken.values():
        logger.warning("%s", error)


def read_index_info(path: Path) -> IndexInfo:
    """What an index's catalogue tells of it; raises HdmlError when there is none or it cannot be opened."""
    with Catalogue(path) as catalogue:
        about: About = catalogue.about()
        return IndexInfo(path.name, path, about.gallery, about.fingerprint, about.encoder, catalogue.count(), about.updated)


def _finished(encoder: Path) -> datetime:
    """When the run beside an encoder finished: by its run.json, else by the encoder file's own time."""
    try:
        finished = datetime.fromisoformat(json.loads((encoder.parent / "run.json").read_text(encoding="utf-8"))["finished"])
        return finished.astimezone(UTC)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ):  # no run.json, not one of ours, or damaged
        return datetime.fromtimestamp(encoder.stat().st_mtime, UTC)
