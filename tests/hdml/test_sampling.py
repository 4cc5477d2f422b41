"""Batches of pairs."""

import numpy as np
import pytest

from hdml.sampling import PairSampler

LABELS = [0, 0, 0, 1, 2, 2, 3, 3, 3, 3]


def test_pairs_are_two_different_photos_of_one_class_and_classes_differ() -> None:
    """Drawn with replacement, anchor and positive could be one photo (METHOD, trap 5)."""
    sampler = PairSampler(LABELS, classes_per_batch=3, seed=0)
    for step in range(200):
        batch = sampler.batch(step)
        assert (batch.anchors != batch.positives).all()
        assert len(set(batch.labels)) == 3
        for anchor, positive, label in zip(batch.anchors, batch.positives, batch.labels, strict=True):
            assert LABELS[anchor] == LABELS[positive] == label


def test_class_of_one_photo_is_never_drawn_and_all_others_are() -> None:
    sampler = PairSampler(LABELS, classes_per_batch=2, seed=0)
    drawn = {int(index) for step in range(200) for index in (*sampler.batch(step).anchors, *sampler.batch(step).positives)}
    assert drawn == {index for index, label in enumerate(LABELS) if label != 1}


def test_batch_depends_on_seed_and_step_alone() -> None:
    first, second = (PairSampler(LABELS, classes_per_batch=3, seed=5) for _ in range(2))
    first.batch(0)
    np.testing.assert_array_equal(first.batch(7).anchors, second.batch(7).anchors)
    batches = {tuple(second.batch(step).anchors) for step in range(50)}
    others = {tuple(PairSampler(LABELS, classes_per_batch=3, seed=6).batch(step).anchors) for step in range(50)}
    assert len(batches) > 10
    assert batches != others


def test_batch_shrinks_to_the_classes_there_are() -> None:
    assert PairSampler(LABELS, classes_per_batch=64, seed=0).classes_per_batch == 3


def test_one_class_with_pairs_raises_with_the_count() -> None:
    with pytest.raises(ValueError, match="at least 2 classes with 2 photos each, got 1"):
        PairSampler([0, 0, 1], classes_per_batch=2, seed=0)
