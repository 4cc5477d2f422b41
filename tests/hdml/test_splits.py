"""The split of the photos: what is learned from, what chooses and what is measured, by class, by group and of seen classes."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdml.class_split import ClassSplit, split_classes
from hdml.data import LabelledPhotos, Photo, label_photos
from hdml.evaluate import DISTRACTOR
from hdml.splits import (
    Split,
    SplitRule,
    groups_on_both_sides,
    make_rule,
    published_test,
    split_photos,
    validation_photos,
)
from indexing.errors import HdmlError
from indexing.preprocess import Box
from tests.hdml.test_data import LETTERS, fake_photos


def visits(*, visits: int = 20, classes: int = 8, loose: int = 0) -> LabelledPhotos:
    """Photos of visits to a shop: each shows a photo of every class but one; some photos are of no visit."""
    rows = [
        (f"{visit:02}-{kind}.jpg", "abcdefghijkl"[kind], f"visit-{visit}") for visit in range(visits) for kind in range(classes)
    ]
    rows = [row for index, row in enumerate(rows) if index % classes != index // classes % classes]
    rows += [(f"loose-{number}.jpg", "ab"[number % 2], None) for number in range(loose)]
    names, labels, groups = zip(*rows, strict=True)
    return label_photos(Path("photos"), [Photo(Path(name)) for name in names], labels, groups=groups)


def stated(rows: Sequence[tuple[str, str]]) -> LabelledPhotos:
    """A photo of each (class, part)."""
    photos = [Photo(Path(f"{number:03}.jpg")) for number in range(len(rows))]
    labels, parts = zip(*rows, strict=True)
    return label_photos(Path("photos"), photos, labels, parts=parts)


def rule(**settings: Any) -> SplitRule:
    return SplitRule(**{"by": "class", "test_classes": "none", "hold_out": 0.0, **settings})


def parts_of(split: Split) -> list[set[int]]:
    return [set(part) for part in (split.train, split.validation, split.test, split.gallery, split.seen)]


def groups_of(split: Split, part: Sequence[int]) -> set[str | None]:
    return {split.photos.groups[index] for index in part}


def test_split_by_class_is_that_of_the_classes() -> None:
    split, classes = split_photos(LETTERS, rule(test_classes="last:8")), split_classes(LETTERS, "last:8")
    assert split.classes == classes
    for part, names in ((split.train_set, classes.train), (split.validation_set, classes.validation)):
        assert part is not None
        expected = LETTERS.of_classes(names)
        assert (part.paths, part.labels.tolist(), part.classes) == (expected.paths, expected.labels.tolist(), expected.classes)
    assert split.test_set is not None
    assert split.test_set.queries.paths == LETTERS.of_classes(classes.test).paths
    assert (split.test_set.gallery, split.seen_set) == (None, None)


@pytest.mark.parametrize(
    ("photos", "how"),
    [
        (LETTERS, rule(test_classes="last:8", hold_out=0.34)),
        (LETTERS, rule(by="seen", hold_out=0.34)),
        (visits(), rule(by="group", hold_out=0.2)),
        (visits(loose=9), rule(by="seen", hold_out=0.2)),
    ],
)
def test_no_photo_is_in_two_parts(photos: LabelledPhotos, how: SplitRule) -> None:
    parts = parts_of(split_photos(photos, how))
    assert sum(map(len, parts)) == len(set.union(*parts)) <= len(photos.paths)


def test_split_is_a_function_of_names_and_not_of_their_order() -> None:
    photos = visits(loose=9)
    backwards = list(range(len(photos.paths)))[::-1]
    turned = label_photos(
        photos.root,
        [photos.photos[index] for index in backwards],
        [photos.classes[photos.labels[index]] for index in backwards],
        groups=[photos.groups[index] for index in backwards],
    )
    for how in (rule(by="group", hold_out=0.3), rule(by="seen", hold_out=0.3), rule(test_classes="last:2", hold_out=0.2)):
        assert split_photos(turned, how).to_json() == split_photos(photos, how).to_json()


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_split_by_group_has_no_group_on_both_sides(share: float) -> None:
    photos = visits()
    split = split_photos(photos, rule(by="group", hold_out=share))
    sides = [groups_of(split, part) for part in (split.train, split.validation, split.test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 20
    assert len(sides[2]) == round(20 * share)
    assert len(sides[1]) == max(2, round(0.15 * (20 - len(sides[2]))))
    assert groups_on_both_sides(split) == []
    assert set(split.classes.train) & set(split.classes.test), "classes may be on both sides"


def test_split_by_group_takes_a_photo_without_a_group_for_one_of_its_own() -> None:
    photos = visits(visits=10, loose=30)
    split = split_photos(photos, rule(by="group", hold_out=0.5))
    loose = [part for part in parts_of(split)[:3] if any(photos.groups[index] is None for index in part)]
    assert len(loose) == 3, "they are not one group that goes to one side"
    assert len({photos.groups[index] or index for index in split.test}) == 20


def test_split_by_few_groups_holds_none_out_for_validation() -> None:
    assert split_photos(visits(visits=7), rule(by="group", hold_out=0.25)).validation == ()
    assert split_photos(visits(visits=8), rule(by="group", hold_out=0.25)).validation != ()


def test_groups_too_few_to_test_on_say_so() -> None:
    """One visit shows each thing once, so that no photo of it could find another."""
    with pytest.raises(HdmlError, match=r"Testing needs .* --hold-out 0\.2 gives 7 classes of photos"):
        split_photos(visits(visits=6), rule(by="group", hold_out=0.2))
    with pytest.raises(HdmlError, match=r"at least 2 classes with 2 photos or more .* add photos or lower --hold-out"):
        split_photos(visits(visits=6), rule(by="group", hold_out=0.9))


def test_seen_photos_ask_those_learned_from_and_leave_every_class_two() -> None:
    photos = fake_photos({"a": 1, "b": 2, "c": 3, "d": 4, "e": 10, "f": 25})
    split = split_photos(photos, rule(by="seen", hold_out=0.2))
    held = Counter(photos.classes[photos.labels[index]] for index in split.seen)
    assert held == {"c": 1, "d": 1, "e": 2, "f": 5}
    assert split.seen_set is not None
    assert split.seen_set.gallery is not None
    assert split.seen_set.gallery.paths == split.train_set.paths
    assert not set(split.seen_set.queries.paths) & set(split.train_set.paths)
    for part in (split.seen_set.queries, split.seen_set.gallery):
        assert [part.classes[label] for label in part.labels] == [path.parts[0] for path in part.paths]
    assert (split.test_set, split.seen_set.size) == (None, len(photos.paths))


def test_seen_photos_are_of_training_classes_alone() -> None:
    split = split_photos(LETTERS, rule(test_classes="last:8", hold_out=0.34))
    assert split.seen_set is not None
    seen = {path.parts[0] for path in split.seen_set.queries.paths}
    assert seen == set(split.classes.train) == {path.parts[0] for path in split.train_set.paths}
    assert split.classes == split_classes(LETTERS, "last:8")


@pytest.mark.parametrize("loose", [0, 40])
def test_seen_photos_share_no_group_with_those_learned_from(loose: int) -> None:
    photos = visits(loose=loose)
    split = split_photos(photos, rule(by="seen", hold_out=0.2))
    assert split.seen
    assert not groups_of(split, split.seen) & groups_of(split, split.train) - {None}
    share = len(split.seen) / (len(split.seen) + len(split.train))
    assert 0.15 < share < 0.35
    assert min(Counter(split.photos.labels[list(split.train)].tolist()).values()) >= 2


def test_class_of_two_large_groups_gives_one_of_them() -> None:
    """The share is less than a group, and a group is not divided."""
    rows = [
        (f"{name}-{group}-{number}.jpg", name, f"{name}-{group}") for name in "abcd" for group in (1, 2) for number in range(10)
    ]
    names, labels, its_group = zip(*rows, strict=True)
    photos = label_photos(Path("photos"), [Photo(Path(name)) for name in names], labels, groups=its_group)
    split = split_photos(photos, rule(by="seen", hold_out=0.2))
    assert Counter(photos.labels[list(split.seen)].tolist()) == {0: 10, 1: 10, 2: 10, 3: 10}


def test_nothing_that_can_be_held_out_is_told() -> None:
    photos = fake_photos(dict.fromkeys("abcdef", 2))
    with pytest.raises(HdmlError, match=r"--hold-out 0\.5 needs training classes that keep 2 photos .* photos has none"):
        split_photos(photos, rule(by="seen", hold_out=0.5))


def test_groups_on_both_sides_of_a_split_by_class_are_named() -> None:
    assert groups_on_both_sides(split_photos(visits(), rule(test_classes="last:2"))) == sorted(f"visit-{n}" for n in range(20))
    assert groups_on_both_sides(split_photos(LETTERS, rule(test_classes="last:2"))) == []


TRAINING = [(name, "train") for name in "abcdefgh" for _ in range(3)]


def test_published_parts_of_different_classes_are_a_split_by_class() -> None:
    photos = stated([*TRAINING, *((name, "test") for name in "xyz" for _ in range(2))])
    split = split_photos(photos, rule(test_classes="published"))
    assert split.classes.test == ("x", "y", "z")
    assert (split.classes.train, split.classes.validation) == split_names(photos)
    assert split.test_set is not None
    assert split.test_set.gallery is None


def split_names(photos: LabelledPhotos) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Training and validation classes as the rule of the same test classes gives them."""
    classes = split_classes(photos, "last:3")
    return classes.train, classes.validation


