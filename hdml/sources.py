"""From what a person names to labelled photos: a folder, a manifest or a public data set."""

from pathlib import Path

from hdml.data import LabelledPhotos, read_labelled_folder
from hdml.manifest import read_manifest
from hdml.public_sets import PUBLISHED, read_public_set
from indexing.errors import HdmlError
from indexing.tables import SUFFIXES


def find_source(data: str | None, root: Path | None) -> tuple[Path, str | None]:
    """Where the photos are, and the public data set that they are, if any.

    A name such as cub200 means the public data set when ``root`` says where it lies, and is a path like any other when not.

    Raises:
        HdmlError: ``root`` is given for what is no public data set, or is missing.
    """
    if root is not None:
        if data not in PUBLISHED:
            names, got = ", ".join(PUBLISHED), data or "none of them"
            raise HdmlError(f"--root says where {names} lies, but got {got}; a folder or a manifest needs none.")
        return root, data
    if data is None:
        raise HdmlError("Photos are a folder, a manifest or, with --root, a public data set, but got nothing; name one of them.")
    if data in PUBLISHED and not Path(data).exists():
        raise HdmlError(f"{data} needs --root, the folder that its archive unpacked (docs/data.md says where to get it).")
    return Path(data), None


def read_photos(source: Path, data_set: str | None = None) -> LabelledPhotos:
    """The photos of a labelled folder or a manifest, or of the public data set of that name.

    Raises:
        HdmlError: they cannot be read, or have fewer than two classes.
    """
    if data_set is not None:
        return read_public_set(data_set, source)
    if source.suffix.lower() in SUFFIXES and not source.is_dir():
        return read_manifest(source)
    return read_labelled_folder(source)
