"""The faiss cache: exact, replaceable, and never trusted when it does not fit the catalogue."""

import json
import os
import subprocess
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import pytest

from indexing.errors import HdmlError
from indexing.index import cached_sequences, load_cache, nearest, remove_caches, save_cache, to_device
from indexing.kinds import Manifest, Plan, build_base
from indexing.vectors import Vectors


class Stored(NamedTuple):
    """Ids int64 [N] and unit vectors float32 [N, D]."""

    ids: np.ndarray
    vectors: np.ndarray

    def base(self, *, page: int = 64) -> tuple[Any, Manifest]:
        def pages() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for start in range(0, len(self.ids), page):
                yield self.ids[start : start + page], self.vectors[start : start + page]

        def some(wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return wanted, self.vectors[np.searchsorted(self.ids, wanted)]

        return build_base(Vectors(7, self.vectors.shape[1], len(self.ids), pages, some), Plan())

    def index(self) -> Any:
        return self.base()[0]


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
    assert ids.tolist() == [item_id for item_id, _ in expected[:25]]
    assert scores == pytest.approx([score for _, score in expected[:25]], abs=1e-6)


@pytest.mark.parametrize("k", [1, 3, 8, 20, 150])
def test_equal_scores_are_in_the_order_of_their_ids_whatever_k(k: int) -> None:
    stored = unit_vectors(200, 16)
    stored.vectors[50:80] = stored.vectors[50]
    ids, _ = nearest(stored.index(), stored.vectors[50], k)
    assert ids[:30].tolist() == stored.ids[50 : 50 + min(k, 30)].tolist()


def test_an_index_is_built_without_all_vectors_in_one_array() -> None:
    rows, dimension, pages = 2048, 64, 40

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for page in range(pages):
            yield np.arange(page * rows, (page + 1) * rows), np.zeros((rows, dimension), np.float32)

    tracemalloc.start()  # it counts what numpy holds, not what faiss holds

    def some(wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return wanted, np.zeros((len(wanted), dimension), np.float32)

    index, _ = build_base(Vectors(0, dimension, pages * rows, generate, some), Plan())
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
    save_cache(*stored.base(), tmp_path, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "index.6.98.part",
        "index.7.faiss",
        "index.7.json",
        "index.8.faiss",
    ]
    loaded, manifest = load_cache(tmp_path, 7)
    assert manifest.bytes_per_vector == pytest.approx((tmp_path / "index.7.faiss").stat().st_size / 30)
    assert replace(manifest, bytes_per_vector=None, build_s=0.0, p50_ms=0.0, p95_ms=0.0) == replace(
        stored.base()[1], build_s=0.0, p50_ms=0.0, p95_ms=0.0
    )
    np.testing.assert_array_equal(nearest(loaded, stored.vectors[4], 3), nearest(stored.index(), stored.vectors[4], 3))
    assert load_cache(tmp_path, 9) is None


def test_a_cache_that_cannot_be_written_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(HdmlError, match=r"index\.7\.faiss cannot be written"):
        save_cache(*unit_vectors(3, 8).base(), tmp_path / "absent", 7)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_a_read_only_disk_does_not_take_is_an_error(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(HdmlError, match=r"index\.7\.faiss cannot be written .*Read-only file system"):
        save_cache(*unit_vectors(3, 8).base(), small_disk, 7)


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
    found, expected = (nearest(each, stored.vectors[9], 10)[0].tolist() for each in (index, stored.index()))
    assert found == expected


def says_the_same(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def test_a_damaged_cache_or_manifest_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_cache(*unit_vectors(30, 8).base(), tmp_path, 7)
    opened: list[str] = []
    monkeypatch.setattr(faiss, "read_index", lambda file, _: opened.append(file))
    for name in ("index.7.faiss", "index.7.json"):
        content = (tmp_path / name).read_bytes()
        end = len(content) if name.endswith("faiss") else content.index(b'"checksum"')  # of which there are two
        for place in range(0, end, 41):
            damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            if name.endswith("json") and says_the_same(damaged, content):  # other space, or another last digit of a number
                continue
            (tmp_path / name).write_bytes(damaged)
            assert load_cache(tmp_path, 7) is None, (name, place)
        for shortened in (content[: len(content) // 2], b"", b"[]"):
            (tmp_path / name).write_bytes(shortened)
            assert load_cache(tmp_path, 7) is None
        (tmp_path / name).write_bytes(content)
    assert opened == []


def test_a_manifest_that_a_killed_process_left_alone_is_removed_by_the_next_cache(tmp_path: Path) -> None:
    (tmp_path / "index.3.json").write_text("{}")
    save_cache(*unit_vectors(30, 8).base(), tmp_path, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.7.faiss", "index.7.json"]


def test_a_removal_that_is_cut_short_leaves_what_the_next_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_cache(*unit_vectors(30, 8).base(), tmp_path, 3)
    plain, removed = Path.unlink, []

    def one_is_removed(path: Path, *, missing_ok: bool = False) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        plain(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", one_is_removed)
    with pytest.raises(KeyboardInterrupt):
        remove_caches(tmp_path, [3])
    monkeypatch.undo()
    assert cached_sequences(tmp_path) == [3]
    remove_caches(tmp_path, [3])
    assert list(tmp_path.iterdir()) == []
