"""Bundles: an index in one file, with its encoder and a small picture of every photo, to be searched and served elsewhere.

A bundle is a ZIP file, stored without compression, of the files that an index consists of. It is unpacked once, into a folder
named after what is in it, and searched there like any other index.
"""

import hashlib
import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from indexing.catalogue import CATALOGUE, Catalogue
from indexing.database import connect, in_words
from indexing.encoder import ENCODER
from indexing.errors import HdmlError
from indexing.gallery import Failure
from indexing.index import ABANDONED_S, cache_path, manifest_path, sequences_of
from indexing.indexer import COMPANIONS, merge
from indexing.lock import indexing_alone
from indexing.pictures import PICTURES, draw_all

SUFFIX = ".hdml"
_ABOUT = "bundle.json"
_VERSION = 1
# All that may be in one: what has another name is never written to the disk.
_MEMBER = re.compile(
    "|".join([*map(re.escape, (_ABOUT, CATALOGUE, ENCODER, PICTURES, *COMPANIONS)), r"index\.\d{1,19}\.(faiss|json)"])
)
_COPIED_AT_A_TIME = 1 << 20
# The model that searches compare by becomes the first, whose encoder lies beside the catalogue.
_ONE_MODEL = """
DELETE FROM vectors WHERE model != (SELECT value FROM meta WHERE key = 'model');
DELETE FROM models WHERE id != (SELECT value FROM meta WHERE key = 'model');
UPDATE vectors SET model = 1; UPDATE models SET id = 1; UPDATE meta SET value = 1 WHERE key = 'model';
DELETE FROM meta WHERE key IN ('migration', 'manifest');
"""
# What people have said of results, and the photos that they sent for it, is nobody else's.
_NO_MARKS = "DELETE FROM marks; DELETE FROM query_photos;"


@dataclass(frozen=True)
class Packed:
    """A bundle that was made: its file and size in bytes, the number of items, and photos without a picture, with reasons."""

    file: Path
    bytes: int
    items: int
    failed: list[Failure]


