"""The public data sets of the literature, read from the files that their archives unpack to, with the published splits.

The published counts are those of H. Oh Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding" (CVPR 2016),
for the first three, and of Z. Liu et al., "DeepFashion" (CVPR 2016), for In-Shop. None of these archives is downloaded here.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hdml.data import LabelledPhotos, Photo, label_photos
from indexing.errors import HdmlError

Counts = Mapping[str, tuple[int, int]]
"""Photos and classes of each part."""
PUBLISHED: Mapping[str, Counts] = {
    "cub200": {"train": (5_864, 100), "test": (5_924, 100)},
    "cars196": {"train": (8_054, 98), "test": (8_131, 98)},
    "sop": {"train": (59_551, 11_318), "test": (60_502, 11_316)},
    "inshop": {"train": (25_882, 3_997), "query": (14_218, 3_985), "gallery": (12_612, 3_985)},
}
_Found = tuple[Path, str, str]  # path, class, part


def read_public_set(name: str, root: Path, *, expected: Counts | None = None) -> LabelledPhotos:
    """A public data set, each photo with its published part.

    Args:
        name: one of ``PUBLISHED``.
        root: the folder that its archive unpacked, or the one that holds it.
        expected: photos and classes of each part; None takes the published ones, and only tests of small copies take others.

    Raises:
        HdmlError: a file is missing or malformed, or the counts are not the expected ones.
    """
    home, found = _READERS[name](root)
    _check_counts(name, home, found, expected or PUBLISHED[name])
    _check_files(name, home, found)
    paths, names, parts = zip(*found, strict=True)
    return label_photos(home, [Photo(path) for path in paths], names, parts=parts)


def _read_cub200(root: Path) -> tuple[Path, list[_Found]]:
    """Classes 1–100 are for training; the data set's own train_test_split.txt is for classification and is passed over."""
    home = _home("cub200", root, "images.txt", "CUB_200_2011")
    class_of = {row[0]: _number(home / "image_class_labels.txt", row[1]) for row in _table(home, "image_class_labels.txt", 2)}
    found = []
    for image, path in _table(home, "images.txt", 2):
        if image not in class_of:
            raise HdmlError(
                f"{home / 'image_class_labels.txt'} must have a class for every image, but has none for {image} ({path})."
            )
        found.append((Path("images", path), Path(path).parts[0], "train" if class_of[image] <= 100 else "test"))
    return home, found


def _read_cars196(root: Path) -> tuple[Path, list[_Found]]:
    """Either layout: ``car_ims`` with one list, or the classification split's two folders, which are one here.

    Classes 1–98 are for training.
    """
    home = _home("cars196", root, "cars_annos.mat", "cars196", other="devkit/cars_train_annos.mat")
    if (home / "cars_annos.mat").is_file():
        content = _load_mat(home / "cars_annos.mat")
        listed = [(Path(row["relative_im_path"]), int(row["class"])) for row in _annotations(home / "cars_annos.mat", content)]
    else:
        content = _load_mat(home / "devkit/cars_meta.mat") if (home / "devkit/cars_meta.mat").is_file() else {}
        listed = []
        for folder, name in (("cars_train", "cars_train_annos.mat"), ("cars_test", "cars_test_annos_withlabels.mat")):
            file = next((place for place in (home / "devkit" / name, home / name) if place.is_file()), home / "devkit" / name)
            listed += [(Path(folder, row["fname"]), int(row["class"])) for row in _annotations(file, _load_mat(file))]
    names = [str(name) for name in np.atleast_1d(content.get("class_names", []))]

    def label(number: int) -> str:
        return f"{number:03d} {names[number - 1]}" if number <= len(names) else f"{number:03d}"

    return home, [(path, label(number), "train" if number <= 98 else "test") for path, number in listed]


def _read_sop(root: Path) -> tuple[Path, list[_Found]]:
    home = _home("sop", root, "Ebay_train.txt", "Stanford_Online_Products")
    found = []
    for part in ("train", "test"):
        file = f"Ebay_{part}.txt"
        for _, number, _, path in _table(home, file, 4, header="image_id class_id super_class_id path"):
            found.append((Path(path), f"{_number(home / file, number):05d}", part))
    return home, found


