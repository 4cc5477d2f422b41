"""The faiss cache: exact, replaceable, and never trusted when it does not fit the catalogue."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from indexing.catalogue import Catalogue, Vectors
from indexing.errors import HdmlError
from indexing.index import build_index, cache_path, load_cache, nearest, read_index, save_cache, to_device
from indexing.indexer import update_index


def unit_vectors(count: int, dimension: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Vectors(7, np.arange(count, dtype=np.int64) * 3 + 5, vectors)


def test_nearest_equals_sorting_all_scores() -> None:
    stored = unit_vectors(200, 16)
    query = unit_vectors(1, 16, seed=1).vectors[0]
    expected = sorted(
        zip(stored.ids.tolist(), (stored.vectors @ query).tolist(), strict=True), key=lambda pair: (-pair[1], pair[0])
    )
    ids, scores = nearest(build_index(stored), query, 25)
    assert ids == [item_id for item_id, _ in expected[:25]]
    assert scores == pytest.approx([score for _, score in expected[:25]], abs=1e-6)


@pytest.mark.parametrize("k", [1, 3, 8, 20, 150])
def test_equal_scores_are_in_the_order_of_their_ids_whatever_k(k: int) -> None:
    stored = unit_vectors(200, 16)
    stored.vectors[50:80] = stored.vectors[50]
    ids, _ = nearest(build_index(stored), stored.vectors[50], k)
    assert ids[:30] == stored.ids[50 : 50 + min(k, 30)].tolist()


def test_a_saved_cache_is_read_back_and_replaces_older_ones(tmp_path: Path) -> None:
    stored = unit_vectors(30, 8)
    (tmp_path / "index.3.faiss").write_bytes(b"older")
    (tmp_path / "index.4.99.part").write_bytes(b"left by a process that was killed")
    save_cache(build_index(stored), tmp_path, 7)
    assert [path.name for path in tmp_path.iterdir()] == ["index.7.faiss"]
    loaded = load_cache(tmp_path, 7, count=30)
    assert nearest(loaded, stored.vectors[4], 3) == nearest(build_index(stored), stored.vectors[4], 3)
    assert load_cache(tmp_path, 8, count=30) is None
    assert load_cache(tmp_path, 7, count=31) is None


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"x" * len(data)])
def test_a_damaged_or_missing_cache_is_built_again(damage, photos: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    update_index(photos, tmp_path / "index", tiny_encoder, device="cpu")
    with Catalogue(tmp_path / "index") as catalogue:
        cache = cache_path(tmp_path / "index", catalogue.sequence())
        whole = cache.read_bytes()
        cache.write_bytes(damage(whole))
        sequence, index = read_index(tmp_path / "index", catalogue)
        assert (sequence, index.ntotal) == (catalogue.sequence(), 20)
        assert cache.read_bytes() == whole
        cache.unlink()
        read_index(tmp_path / "index", catalogue)
        assert cache.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(HdmlError, match=r"index\.7\.faiss cannot be written"):
        save_cache(build_index(unit_vectors(3, 8)), tmp_path / "absent", 7)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(faiss.get_num_gpus() > 0, reason="this machine has a GPU")
def test_without_a_gpu_auto_stays_and_cuda_is_an_error() -> None:
    index = build_index(unit_vectors(3, 8))
    assert to_device(index, "auto") == (index, "cpu")
    with pytest.raises(HdmlError, match="faiss reports no GPU"):
        to_device(index, "cuda")


@pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="needs a GPU that faiss reports")
def test_a_gpu_gives_the_neighbours_of_the_cpu() -> None:
    stored = unit_vectors(500, 16)
    index, device = to_device(build_index(stored), "auto")
    assert device == "cuda"
    assert nearest(index, stored.vectors[9], 10)[0] == nearest(build_index(stored), stored.vectors[9], 10)[0]