def test_published_queries_search_the_published_gallery() -> None:
    test = [("x", "query"), ("x", "gallery"), ("y", "query"), ("y", "gallery"), ("y", "gallery"), ("z", "gallery")]
    photos = stated([*TRAINING, *test])
    split = split_photos(photos, rule(test_classes="published"))
    for found in (split.test_set, published_test(photos)):
        assert found is not None
        assert found.gallery is not None
        assert [found.queries.classes[label] for label in found.queries.labels] == ["x", "y"]
        assert [found.gallery.classes[label] for label in found.gallery.labels] == ["x", "y", "y", "z"]
        assert found.queries.classes == found.gallery.classes
    assert split.classes.test == ("x", "y", "z")


def test_published_test_photos_may_be_of_training_classes() -> None:
    photos = stated([*TRAINING, *((name, "test") for name in "abcd" for _ in range(2))])
    split = split_photos(photos, rule(test_classes="published"))
    assert split.classes.test == tuple("abcd")
    assert {photos.parts[index] for index in split.test} == {"test"}
    assert {photos.parts[index] for index in (*split.train, *split.validation)} == {"train"}


def test_published_validation_part_takes_the_place_of_validation_classes() -> None:
    photos = stated([*TRAINING, *((name, "validation") for name in "aav"), *((name, "test") for name in "xxyy")])
    split = split_photos(photos, rule(test_classes="published"))
    assert split.classes == ClassSplit(tuple("abcdefgh"), ("a", "v"), ("x", "y"))
    assert len(split.train) == len(TRAINING)