def _read_inshop(root: Path) -> tuple[Path, list[_Found]]:
    """Photos lie below ``Img``, as the archive has them, or beside ``Eval``."""
    name = "Eval/list_eval_partition.txt"
    home = _home("inshop", root, name, "In-shop Clothes Retrieval Benchmark")
    below = Path("Img") if (home / "Img").is_dir() else Path()
    rows = list(_table(home, name, 3, header="image_name item_id evaluation_status", counted=True))
    strange = sorted({row[2] for row in rows} - {"train", "query", "gallery"})
    if strange:
        raise HdmlError(f"{home / name} must say train, query or gallery of each photo, but says {strange[0]}; unpack it again.")
    return home, [(below / path, item, part) for path, item, part in rows]


_READERS: Mapping[str, Callable[[Path], tuple[Path, list[_Found]]]] = {
    "cub200": _read_cub200,
    "cars196": _read_cars196,
    "sop": _read_sop,
    "inshop": _read_inshop,
}


def _home(name: str, root: Path, marker: str, folder: str, *, other: str | None = None) -> Path:
    """The folder with the data set's lists: the one given, or the one that the archive made in it."""
    for home in (root, root / folder):
        if (home / marker).is_file() or (other is not None and (home / other).is_file()):
            return home
    wanted = f"{marker} or {other}" if other else marker
    raise HdmlError(f"{name} needs {wanted}, but {root} has none; give the folder that its archive unpacked with --root.")


def _table(home: Path, name: str, columns: int, *, header: str | None = None, counted: bool = False) -> Iterator[tuple[str, ...]]:
    """Rows of a list whose columns are divided by blanks, below its count and its header if it has them."""
    file = home / name
    if not file.is_file():
        raise HdmlError(f"{home} must hold {name}, but there is no such file; unpack the archive again.")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise HdmlError(f"{file} must be UTF-8 text, but is in another encoding; unpack the archive again.") from error
    first = int(counted) + int(header is not None)
    if header is not None and (len(lines) < first or lines[first - 1].split() != header.split()):
        raise HdmlError(f"line {first} of {file} must be: {header}; unpack the archive again.")
    count = 0
    for number, line in enumerate(lines[first:], start=first + 1):
        row = tuple(line.split())
        if row and len(row) != columns:
            raise HdmlError(f"line {number} of {file} must have {columns} columns, but has {len(row)}; unpack the archive again.")
        if row:
            count += 1
            yield row
    if counted and lines[0].strip() != str(count):
        raise HdmlError(f"{file} must have as many rows as its first line says ({lines[0]}), but has {count}; unpack it again.")


def _number(file: Path, text: str) -> int:
    if not text.isdecimal():
        raise HdmlError(f"{file} must give each class as a number, but gives {text}; unpack the archive again.")
    return int(text)


def _load_mat(file: Path) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not file.is_file():
        raise HdmlError(f"cars196 needs {file}, but there is no such file; the devkit's archive has it.")
    try:
        content: dict[str, Any] = loadmat(file, simplify_cells=True)
    except (MatReadError, NotImplementedError, ValueError, TypeError, OSError) as error:
        raise HdmlError(f"{file} must be a MATLAB file of the data set, but cannot be read ({error}); fetch it again.") from error
    return content


def _annotations(file: Path, content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    rows = content.get("annotations", [])
    listed = [rows] if isinstance(rows, dict) else list(rows)
    if not listed or "class" not in listed[0]:
        raise HdmlError(
            f"{file} must have annotations with classes, but has {'none' if not listed else 'no classes'}; "
            "of the test photos the devkit keeps them in cars_test_annos_withlabels.mat."
        )
    return listed


def _check_counts(name: str, home: Path, found: list[_Found], expected: Counts) -> None:
    wrong = []
    for part, (photos, classes) in expected.items():
        names = [label for _, label, its_part in found if its_part == part]
        if (len(names), len(set(names))) != (photos, classes):
            wrong.append(f"{photos:,} {part} photos of {classes:,} classes, but has {len(names):,} of {len(set(names)):,}")
    if wrong:
        raise HdmlError(f"{name} must have {'; '.join(wrong)} in {home}; unpack its archive again.")


def _check_files(name: str, home: Path, found: list[_Found]) -> None:
    missing = [path for path, _, _ in found if not (home / path).is_file()]
    if missing:
        raise HdmlError(
            f"{name} must have its {len(found):,} photos in {home}, but {len(missing):,} are missing, the first "
            f"{missing[0].as_posix()}; unpack its archive again."
        )
