"""Batches of classes, and of the authors' triplets."""

import numpy as np
import pytest

from hdml.sampling import ClassSampler, TripletSampler

LABELS = [0, 0, 0, 1, 2, 2, 3, 3, 3, 3]


def test_pairs_are_two_different_photos_of_one_class_and_classes_differ() -> None:
    """Drawn with replacement, anchor and positive could be one photo (METHOD, trap 5)."""
    sampler = ClassSampler(LABELS, classes_per_batch=3, seed=0)
    for step in range(200):
        batch = sampler.batch(step)
        first, second = batch.photos[:3], batch.photos[3:]
        assert (first != second).all()
        assert len(set(batch.labels)) == 3
        assert [LABELS[photo] for photo in batch.photos] == batch.labels.tolist()
        assert batch.labels[:3].tolist() == batch.labels[3:].tolist()


def test_classes_give_as_many_different_photos_as_they_have() -> None:
    sampler = ClassSampler(LABELS, classes_per_batch=3, photos_per_class=4, seed=0)
    for step in range(50):
        batch = sampler.batch(step)
        assert [LABELS[photo] for photo in batch.photos] == batch.labels.tolist()
        counts = {label: len(set(batch.photos[batch.labels == label])) for label in set(batch.labels.tolist())}
        assert counts == {0: 3, 2: 2, 3: 4}


def test_class_of_one_photo_is_never_drawn_and_all_others_are() -> None:
    sampler = ClassSampler(LABELS, classes_per_batch=2, seed=0)
    drawn = {int(index) for step in range(200) for index in sampler.batch(step).photos}
    assert drawn == {index for index, label in enumerate(LABELS) if label != 1}


def test_batch_depends_on_seed_and_step_alone() -> None:
    first, second = (ClassSampler(LABELS, classes_per_batch=3, seed=5) for _ in range(2))
    first.batch(0)
    np.testing.assert_array_equal(first.batch(7).photos, second.batch(7).photos)
    batches = {tuple(second.batch(step).photos) for step in range(50)}
    others = {tuple(ClassSampler(LABELS, classes_per_batch=3, seed=6).batch(step).photos) for step in range(50)}
    assert len(batches) > 10
    assert batches != others


def test_batch_shrinks_to_the_classes_there_are() -> None:
    assert ClassSampler(LABELS, classes_per_batch=64, seed=0).classes_per_batch == 3


def test_one_class_with_pairs_raises_with_the_count() -> None:
    with pytest.raises(ValueError, match="at least 2 classes with 2 photos each, got 1"):
        ClassSampler([0, 0, 1], classes_per_batch=2, seed=0)


def test_triplets_are_the_pairs_of_the_same_seed_and_negatives_of_other_classes() -> None:
    pairs, triplets = ClassSampler(LABELS, classes_per_batch=3, seed=0), TripletSampler(LABELS, classes_per_batch=3, seed=0)
    negatives = set()
    for step in range(100):
        batch = triplets.batch(step)
        np.testing.assert_array_equal(batch.photos[:6], pairs.batch(step).photos)
        assert [LABELS[photo] for photo in batch.photos] == batch.labels.tolist()
        assert (batch.labels[6:] != batch.labels[:3]).all()
        negatives |= set(batch.photos[6:].tolist())
    assert negatives == set(range(len(LABELS)))