def pack_index(index_dir: Path, file: Path, *, side: int = 480, progress: Callable[[int, int], None] | None = None) -> Packed:
    """Write an index as a bundle, which appears whole or not at all; pictures drawn before an interruption are not drawn again.

    Nothing in it tells where the photos lie on this machine, besides their paths below the gallery.

    Args:
        side: longer side of the pictures, in pixels.
        progress: told how many pictures of how many are done.

    Raises:
        HdmlError: there is no index, it is empty, another process is indexing, or the file cannot be written.
    """
    if file.suffix != SUFFIX:
        raise HdmlError(f"a bundle must be a file that ends in {SUFFIX}, not {file}")
    pictures, copy, unfinished = (file.with_name(f"{file.name}.{part}.part") for part in ("pictures", "catalogue", "zip"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with indexing_alone(index_dir), Catalogue(index_dir) as catalogue:
            about = catalogue.about()
            items, paths = catalogue.count(), catalogue.paths()
            if items == 0:
                raise HdmlError(f"a bundle needs an index with photos, but {index_dir} has none that can be read")
            merge(index_dir, catalogue, share=0.0)  # the copy forgets what is gone, and its base must not know better
            failed = draw_all(
                ((item, about.gallery / path) for item, path in paths),
                pictures,
                side,
                progress=None if progress is None else lambda done: progress(done, items),
            )
            _copy_catalogue(catalogue, copy, about.gallery.name)
            sequence = sequences_of(index_dir, about.fingerprint)[-1]
            members = {CATALOGUE: copy, PICTURES: pictures}
            members |= {path.name: path for path in (cache_path(index_dir, sequence), manifest_path(index_dir, sequence))}
            members |= {name: path for name in (ENCODER, *COMPANIONS) if (path := about.encoder.with_name(name)).is_file()}
            with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_ABOUT, json.dumps({"version": _VERSION, "name": index_dir.resolve().name, "items": items}))
                for name, path in members.items():
                    archive.write(path, name)
        unfinished.replace(file)
    except OSError as error:
        raise HdmlError(
            f"{file} cannot be written: {error.strerror or error}; free some space or choose another place"
        ) from error
    finally:
        copy.unlink(missing_ok=True)
        unfinished.unlink(missing_ok=True)
    pictures.unlink()
    return Packed(
        file, file.stat().st_size, items, [Failure(os.path.relpath(one.path, about.gallery), one.reason) for one in failed]
    )


def _copy_catalogue(catalogue: Catalogue, copy: Path, gallery: str) -> None:
    """A copy without what is not searched, and without the place of the gallery."""
    copy.unlink(missing_ok=True)
    catalogue.copy_to(copy)
    with in_words(copy), closing(connect(copy)) as connection:
        connection.executescript(_ONE_MODEL + _NO_MARKS)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM items WHERE state != 'ready'")
        connection.execute("UPDATE meta SET value = ? WHERE key = 'gallery'", (gallery,))
        connection.execute("VACUUM")


def unpack_bundle(file: Path, place: Path) -> Path:
    """The folder of a bundle's index below ``place``, where it is unpacked unless it has been before.

    Raises:
        HdmlError: it is no bundle, of another version or damaged, or it cannot be unpacked there.
    """
    _remove_abandoned(place)
    try:
        with zipfile.ZipFile(file) as archive:
            name, identity = _check(file, archive)
            target = place / identity / name
            if target.is_dir():
                return target
            unfinished = place / f"{identity}.{os.getpid()}.part"
            try:
                (unfinished / name).mkdir(parents=True)
                for member in archive.infolist():
                    with archive.open(member) as source, (unfinished / name / member.filename).open("wb") as copied:
                        shutil.copyfileobj(source, copied, _COPIED_AT_A_TIME)
                unfinished.rename(target.parent)
            except OSError:
                if not target.is_dir():  # else another process was as quick
                    raise
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except zipfile.BadZipFile as error:
        raise HdmlError(f"{file} must be a bundle, but is damaged or none ({error}); pack the index again") from error
    except OSError as error:
        raise HdmlError(f"{file} cannot be unpacked to {place}: {error.strerror or error}; free some space") from error
    return target


def _remove_abandoned(place: Path) -> None:
    """Remove what processes left that were killed while they unpacked."""
    for unfinished in place.glob("*.part"):
        with suppress(FileNotFoundError):  # its process has just finished it
            latest = max(path.stat().st_mtime for path in (unfinished, *unfinished.rglob("*")))
            if time.time() - latest > ABANDONED_S:
                shutil.rmtree(unfinished, ignore_errors=True)


def _check(file: Path, archive: zipfile.ZipFile) -> tuple[str, str]:
    """Name of the index in a bundle, and a hash of all that is in it, by the sums that the archive holds."""
    members = archive.infolist()
    strange = [member.filename for member in members if not _MEMBER.fullmatch(member.filename)]
    names = [member.filename for member in members]
    if strange or len(set(names)) < len(names) or not {_ABOUT, CATALOGUE, PICTURES} <= set(names):
        found = f"it has {strange[0]!r}" if strange else "it lacks a file or has one twice"
        raise HdmlError(f"{file} must be a bundle of an index, but {found}; pack the index again")
    try:
        about = json.loads(archive.read(_ABOUT))
        version, name = about["version"], Path(about["name"]).name
    except (ValueError, KeyError, TypeError) as error:
        raise HdmlError(f"{file} must be a bundle of an index, but its {_ABOUT} cannot be read; pack the index again") from error
    if version != _VERSION or not name:
        raise HdmlError(f"{file} must be a bundle of version {_VERSION}, but is of version {version}; update hdml")
    sums = json.dumps([(member.filename, member.file_size, member.CRC) for member in members])
    return name, hashlib.blake2b(sums.encode(), digest_size=8).hexdigest()
