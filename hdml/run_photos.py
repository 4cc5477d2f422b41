"""The photos of a run: read, split and looked at for copies when it begins, and the same ones when it goes on."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hdml.augmentation import TrainingPhotos
from hdml.config import TrainConfig
from hdml.data import LabelledPhotos, Photo
from hdml.distributed import ALONE, Processes
from hdml.feedback import learn, read_marks, tell_lesson, twins_of, with_lesson, write_lesson
from hdml.leaks import Looks, find_leaks, tell_leaks
from hdml.measure import read_recorded, recorded_split
from hdml.run import LEAKS, write_lists
from hdml.splits import Split, SplitRule, groups_on_both_sides, split_photos
from hdml.watcher import Watcher
from indexing.errors import HdmlError


def read_run_photos(
    run: Path, record: dict[str, Any], config: TrainConfig, watcher: Watcher, processes: Processes = ALONE
) -> tuple[Split, TrainingPhotos, Looks | None]:
    """The split of all readable photos, those to learn from decoded and kept; the others are told with their reasons.

    While they are decoded they are looked at for copies, unless that is done; of several processes, by the first. Photos that
    join by marks are among those to learn from.
    """
    photos = read_recorded(record)
    if digest_of(photos) != record["data"]["digest"]:
        raise HdmlError(
            f"A run goes on with the photos it began with, but those in {photos.root} have changed since "
            f"{record['started']}; start a new run."
        )
    decoded = TrainingPhotos(photos.root, config.image_size, as_authors=config.setting == "paper", sharers=processes.size)
    done = 0

    def on_read() -> None:
        nonlocal done
        done += 1
        watcher.read(done, len(photos.paths) + len(outside))

    marks = read_marks(run)
    twins = twins_of(photos, marks)
    outside = sorted({Photo(photo.file) for photo, same in twins.items() if photo.digest is not None and not same})
    looks = None if "leaks" in record or not processes.first else Looks(photos.root)
    # All are learned from by a run that has got to its refit.
    learned = photos if "after" in record else _split(run, record, config, photos).train_set
    failures = decoded.read(
        (*photos.photos, *outside),
        keep={*learned.photos, *outside},
        on_read=on_read,
        look=looks.look if looks else None,
    )
    for left_out, reason in (*photos.left_out, *failures.items()):
        watcher.say(f"Left out: {left_out}: {reason}")
    split = _split(run, record, config, photos.without(failures))
    if marks:
        lesson = learn(marks, split, twins, unreadable={photo.path for photo in failures})
        if processes.first:
            write_lesson(run, lesson)
            watcher.say(tell_lesson(lesson, marks, run))
        split = with_lesson(split, lesson)
    return split, decoded, looks


def check_leaks(run: Path, record: dict[str, Any], split: Split, looks: Looks, watcher: Watcher) -> dict[str, Any]:
    """Tell copies and list them; returns what the record keeps of it, with a hash of the photos' bytes."""
    leaks = find_leaks(split, looks)
    listed = leaks.to_json()
    write_lists(run / LEAKS, listed)
    for sentence in tell_leaks(leaks, run / LEAKS):
        watcher.say(sentence)
    data = {**record["data"], "sha256": looks.sha256(split.photos)}
    return {"data": data, "leaks": {name: len(pairs) for name, pairs in listed.items()}}


def _split(run: Path, record: dict[str, Any], config: TrainConfig, photos: LabelledPhotos) -> Split:
    """As recorded, or by the rule when nothing is recorded yet."""
    if "classes" in record:
        return recorded_split(run, photos)
    by = record.get("split", {"by": "class", "hold_out": 0.0})
    return split_photos(photos, SplitRule(by["by"], config.test_classes, by["hold_out"]))


def say_split(split: Split, measured_on: str, watcher: Watcher) -> None:
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    parts |= {name: part for name, part in (("gallery", split.gallery), ("seen", split.seen)) if part}
    labels = split.photos.labels
    counted = [f"{name} {len(np.unique(labels[list(part)]))} classes, {len(part)} photos" for name, part in parts.items()]
    watcher.say(f"Photos split: {'; '.join(counted)}. Figures will be of: {measured_on}.")
    if shared := groups_on_both_sides(split):
        watcher.say(f"Groups with photos both learned from and measured on: {_listed(shared)}; --split group keeps them apart.")
    sizes = np.bincount(labels, minlength=len(split.photos.classes))
    lonely = [name for name, size in zip(split.photos.classes, sizes, strict=True) if size == 1]
    if lonely:
        watcher.say(f"Classes with a single photo form no pair and teach nothing; there are {_listed(lonely)}.")
    if 2 * len(lonely) > len(sizes):
        watcher.say(
            f"Most classes, {len(lonely)} of {len(sizes)}, have a single photo: look whether the labels name what is to be "
            "found, and not each photo."
        )
    if not split.validation:
        watcher.say("Too few classes to hold any out for validation: the last step's model is taken.")


def _listed(names: Sequence[str]) -> str:
    """How many there are, and the first of them."""
    return f"{len(names)}: {', '.join(names[:5])}" + (", …" if len(names) > 5 else "")


def digest_of(photos: LabelledPhotos) -> str:
    """Of the photos' names and sizes and what is known of each: enough to see that they are not those that a run began with."""
    lines = []
    for index, path in enumerate(photos.paths):
        line = f"{path.as_posix()} {(photos.root / path).stat().st_size}"
        known = [photos.classes[photos.labels[index]] if photos.classes[photos.labels[index]] != path.parts[0] else None]
        known += [str(column[index]) for column in (photos.boxes, photos.groups, photos.parts) if column]
        lines.append(" ".join([line, *(value for value in known if value is not None)]))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
