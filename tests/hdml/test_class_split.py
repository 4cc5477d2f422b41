"""The split by class: its rules, and the classes that choose the checkpoint."""

from pathlib import Path

import pytest

from hdml.class_split import split_classes
from indexing.errors import HdmlError
from tests.hdml.test_data import LETTERS, fake_photos


def test_split_parts_are_disjoint_and_together_whole() -> None:
    split = split_classes(LETTERS, "last:8")
    assert split.test == tuple("mnopqrst")
    assert len(split.validation) == 2
    assert sorted((*split.train, *split.validation)) == list("abcdefghijkl")


@pytest.mark.parametrize(
    ("rule", "test"),
    [
        ("none", ""),
        ("half", "klmnopqrst"),
        ("0.5", "klmnopqrst"),
        ("0.1", "st"),
        ("last:2", "st"),
        ("last:17", "defghijklmnopqrst"),
    ],
)
def test_split_rules(rule: str, test: str) -> None:
    assert "".join(split_classes(LETTERS, rule).test) == test


def test_split_by_a_file_of_names(tmp_path: Path) -> None:
    file = tmp_path / "test.txt"
    file.write_text("c\n\n a \n")
    assert split_classes(LETTERS, str(file)).test == ("a", "c")
    file.write_text("c\nzebra\n")
    with pytest.raises(HdmlError, match="'zebra', which is no class of this folder"):
        split_classes(LETTERS, str(file))
    file.write_text("c\ncafé\n", encoding="latin-1")
    with pytest.raises(HdmlError, match="is in another encoding"):
        split_classes(LETTERS, str(file))


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("last:20", "between 1 and 19, got 20"),
        ("last:0", "between 1 and 19, got 0"),
        ("1.5", "between 0 and 1, got 1.5"),
        ("nowhere.txt", "got nowhere.txt"),
        ("last:19", "at least 2 classes with 2 photos or more"),
        ("last:1", "Testing needs at least 2 classes.* gives 1 of"),
        ("0.01", "Testing needs at least 2 classes.* gives 1 of"),
    ],
)
def test_split_rule_that_cannot_be_used_says_why(rule: str, sentence: str) -> None:
    with pytest.raises(HdmlError, match=sentence):
        split_classes(LETTERS, rule)


def test_split_of_few_classes_holds_none_out_for_validation() -> None:
    assert split_classes(fake_photos(dict.fromkeys("abcde", 3)), "none").validation == ()
    assert len(split_classes(fake_photos(dict.fromkeys("abcdef", 3)), "none").validation) == 2


def test_validation_never_holds_a_class_that_cannot_ask() -> None:
    photos = fake_photos({**dict.fromkeys("abcdefghij", 1), **dict.fromkeys("klmnopqrst", 2)})
    assert set(split_classes(photos, "none").validation) <= set("klmnopqrst")


def test_test_classes_without_a_pair_are_refused() -> None:
    with pytest.raises(HdmlError, match="Testing needs at least 2 classes, one of them with 2 photos or more"):
        split_classes(fake_photos({**dict.fromkeys("abcdef", 3), "g": 1, "h": 1}), "last:2")
