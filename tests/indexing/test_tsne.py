"""The t-SNE map: it keeps neighbours together where the plane mixes them, is the same each time, and places a new point among its
nearest."""

import sys

import numpy as np
import pytest
from sklearn.manifold import trustworthiness as reference_trustworthiness

from indexing.projection import principal_plane
from indexing.tsne import NoTsne, Tsne, has_tsne

GROUPS, EACH, DIMENSION = 8, 15, 16


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """Groups around directions at right angles to each other, more than a plane can hold apart; of several lengths."""
    rng = np.random.default_rng(5)
    near = np.repeat(np.eye(GROUPS, DIMENSION), EACH, axis=0) + 0.1 * rng.standard_normal((GROUPS * EACH, DIMENSION))
    return (near * rng.uniform(1, 9, (len(near), 1))).astype(np.float32)


@pytest.fixture(scope="module")
def tsne(points: np.ndarray) -> Tsne:
    return Tsne(points)


def unit(points: np.ndarray) -> np.ndarray:
    return points / np.linalg.norm(points, axis=-1, keepdims=True)


def test_neighbours_by_direction_stay_together_where_the_plane_of_most_variance_mixes_them(
    points: np.ndarray, tsne: Tsne
) -> None:
    flat = principal_plane(unit(points)).place(unit(points))
    kept, mixed = (reference_trustworthiness(unit(points), placed, n_neighbors=10) for placed in (tsne.placed, flat))
    assert kept > 0.95 > mixed
    distances = np.linalg.norm(tsne.placed[:, None] - tsne.placed[None], axis=-1) + np.diag(np.full(len(points), np.inf))
    assert (distances.argmin(1) // EACH == np.arange(len(points)) // EACH).all()


def test_same_points_have_the_same_places(points: np.ndarray, tsne: Tsne) -> None:
    np.testing.assert_array_equal(Tsne(points).placed, tsne.placed)


def test_new_points_lie_in_their_group_each_by_itself_and_whatever_their_length(points: np.ndarray, tsne: Tsne) -> None:
    rng, before = np.random.default_rng(6), tsne.placed.copy()
    new = (np.eye(GROUPS, DIMENSION) + 0.1 * rng.standard_normal((GROUPS, DIMENSION))).astype(np.float32)
    placed = tsne.place(new)
    nearest = np.linalg.norm(placed[:, None] - tsne.placed[None], axis=-1).argmin(1)
    assert (nearest // EACH == np.arange(GROUPS)).all()
    np.testing.assert_allclose(tsne.place(7 * new[None, 3:5])[0], placed[3:5], atol=1e-2)
    np.testing.assert_array_equal(tsne.placed, before)


def test_few_photos_have_a_map_and_fewer_none(points: np.ndarray) -> None:
    assert Tsne(points[:4]).placed.shape == (4, 2)
    with pytest.raises(NoTsne, match="at least 4 photos and 2 dimensions, but there are 3 photos of 16; take the PCA map"):
        Tsne(points[:3])
    with pytest.raises(NoTsne, match="but there are 9 photos of 1;"):
        Tsne(points[:9, :1])


def test_without_the_package_what_to_install_is_said(points: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openTSNE", None)  # as Python marks what cannot be imported
    assert not has_tsne()
    with pytest.raises(NoTsne, match=r'needs the package openTSNE, which is not installed; run: pip install "hdml\[tsne\]"'):
        Tsne(points)