def test_data_without_a_test_part_leave_nothing_to_test() -> None:
    assert split_photos(stated(TRAINING), rule(test_classes="published")).test_set is None
    assert published_test(stated(TRAINING)) is None
    assert published_test(LETTERS) is None


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([("x", "query"), ("y", "query")], "must be test, or query and gallery, but those of photos are query, train"),
        ([("x", "gallery"), ("y", "gallery")], "but those of photos are gallery, train"),
        ([("x", "query"), ("x", "gallery"), ("y", "test")], "but those of photos are gallery, query, test, train"),
        ([("x", "test"), ("y", "test")], "Testing needs .* the data's own parts gives 2 classes"),
        ([("x", "query"), ("y", "gallery"), ("z", "gallery")], "Testing needs .* the data's own parts gives 2 classes"),
        ([("x", "test"), ("x", "test")], "Testing needs .* the data's own parts gives 1 classes"),
    ],
)
def test_published_parts_that_cannot_be_used_say_why(more: list[tuple[str, str]], sentence: str) -> None:
    with pytest.raises(HdmlError, match=sentence):
        split_photos(stated([*TRAINING, *more]), rule(test_classes="published"))


def test_published_parts_without_enough_to_learn_from_say_so() -> None:
    with pytest.raises(HdmlError, match=r"at least 2 classes with 2 photos or more .* photos has 0; .* the part train"):
        split_photos(stated([(name, "test") for name in "xxyy"]), rule(test_classes="published"))
    with pytest.raises(HdmlError, match="published needs data that state their parts, but photos states none"):
        split_photos(LETTERS, rule(test_classes="published"))


