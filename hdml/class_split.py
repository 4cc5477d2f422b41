"""The split by class: the rules that name test classes, and the classes that are held out to choose the checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdml.data import LabelledPhotos
from indexing.errors import HdmlError

VALIDATION_SHARE = 0.15
"""Share of the training classes (of the groups, where the split is by group) that is held out to choose the checkpoint."""
PUBLISHED = "published"
"""The rule of test classes that takes the parts that the data themselves state."""
_MIN_CLASSES_FOR_VALIDATION = 6


@dataclass(frozen=True)
class ClassSplit:
    """Class names of the three parts, which never mix where the split is by class.

    Attributes:
        train: learned from.
        validation: held-out training classes that choose the checkpoint; empty when there are too few classes.
        test: touched once, at the end; empty when none were asked for.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split_classes(photos: LabelledPhotos, test_classes: str) -> ClassSplit:
    """Split the classes, sorted by name.

    Args:
        photos: all of them.
        test_classes: ``none``; ``last:N``; ``half`` (the last half, the larger one of an odd number); a share such as ``0.5``
            of the classes, the last ones; or the path of a text file with one class name per line.

    Raises:
        HdmlError: the rule cannot be read, names unknown classes, or leaves too little to learn from or to test on.
    """
    names = list(photos.classes)
    test = _test_classes(names, test_classes)
    rest = [name for name in names if name not in test]
    sizes = class_sizes(photos, range(len(photos.paths)))
    validation = validation_classes(photos, {name: sizes[name] for name in rest}, "choose fewer --test-classes")
    if test and (len(test) < 2 or not any(sizes[name] > 1 for name in test)):
        raise HdmlError(
            "Testing needs at least 2 classes, one of them with 2 photos or more, since among photos of one class no answer is "
            f"wrong; --test-classes {test_classes} gives {len(test)} of {photos.root}."
        )
    held_out = set(validation)
    return ClassSplit(tuple(name for name in rest if name not in held_out), validation, tuple(sorted(test)))


def validation_classes(photos: LabelledPhotos, sizes: Mapping[str, int], remedy: str) -> tuple[str, ...]:
    """Of the training classes with a pair, those that choose the checkpoint; raises HdmlError when too few have one."""
    paired = check_learnable(photos, sizes, remedy)
    return _spaced(paired, round(VALIDATION_SHARE * len(paired))) if len(paired) >= _MIN_CLASSES_FOR_VALIDATION else ()


def check_learnable(photos: LabelledPhotos, sizes: Mapping[str, int], remedy: str) -> list[str]:
    """The training classes with a pair, by name; raises HdmlError when they are fewer than two."""
    paired = [name for name, size in sizes.items() if size > 1]
    if len(paired) < 2:
        raise HdmlError(
            f"Training needs at least 2 classes with 2 photos or more besides the test classes, but {photos.root} has "
            f"{len(paired)}; add photos or {remedy}."
        )
    return paired


def class_sizes(photos: LabelledPhotos, indices: Sequence[int]) -> dict[str, int]:
    """Number of photos of each class that has any among these, by name."""
    counts = np.bincount(photos.labels[list(indices)], minlength=len(photos.classes))
    return {photos.classes[label]: int(counts[label]) for label in np.flatnonzero(counts)}


def absolute_rule(test_classes: str) -> str:
    """The same rule for :func:`split_classes` in whatever folder the process is: a file of class names by its whole path."""
    is_word = test_classes in ("none", "half", PUBLISHED) or test_classes.startswith("last:")
    return test_classes if is_word or _as_share(test_classes) is not None else str(Path(test_classes).resolve())


def _test_classes(names: Sequence[str], rule: str) -> set[str]:
    if rule == "none":
        return set()
    if rule == "half":
        return set(names[len(names) // 2 :])
    if rule.startswith("last:") and rule.removeprefix("last:").isdecimal():
        count = int(rule.removeprefix("last:"))
        if not 0 < count < len(names):
            raise HdmlError(f"--test-classes last:N needs N between 1 and {len(names) - 1}, got {count}.")
        return set(names[-count:])
    if (share := _as_share(rule)) is not None:
        return set(names[len(names) - max(1, round(share * len(names))) :])
    return _listed_classes(names, Path(rule))


def _as_share(rule: str) -> float | None:
    try:
        share = float(rule)
    except ValueError:
        return None
    if not 0 < share < 1:
        raise HdmlError(f"--test-classes as a share must lie between 0 and 1, got {rule}; for a number of classes say last:N.")
    return share


def _listed_classes(names: Sequence[str], file: Path) -> set[str]:
    if not file.is_file():
        raise HdmlError(f"--test-classes must be none, last:N, half, a share such as 0.5 or a file of class names, got {file}.")
    try:
        listed = {line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()}
    except UnicodeDecodeError as error:
        raise HdmlError(f"{file} must list classes one a line as UTF-8 text, but is in another encoding.") from error
    unknown = sorted(listed - set(names))
    if unknown or not listed:
        problem = f"names {unknown[0]!r}, which is no class of this folder" if unknown else "names no class"
        raise HdmlError(f"{file} must list classes one a line, but it {problem}.")
    return listed


def _spaced(names: Sequence[str], count: int) -> tuple[str, ...]:
    """``count`` names evenly spaced over the sorted ones, so that families that share a prefix are all represented."""
    count = max(2, count)
    return tuple(names[int((index + 0.5) * len(names) / count)] for index in range(count))
