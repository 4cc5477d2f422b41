"""Labelled folders: reading them, splitting their classes, and training's own view of the photos."""

import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hdml.evaluate import DISTRACTOR
from hdml.weights import IMAGENET_MEAN, IMAGENET_STD
from indexing.errors import HdmlError, UnreadableImage
from indexing.gallery import check_gallery, find_photos
from indexing.memory import available_memory
from indexing.preprocess import Preprocessing, open_rgb

VALIDATION_SHARE = 0.15
"""Share of the training classes that is held out to choose the checkpoint."""
_MIN_CLASSES_FOR_VALIDATION = 6
_DISTRACTORS = 2  # per photo of a validation class
_CACHE_SHARE_OF_MEMORY = 0.25
_ASSUMED_MEMORY = 4e9  # bytes, where the system does not tell
# Cached photos are this much larger than the crop, so that most random crops shrink them instead of enlarging them.
_CACHE_SCALE = 1.3
_CROP_AREA = (0.35, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)
_TURN = 20.0  # degrees, to either side


@dataclass(frozen=True)
class LabelledPhotos:
    """Photos of a folder with one sub-folder per class.

    Attributes:
        root: the folder.
        paths: [n] paths of the photos below it, sorted.
        labels: [n] index into ``classes``, or :data:`hdml.evaluate.DISTRACTOR`.
        classes: names, sorted.
    """

    root: Path
    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def of_classes(self, names: Collection[str]) -> "LabelledPhotos":
        """The photos of some of the classes, with labels counted anew."""
        chosen = tuple(name for name in self.classes if name in set(names))
        new_label = {self.classes.index(name): new for new, name in enumerate(chosen)}
        keep = [index for index, label in enumerate(self.labels) if int(label) in new_label]
        labels = np.array([new_label[int(self.labels[index])] for index in keep], dtype=np.int64)
        return LabelledPhotos(self.root, tuple(self.paths[index] for index in keep), labels, chosen)

    def without(self, failed: Collection[Path]) -> "LabelledPhotos":
        """The same photos less those at some paths; classes that lose all their photos go."""
        keep = [index for index, path in enumerate(self.paths) if path not in failed]
        kept = [self.classes[int(self.labels[index])] for index in keep]
        classes = tuple(sorted(set(kept)))
        labels = np.array([classes.index(name) for name in kept], dtype=np.int64)
        return LabelledPhotos(self.root, tuple(self.paths[index] for index in keep), labels, classes)

    @property
    def files(self) -> list[Path]:
        return [self.root / path for path in self.paths]


def read_labelled_folder(root: Path) -> LabelledPhotos:
    """The photos of a folder with one sub-folder per class; photos may lie deeper below their class's folder.

    Raises:
        HdmlError: no such folder, no photos in it, or fewer than two classes.
    """
    if not root.is_dir():
        raise HdmlError(f"Labelled photos need a folder with one sub-folder per class, but there is no folder {root}.")
    check_gallery(root)
    paths = [path for path in find_photos(root) if len(path.parts) > 1]
    classes = tuple(sorted({path.parts[0] for path in paths}))
    if len(classes) < 2:
        found = f"photos of one class only ({classes[0]})" if classes else "no sub-folder with photos"
        raise HdmlError(f"Labelled photos need at least 2 classes, one sub-folder each, but {root} has {found}.")
    position = {name: index for index, name in enumerate(classes)}
    labels = np.array([position[path.parts[0]] for path in paths], dtype=np.int64)
    return LabelledPhotos(root, tuple(paths), labels, classes)