@pytest.mark.parametrize(
    ("photos", "given", "expected"),
    [
        (LETTERS, {}, rule()),
        (LETTERS, {"test_classes": "half", "hold_out": 0.1}, rule(test_classes="half", hold_out=0.1)),
        (LETTERS, {"split": "seen"}, rule(by="seen", hold_out=0.2)),
        (LETTERS, {"split": "seen", "hold_out": 0.4}, rule(by="seen", hold_out=0.4)),
        (visits(), {"split": "group"}, rule(by="group", hold_out=0.2)),
        (stated(TRAINING), {}, rule(test_classes="published")),
        (stated(TRAINING), {"test_classes": "none"}, rule()),
        (stated(TRAINING), {"test_classes": "last:2"}, rule(test_classes="last:2")),
        (stated(TRAINING), {"split": "seen"}, rule(by="seen", hold_out=0.2)),
    ],
)
def test_what_is_not_said_of_the_split_follows_from_the_data(
    photos: LabelledPhotos, given: dict[str, Any], expected: SplitRule
) -> None:
    assert make_rule(photos, **{"split": "class", "test_classes": None, "hold_out": None, **given}) == expected


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"hold_out": 0.0}, "--hold-out must be a share between 0 and 1, got 0;"),
        ({"hold_out": 20.0}, "--hold-out must be a share between 0 and 1, got 20;"),
        ({"split": "seen", "test_classes": "half"}, "--test-classes needs --split class, but got half with --split seen"),
        ({"split": "group", "test_classes": "last:2"}, "--test-classes needs --split class, but got last:2 with --split group"),
        ({"split": "group"}, "--split group needs groups, but photos has none; give a manifest with the column group"),
    ],
)
def test_split_that_cannot_be_says_why(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HdmlError, match=sentence):
        make_rule(LETTERS, **{"split": "class", "test_classes": None, "hold_out": None, **given})


BOXED = label_photos(
    Path("photos"),
    [Photo(Path(f"street-{number}.jpg"), Box(left, 0, 9, 9)) for number in range(12) for left in (0, 10)],
    [f"tree-{number % 4}" for number in range(24)],
)


@pytest.mark.parametrize(
    "split",
    [
        split_photos(LETTERS, rule(test_classes="last:8", hold_out=0.34)),
        split_photos(visits(), rule(by="group", hold_out=0.2)),
        split_photos(BOXED, rule(test_classes="last:2", hold_out=0.2)),
        split_photos(stated([*TRAINING, ("x", "query"), ("x", "gallery"), ("y", "gallery")]), rule(test_classes="published")),
    ],
)
def test_split_comes_back_from_its_json(split: Split) -> None:
    back = Split.from_json(split.photos, json.loads(json.dumps(split.to_json())))
    assert parts_of(back) == parts_of(split)
    assert back.classes == split.classes
    assert back.train_set.photos == split.train_set.photos


def test_split_comes_back_without_photos_that_are_gone() -> None:
    split = split_photos(LETTERS, rule(test_classes="last:8"))
    left = LETTERS.without({split.train_set.photos[0], *LETTERS.of_classes("t").photos})
    back = Split.from_json(left, split.to_json())
    assert back.train_set.photos == split.train_set.photos[1:]
    assert back.classes.test == tuple("mnopqrs")


def test_set_without_some_photos_keeps_one_label_for_one_class() -> None:
    split = split_photos(LETTERS, rule(by="seen", hold_out=0.34))
    assert split.seen_set is not None
    gone = {split.seen_set.queries.photos[0], split.train_set.photos[0]}
    left = split.seen_set.without(gone)
    assert left.gallery is not None
    assert left.size == split.seen_set.size - 2
    for part in (left.queries, left.gallery):
        assert [part.classes[label] for label in part.labels] == [path.parts[0] for path in part.paths]


def test_validation_asks_among_photos_of_all_training_classes() -> None:
    split = split_photos(LETTERS, rule(test_classes="last:4"))
    assert split.validation_set is not None
    validation = validation_photos(split.validation_set, split.train_set)
    asked = [path.parts[0] for path, label in zip(validation.paths, validation.labels, strict=True) if label != DISTRACTOR]
    among = [path for path, label in zip(validation.paths, validation.labels, strict=True) if label == DISTRACTOR]
    assert asked == [validation.classes[label] for label in validation.labels if label != DISTRACTOR]
    assert set(asked) == set(split.classes.validation)
    assert len(set(among)) == len(among) == 2 * len(asked)
    assert {path.parts[0] for path in among} <= set(split.classes.train)
    assert len({path.parts[0] for path in among}) == 12  # of 14 classes, evenly spread


def test_no_distractor_is_of_a_class_that_is_asked_for() -> None:
    """Or it would count as a fault to find it."""
    photos = visits()
    split = split_photos(photos, rule(by="group", hold_out=0.2))
    assert split.validation_set is not None
    assert len(split.validation_set.classes) == len(split.train_set.classes) == 8
    assert not np.any(validation_photos(split.validation_set, split.train_set).labels == DISTRACTOR)
