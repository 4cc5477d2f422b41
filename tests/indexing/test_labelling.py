"""Wrong labels among well separated classes are doubted, with evidence; answers about a left-out photo are those of refitting."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from indexing.labelling import _fit, distinct_neighbours, find_label_errors
from indexing.outliers import LIMIT, find_outliers

K = 20


def blobs(seed: int = 0, classes: int = 4, each: int = 15, spread: float = 0.15) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    centres = random.standard_normal((classes, 16))
    vectors = np.repeat(centres, each, axis=0) + spread * np.linalg.norm(centres[0]) / 4 * random.standard_normal(
        (classes * each, 16)
    )
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float32), np.repeat(np.arange(classes), each)


def nearest(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    places = np.argsort(-scores, axis=1)[:, :K]
    return places, np.take_along_axis(scores, places, 1)


def pages_of(vectors: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    for start in range(0, len(vectors), 7):
        yield np.arange(start, min(start + 7, len(vectors))), vectors[start : start + 7]


def test_moved_photos_are_doubted_and_others_are_not() -> None:
    vectors, truth = blobs()
    labels = truth.copy()
    labels[[3, 20, 50]] = [2, 0, 1]
    found = find_label_errors(labels, np.arange(60), *nearest(vectors), lambda: pages_of(vectors))
    assert {each.place: each.suggested for each in found} == {3: 0, 20: 1, 50: 3}
    assert [each.doubt for each in found] == sorted((each.doubt for each in found), reverse=True)
    for each in found:
        assert {labels[place] for place in each.for_suggested} == {each.suggested}
        assert each.place not in each.for_suggested


def test_photo_without_a_label_or_of_a_tiny_class_is_not_doubted() -> None:
    vectors, labels = blobs()
    labels[3] = -1
    labels[[20, 40]] = 4  # two photos that are nothing like each other
    assert find_label_errors(labels, np.arange(60), *nearest(vectors), lambda: pages_of(vectors)) == []


@pytest.mark.parametrize("labels", [np.full(60, -1), np.zeros(60, np.int64)])
def test_no_labels_or_one_class_give_no_doubts(labels: NDArray[np.int64]) -> None:
    vectors, _ = blobs()
    assert find_label_errors(labels, np.arange(60), *nearest(vectors), lambda: pages_of(vectors)) == []


def test_left_out_answers_are_those_of_refitting_without_the_photo() -> None:
    vectors, labels = blobs(spread=0.8)
    told = {
        place: row for page, rows in _fit(labels, 4, lambda: pages_of(vectors))() for place, row in zip(page, rows, strict=True)
    }
    indicators = np.eye(4)[labels]

    def refitted(penalty: float, place: int) -> NDArray[np.float64]:
        # The centre stays that of all photos, with a row for the mean, as ridge regression with a free intercept leaves it.
        rest = np.arange(60) != place
        x, y = vectors[rest].astype(float), indicators[rest]
        centred, means = x - x.mean(0), y.mean(0)
        coefficients = np.linalg.solve(centred.T @ centred + penalty * np.eye(16), centred.T @ (y - means))
        answer: NDArray[np.float64] = (vectors[place] - x.mean(0)) @ coefficients + means
        return answer

    penalties = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    misses = [sum(np.square(refitted(penalty, at) - indicators[at]).sum() for at in range(60)) for penalty in penalties]
    best = penalties[int(np.argmin(misses))]
    for place in range(60):
        np.testing.assert_allclose(told[place], refitted(best, place), atol=1e-6)


def test_duplicates_are_no_neighbours_and_count_once() -> None:
    contents = np.array([0, 0, 2, 2, 4])
    places = np.array([[1, 2, 3, 4], [0, 4, 3, 2], [3, 0, 1, 4], [2, -1, -1, -1], [2, 3, 0, 1]])
    assert distinct_neighbours(places, contents).tolist() == [
        [-1, 2, -1, 4],
        [-1, 4, 3, -1],
        [-1, 0, -1, 4],
        [-1, -1, -1, -1],
        [2, -1, 0, -1],
    ]


def test_stranger_is_an_outlier_and_no_other_photo_is() -> None:
    vectors, _ = blobs(each=25)
    vectors[7] = -vectors.sum(0) / np.linalg.norm(vectors.sum(0))
    ((place, deviations),) = find_outliers(*nearest(vectors))
    assert place == 7
    assert deviations >= LIMIT


def test_few_or_equal_photos_have_no_outliers() -> None:
    vectors, _ = blobs(each=4)
    assert find_outliers(*nearest(vectors)) == []
    assert find_outliers(*nearest(np.ones((40, 4), np.float32) / 2)) == []