@dataclass(frozen=True)
class ClassSplit:
    """Class names of the three parts, which never mix.

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
    sizes = dict(zip(photos.classes, np.bincount(photos.labels, minlength=len(names)).tolist(), strict=True))
    paired = [name for name in rest if sizes[name] > 1]
    if len(paired) < 2:
        raise HdmlError(
            f"Training needs at least 2 classes with 2 photos or more besides the test classes, but {photos.root} has "
            f"{len(paired)}; add photos or choose fewer --test-classes."
        )
    if test and (len(test) < 2 or not any(sizes[name] > 1 for name in test)):
        raise HdmlError(
            "Testing needs at least 2 classes, one of them with 2 photos or more, since among photos of one class no answer is "
            f"wrong; --test-classes {test_classes} gives {len(test)} of {photos.root}."
        )
    validation = _spaced(paired, round(VALIDATION_SHARE * len(paired))) if len(paired) >= _MIN_CLASSES_FOR_VALIDATION else ()
    return ClassSplit(tuple(name for name in rest if name not in validation), validation, tuple(sorted(test)))


def validation_photos(photos: LabelledPhotos, split: ClassSplit) -> LabelledPhotos | None:
    """What chooses the checkpoint: the photos of the validation classes among distractors; None without such classes.

    A handful of classes by themselves is soon told apart without a fault, and then any checkpoint is as good as another. The
    distractors are photos of the training classes, from all over them.
    """
    if not split.validation:
        return None
    asked, learned = photos.of_classes(split.validation), photos.of_classes(split.train)
    count = min(len(learned.paths), _DISTRACTORS * len(asked.paths))
    among = tuple(learned.paths[index * len(learned.paths) // count] for index in range(count))
    labels = np.concatenate([asked.labels, np.full(count, DISTRACTOR)])
    return LabelledPhotos(photos.root, asked.paths + among, labels, asked.classes)


def absolute_rule(test_classes: str) -> str:
    """The same rule for :func:`split_classes` in whatever folder the process is: a file of class names by its whole path."""
    is_word = test_classes in ("none", "half") or test_classes.startswith("last:") or _as_share(test_classes) is not None
    return test_classes if is_word else str(Path(test_classes).resolve())


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


class TrainingPhotos:
    """Photos decoded once at training resolution and kept while a quarter of the free memory lasts, the rest decoded each time.

    Args:
        root: the folder.
        crop: side of the network's square input in pixels.
    """

    def __init__(self, root: Path, crop: int) -> None:
        self._root = root
        self._crop = crop
        self._shorter_side = round(_CACHE_SCALE * crop)
        self._cache: dict[Path, NDArray[np.uint8]] = {}
        self._free = _CACHE_SHARE_OF_MEMORY * (available_memory() or _ASSUMED_MEMORY)

    def read(self, paths: Sequence[Path], *, keep: Collection[Path], on_read: Callable[[], None]) -> dict[Path, str]:
        """Decode every photo once and keep those to be learned from; returns those that cannot be read, with the reason."""
        failures = {}
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for path, result in zip(paths, pool.map(self._try_decode, paths), strict=True):
                if isinstance(result, str):
                    failures[path] = result
                elif path in keep and result.nbytes < self._free:
                    self._cache[path] = result
                    self._free -= result.nbytes
                on_read()
        return failures

    def batch(self, paths: Sequence[Path], seed: tuple[int, ...]) -> Tensor:
        """Augmented, normalised images [len(paths), 3, crop, crop], a function of the paths and the seed alone."""
        images = np.stack([self._augmented(path, np.random.default_rng((*seed, row))) for row, path in enumerate(paths)])
        scale = np.float32(255) * np.asarray(IMAGENET_STD, np.float32)
        shift = np.asarray(IMAGENET_MEAN, np.float32) / np.asarray(IMAGENET_STD, np.float32)
        return torch.from_numpy(np.ascontiguousarray((images / scale - shift).transpose(0, 3, 1, 2)))

    def _try_decode(self, path: Path) -> NDArray[np.uint8] | str:
        try:
            return self._decode(path)
        except UnreadableImage as error:
            return str(error)

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        image = open_rgb(self._root / path, shorter_side=self._shorter_side)
        scale = self._shorter_side / min(image.size)
        if scale < 1:
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        return np.asarray(image)

    def _decode_again(self, path: Path) -> NDArray[np.uint8]:
        try:
            return self._decode(path)
        except UnreadableImage as error:
            raise HdmlError(f"{self._root / path} could be read when the run began, but now {error}; put it back.") from error

    def _augmented(self, path: Path, random: np.random.Generator) -> NDArray[np.uint8]:
        """A random crop and a coin's flip (arXiv:1903.05503, section 4.2), the crop of random area and from a turned photo.

        What turns into view from beyond the photo's edge has the photo's mean colour.
        """
        pixels = self._cache.get(path)
        pixels = self._decode_again(path) if pixels is None else pixels
        mean = tuple(round(value) for value in pixels.mean((0, 1)))
        turned = Image.fromarray(pixels).rotate(random.uniform(-_TURN, _TURN), Image.Resampling.BILINEAR, fillcolor=mean)
        box = _random_box(turned.width, turned.height, random)
        crop = turned.resize((self._crop, self._crop), Image.Resampling.BILINEAR, box=box)
        return np.asarray(crop)[:, :: -1 if random.random() < 0.5 else 1]


def _random_box(width: int, height: int, random: np.random.Generator) -> tuple[float, float, float, float]:
    area = random.uniform(*_CROP_AREA) * width * height
    aspect = float(np.exp(random.uniform(*np.log(_CROP_ASPECT))))
    box_width, box_height = min(width, (area * aspect) ** 0.5), min(height, (area / aspect) ** 0.5)
    left, top = random.uniform(0, width - box_width), random.uniform(0, height - box_height)
    return left, top, left + box_width, top + box_height


def evaluation_preprocessing(image_size: int) -> Preprocessing:
    """Shorter side to the network's input, centre crop, ImageNet statistics: what evaluation and search both use."""
    return Preprocessing(resize=image_size, crop=image_size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
