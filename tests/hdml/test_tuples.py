"""Which photos of a batch form tuples."""

import pytest
import torch

from hdml.tuples import pair_tuples, triplet_tuples


def test_pairs_come_in_the_order_of_their_first_photos_with_all_other_seconds_as_negatives() -> None:
    tuples = pair_tuples(torch.tensor([3, 0, 8, 0, 8, 3]))
    assert tuples.anchors.tolist() == [0, 1, 2]
    assert tuples.positives.tolist() == [5, 3, 4]
    assert tuples.negatives.tolist() == [[3, 4], [5, 4], [5, 3]]


@pytest.mark.parametrize(
    ("labels", "said"),
    [([1, 1, 2], "class 2 has 1"), ([4, 7, 4, 7, 7], "class 7 has 3"), ([6], "class 6 has 1")],
)
def test_batch_that_is_not_of_pairs_raises_with_the_class_and_its_count(labels: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=f"exactly 2 photos, but {said}"):
        pair_tuples(torch.tensor(labels))


def test_triplets_are_the_thirds_of_a_batch() -> None:
    tuples = triplet_tuples(torch.tensor([1, 2, 1, 2, 5, 1]))
    assert (tuples.anchors.tolist(), tuples.positives.tolist(), tuples.negatives.tolist()) == ([0, 1], [2, 3], [[4], [5]])


@pytest.mark.parametrize(
    ("labels", "said"),
    [([1, 1], "has 2 photos"), ([1, 2, 1, 3, 4, 5], r"triplet 1 is of \[2, 3, 5\]"), ([1, 1, 1], r"triplet 0 is of \[1, 1, 1\]")],
)
def test_batch_that_is_not_of_triplets_raises_with_what_it_is(labels: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        triplet_tuples(torch.tensor(labels))


def test_rows_of_a_batch_are_taken_by_tuple() -> None:
    rows = torch.arange(8.0).reshape(4, 2)
    anchors, positives, negatives = pair_tuples(torch.tensor([0, 1, 0, 1])).of(rows)
    torch.testing.assert_close(anchors, rows[[0, 1]])
    torch.testing.assert_close(positives, rows[[2, 3]])
    torch.testing.assert_close(negatives, rows[[3, 2]][:, None])
