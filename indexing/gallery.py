"""Walk a gallery: any folder of photos, nested or flat."""

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from indexing.errors import HdmlError
from indexing.preprocess import EXTENSIONS

# Phones write HEIC, which Pillow cannot read without an extra: better listed as unreadable then than passed over in silence.
_PHOTO_EXTENSIONS = EXTENSIONS | {".heic", ".heif"}
# Thumbnails and resource forks that network drives and archives leave behind; other hidden names begin with a dot.
_HIDDEN_FOLDERS = {"@eaDir", "__MACOSX"}
# A name and what has it, in the order of paths: what is in a folder comes where its name with a slash does.
_Entry = tuple[str, "os.DirEntry[str]"]


class PhotoFile(NamedTuple):
    """A photo file found in a gallery.

    Attributes:
        path: relative to the gallery, with forward slashes.
        label: name of the first folder below the gallery, None for a photo that lies in the gallery itself.
        size: in bytes.
        mtime_ns: time of the last change, in nanoseconds since 1970.
        reason: why it cannot be read, where that is known without opening it.
        unseen: whether it, or what lies below it if it is a folder, may be there all the same and only could not be looked at.
        attributes: what else is known of it, by name.
    """

    path: str
    label: str | None
    size: int = 0
    mtime_ns: int = 0
    reason: str | None = None
    unseen: bool = False
    attributes: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Failure:
    """A file that could not be read, relative to the gallery, and why."""

    path: str
    reason: str


def check_gallery(gallery: Path) -> Path:
    """The gallery's resolved path; raises HdmlError unless it is a folder."""
    try:
        mode = gallery.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise HdmlError(f"{gallery} must be a folder of photos, but it does not exist") from error
    except OSError as error:
        raise HdmlError(f"{gallery} must be a folder of photos, but cannot be reached: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise HdmlError(f"{gallery} must be a folder of photos, but it is a file; give the folder that holds it")
    resolved = gallery.resolve()
    if not _is_text(str(resolved)):
        raise HdmlError(f"{_readable(str(resolved))} must be a folder whose name is valid UTF-8; rename it")
    return resolved


def find_photos(gallery: Path) -> list[Path]:
    """Paths of the photo files below a folder, relative to it, sorted; those known to be unreadable are left out."""
    return sorted(Path(photo.path) for photo in walk_gallery(gallery) if photo.reason is None)


def walk_gallery(gallery: Path) -> Iterator[PhotoFile]:
    """Find the photo files below a folder, by extension, in the order of their paths.

    Hidden files and folders are passed over. Links to folders are followed, but no folder is entered twice and none
    that holds the gallery, so a loop ends. A folder that cannot be listed is given as a PhotoFile with the reason.

    Raises:
        HdmlError: the gallery itself cannot be listed.
    """
    entered = {_identity(folder) for folder in (gallery.resolve(), *gallery.resolve().parents)}
    try:
        listed = _list_folder(str(gallery), entered)
    except OSError as error:
        raise HdmlError(
            f"{gallery} must be a folder of photos, but it cannot be listed: {error.strerror}; change its permissions"
        ) from error
    folders: list[tuple[str, str | None, Iterator[_Entry]]] = [("", None, iter(listed))]  # the one that is looked through last
    while folders:
        below, label, entries = folders[-1]
        for name, entry in entries:
            if not name.endswith("/"):
                yield _photo_file(entry, below + name, label)
                continue
            try:
                listed = _list_folder(entry.path, entered)
            except OSError as error:
                reason = f"the folder cannot be listed: {error.strerror}"
                yield PhotoFile(_readable(below + entry.name), None, reason=reason, unseen=True)
                continue
            folders.append((below + name, label or entry.name, iter(listed)))
            break
        else:
            folders.pop()


def _list_folder(folder: str, entered: set[tuple[int, int]]) -> list[_Entry]:
    """What the walk is to look at in a folder, in the order of the paths below it; folders have a slash after their names."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if _hidden(name):
                continue
            if _is_folder(entry):
                if _enter(entry, entered):
                    found.append((f"{name}/", entry))
            elif name[name.rfind(".") :].lower() in _PHOTO_EXTENSIONS:
                found.append((name, entry))
    return sorted(found, key=itemgetter(0))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _HIDDEN_FOLDERS


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # what cannot be looked at is told of as a file
        return False


def _enter(folder: os.DirEntry[str], entered: set[tuple[int, int]]) -> bool:
    try:
        identity = _identity(folder)
    except OSError:
        return True  # what cannot be looked at cannot be listed either, and the walk then says why
    if identity in entered:
        return False
    entered.add(identity)
    return True


def _identity(folder: Path | os.DirEntry[str]) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _photo_file(file: os.DirEntry[str], path: str, label: str | None) -> PhotoFile:
    if not _is_text(path):
        # SQLite, JSON and terminals hold text only; such a name would fail in each of them.
        label = label and _readable(label)
        return PhotoFile(_readable(path), label, reason="the file's name or folder is not valid UTF-8; rename it")
    try:
        status = file.stat()
    except OSError as error:
        return PhotoFile(path, label, reason=f"the file cannot be read: {error.strerror}", unseen=True)
    if not stat.S_ISREG(status.st_mode):
        return PhotoFile(path, label, reason="it is not a regular file")  # opening a pipe would wait for ever
    return PhotoFile(path, label, status.st_size, status.st_mtime_ns)


def _is_text(path: str) -> bool:
    """Whether a path is proper Unicode: Python keeps undecodable bytes of a name as lone surrogates."""
    return path.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in path)


def _readable(path: str) -> str:
    """The path with each undecodable byte written as an escape such as ``\\xe9``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def any_glob(globs: Iterable[str]) -> Callable[[str], bool]:
    """Whether a path, relative to the gallery, matches one of some globs; ``*`` matches slashes too."""
    matches = [re.compile(fnmatch.translate(glob)).match for glob in globs]
    return lambda path: any(match(path) for match in matches)
