"""The plane of a map against scikit-learn's, and its trustworthiness against scikit-learn's."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness as reference_trustworthiness

import indexing.projection
from indexing.projection import principal_plane, trustworthiness


@pytest.fixture
def points() -> np.ndarray:
    rng = np.random.default_rng(3)
    return (rng.standard_normal((90, 8)) * np.linspace(3, 0.2, 8) + 5).astype(np.float32)


def test_plane_is_that_of_the_principal_components(points: np.ndarray) -> None:
    plane, reference = principal_plane(points), PCA(2, svd_solver="full").fit(points)
    np.testing.assert_allclose(np.abs(plane.place(points)), np.abs(reference.transform(points)), atol=1e-4)
    assert plane.share == pytest.approx(reference.explained_variance_ratio_.sum(), rel=1e-5)
    assert (np.take_along_axis(plane.axes, np.abs(plane.axes).argmax(1)[:, None], 1) > 0).all()


def test_a_new_point_is_placed_as_the_old_ones_are(points: np.ndarray) -> None:
    plane = principal_plane(points)
    middle = (points[3] + points[4]) / 2
    np.testing.assert_allclose(plane.place(middle), plane.place(points[3:5]).mean(0), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 4), (2, 1), (3, 4)])
def test_few_photos_and_few_dimensions_have_a_plane(shape: tuple[int, int]) -> None:
    few = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    plane = principal_plane(few)
    assert plane.place(few).shape == (shape[0], 2)
    assert plane.share == pytest.approx(1, abs=1e-5)


def test_equal_photos_have_a_plane() -> None:
    equal = np.ones((5, 3), np.float32)
    plane = principal_plane(equal)
    assert plane.share == 1
    assert np.abs(plane.place(equal)).max() < 1e-6


@pytest.mark.parametrize("k", [1, 5, 10, 44])
def test_trustworthiness_is_that_of_scikit_learn(points: np.ndarray, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing.projection, "_RANKED_AT_A_TIME", 32)  # so that there are several parts
    placed = principal_plane(points).place(points)
    assert trustworthiness(points, placed, k=k) == pytest.approx(
        reference_trustworthiness(points, placed, n_neighbors=k), abs=1e-9
    )
    shuffled = np.random.default_rng(1).permutation(placed)
    expected = reference_trustworthiness(points, shuffled, n_neighbors=k)
    assert trustworthiness(points, shuffled, k=k) == pytest.approx(expected, abs=1e-9)


def test_trustworthiness_of_too_few_points_is_not_told(points: np.ndarray) -> None:
    assert trustworthiness(points[:20], points[:20, :2], k=10) is None
    assert trustworthiness(points[:21], points[:21, :2], k=10) is not None
