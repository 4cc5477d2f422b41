"""The faiss cache: exact, replaceable, and never trusted when it does not fit the catalogue."""

import os
import subprocess
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import pytest

from indexing.catalogue import Catalogue, Vectors
from indexing.errors import HdmlError
from indexing.gallery import walk_gallery
from indexing.index import build_index, cache_path, cached_sequences, load_cache, nearest, read_index, save_cache, to_device
from indexing.indexer import update_index
from indexing.lock import indexing_alone


class Stored(NamedTuple):
    """Ids int64 [N] and unit vectors float32 [N, D]."""

    ids: np.ndarray
    vectors: np.ndarray

    def index(self, *, page: int = 64) -> Any:
        starts = range(0, len(self.ids), page)
        pages = ((self.ids[start : start + page], self.vectors[start : start + page]) for start in starts)
        return build_index(Vectors(7, self.vectors.shape[1], pages))


def unit_vectors(count: int, dimension: int, seed: int = 0) -> Stored:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Stored(np.arange(count, dtype=np.int64) * 3 + 5, vectors)


def test_nearest_equals_sorting_all_scores() -> None:
    stored = unit_vectors(200, 16)
    query = unit_vectors(1, 16, seed=1).vectors[0]
    expected = sorted(
        zip(stored.ids.tolist(), (stored.vectors @ query).tolist(), strict=True), key=lambda pair: (-pair[1], pair[0])
    )
    ids, scores = nearest(stored.index(), query, 25)
    assert ids == [item_id for item_id, _ in expected[:25]]
    assert scores == pytest.approx([score for _, score in expected[:25]], abs=1e-6)


@pytest.mark.parametrize("k", [1, 3, 8, 20, 150])
def test_equal_scores_are_in_the_order_of_their_ids_whatever_k(k: int) -> None:
    stored = unit_vectors(200, 16)
    stored.vectors[50:80] = stored.vectors[50]
    ids, _ = nearest(stored.index(), stored.vectors[50], k)
    assert ids[:30] == stored.ids[50 : 50 + min(k, 30)].tolist()


def test_an_index_is_built_without_all_vectors_in_one_array() -> None:
    rows, dimension, pages = 2048, 64, 40

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for page in range(pages):
            yield np.arange(page * rows, (page + 1) * rows), np.zeros((rows, dimension), np.float32)

    tracemalloc.start()  # it counts what numpy holds, not what faiss holds
    index = build_index(Vectors(0, dimension, generate()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert index.ntotal == pages * rows
    assert peak < pages * rows * dimension * 4 / 10


def test_a_saved_cache_is_read_back_and_replaces_older_ones(tmp_path: Path) -> None:
    stored = unit_vectors(30, 8)
    (tmp_path / "index.3.faiss").write_bytes(b"older")
    (tmp_path / "index.8.faiss").write_bytes(b"saved by an indexer meanwhile")
    (tmp_path / "index.6.98.part").write_bytes(b"being written by another process")
    (tmp_path / "index.4.99.part").write_bytes(b"left by a process that was killed")
    os.utime(tmp_path / "index.4.99.part", (0, 0))
    save_cache(stored.index(), tmp_path, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.6.98.part", "index.7.faiss", "index.8.faiss"]
    loaded = load_cache(tmp_path, 7, count=30)
    assert nearest(loaded, stored.vectors[4], 3) == nearest(stored.index(), stored.vectors[4], 3)
    assert load_cache(tmp_path, 9, count=30) is None
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


def test_while_a_process_is_indexing_the_newest_cache_serves_and_none_is_written(
    photos: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    index_dir = tmp_path / "index"
    update_index(photos, index_dir, tiny_encoder, device="cpu")
    with Catalogue(index_dir) as catalogue:
        before = catalogue.sequence()
        cached = cache_path(index_dir, before)
        with indexing_alone(index_dir):
            remove_items(catalogue, photos, "red-right")
            sequence, index = read_index(index_dir, catalogue)
            assert (sequence, index.ntotal) == (before, 20)
            cached.unlink()
            sequence, index = read_index(index_dir, catalogue)
            assert (sequence, index.ntotal) == (before + 5, 15)
            assert cached_sequences(index_dir) == []
        read_index(index_dir, catalogue)
        assert cached_sequences(index_dir) == [before + 5]


def remove_items(catalogue: Catalogue, photos: Path, label: str) -> None:
    """What an indexer does at first when the photos of a label are gone."""
    catalogue.compare(photo for photo in walk_gallery(photos) if photo.label != label)
    catalogue.drop_gone()


def test_a_cache_that_cannot_be_written_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(HdmlError, match=r"index\.7\.faiss cannot be written"):
        save_cache(unit_vectors(3, 8).index(), tmp_path / "absent", 7)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_a_read_only_disk_does_not_take_is_an_error(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(HdmlError, match=r"index\.7\.faiss cannot be written .*Read-only file system"):
        save_cache(unit_vectors(3, 8).index(), small_disk, 7)


@pytest.mark.skipif(faiss.get_num_gpus() > 0, reason="this machine has a GPU")
def test_without_a_gpu_auto_stays_and_cuda_is_an_error() -> None:
    index = unit_vectors(3, 8).index()
    assert to_device(index, "auto") == (index, "cpu")
    with pytest.raises(HdmlError, match="faiss reports no GPU"):
        to_device(index, "cuda")


@pytest.mark.skipif(faiss.get_num_gpus() == 0, reason="needs a GPU that faiss reports")
def test_a_gpu_gives_the_neighbours_of_the_cpu() -> None:
    stored = unit_vectors(500, 16)
    index, device = to_device(stored.index(), "auto")
    assert device == "cuda"
    assert nearest(index, stored.vectors[9], 10)[0] == nearest(stored.index(), stored.vectors[9], 10)[0]
