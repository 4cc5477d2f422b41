"""What confirms a pair of photos, and how pairs become groups."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexing.duplicates import CROPPED, CROPPED_MIRRORED, MIRRORED, WRITTEN_ANEW, Duplicate, Group, Pairs, _confirmed, _groups
from indexing.duplicates import _Link as Link
from indexing.duplicates import _Pictures as Pictures
from tests.indexing.test_crops import scene, small, written_anew

MIRROR = Image.Transpose.FLIP_LEFT_RIGHT
BOX = (30, 24, 270, 216)


def links_of(first: Image.Image, second: Image.Image) -> dict[tuple[int, int], Link]:
    pictures = Pictures(np.stack([small(first), small(second)]), np.array([one.width / one.height for one in (first, second)]))
    for place, photo in enumerate((first, second)):
        pictures.put(place, photo)
    return _confirmed(pictures, np.array([[0, 1]]), np.ones(1, bool), lambda *_: None)


@pytest.mark.parametrize(
    ("copy", "expected"),
    [
        (scene(1), Link(WRITTEN_ANEW)),
        (scene(1).transpose(MIRROR), Link(MIRRORED)),
        (scene(1).crop(BOX), Link(CROPPED, whole=0)),
        (scene(1).crop(BOX).transpose(MIRROR), Link(CROPPED_MIRRORED, whole=0)),
    ],
)
def test_pair_is_confirmed_with_its_kind(copy: Image.Image, expected: Link) -> None:
    assert links_of(scene(1), written_anew(copy)) == {(0, 1): expected}
    whole = 1 if expected.whole == 0 else -1
    assert links_of(written_anew(copy), scene(1)) == {(0, 1): Link(expected.kind, whole)}


def test_other_photo_and_the_same_one_in_other_colours_are_no_copies() -> None:
    red, green, blue = scene(1).split()
    for other in (scene(2), Image.merge("RGB", (blue, green, red)), scene(1).transpose(Image.Transpose.ROTATE_180)):
        assert links_of(scene(1), other) == {}


def test_discs_on_pale_grounds_are_no_crops_of_each_other(photos: Path) -> None:
    """Nearly all of such photos is plain, so that a window can be moved until the discs agree."""
    discs = [Image.open(path).convert("RGB") for path in sorted((photos / "blue-left").iterdir())]
    assert [links_of(discs[0], other) for other in discs[1:]] == [{}] * 4


def no_more(_: Pairs) -> dict[tuple[int, int], Link]:
    return {}


def test_chain_is_cut_where_its_end_is_no_copy_of_the_photo_to_keep() -> None:
    links = {(0, 1): Link(WRITTEN_ANEW), (1, 2): Link(WRITTEN_ANEW)}
    assert list(_groups(links, [0, 1, 2], no_more)) == [Group(0, (Duplicate(1, WRITTEN_ANEW),))]


def test_what_was_linked_through_others_is_asked_about() -> None:
    links = {(0, 1): Link(WRITTEN_ANEW), (1, 2): Link(WRITTEN_ANEW)}
    asked = []

    def confirm(pairs: Pairs) -> dict[tuple[int, int], Link]:
        asked.append(pairs.tolist())
        return {(0, 2): Link(MIRRORED)}

    (group,) = _groups(links, [2, 0, 1], confirm)
    assert group == Group(2, (Duplicate(0, MIRRORED), Duplicate(1, WRITTEN_ANEW)))
    assert asked == [[[0, 2]]]


def test_part_of_another_is_not_kept_though_it_has_more_pixels() -> None:
    (group,) = _groups({(0, 1): Link(CROPPED, whole=1)}, [0, 1], no_more)
    assert group == Group(1, (Duplicate(0, CROPPED),))


def test_photos_that_are_left_of_a_chain_form_their_own_group() -> None:
    links = {(0, 1): Link(WRITTEN_ANEW), (1, 2): Link(WRITTEN_ANEW), (2, 3): Link(WRITTEN_ANEW)}
    found = list(_groups(links, [0, 1, 2, 3], no_more))
    assert found == [Group(0, (Duplicate(1, WRITTEN_ANEW),)), Group(2, (Duplicate(3, WRITTEN_ANEW),))]
