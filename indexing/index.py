"""The faiss index of a catalogue's vectors: a cache on disk that may be thrown away and is then built again."""

import json
import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexing.checksum import checksum
from indexing.errors import HdmlError
from indexing.kinds import Manifest, faiss_search

logger = logging.getLogger(__name__)

# faiss has no type stubs: below, an index is ``Any``.
MAX_GPU_RESULTS = 2048
ABANDONED_S = 3600.0  # an unfinished file that has not grown for so long is of a process that was killed
_WHOLE, _PIECES = "checksum", "checksum_of_pieces"  # in a manifest
_GPU_SCRATCH_BYTES = 64 << 20  # faiss takes 1.5 GB unless told otherwise


def cache_path(index_dir: Path, sequence: int) -> Path:
    """Where the cache of the vectors of that sequence number lies."""
    return index_dir / f"index.{sequence}.faiss"


def manifest_path(index_dir: Path, sequence: int) -> Path:
    """Where the manifest of that cache lies."""
    return index_dir / f"index.{sequence}.json"


def cached_sequences(index_dir: Path) -> list[int]:
    """Sequence numbers that there are caches of, ascending."""
    return _sequences(index_dir, "faiss")


def _sequences(index_dir: Path, suffix: str) -> list[int]:
    numbers = (path.name.split(".")[1] for path in index_dir.glob(f"index.*.{suffix}"))
    return sorted(int(number) for number in numbers if number.isdecimal())


def sequences_of(index_dir: Path, model: str | None) -> list[int]:
    """Sequence numbers that there are caches of a model's vectors of, ascending.

    Args:
        model: its fingerprint; None for caches that do not say whose they are, or whose manifest is missing.
    """
    return [sequence for sequence in cached_sequences(index_dir) if _model_of(index_dir, sequence) == model]


def _model_of(index_dir: Path, sequence: int) -> str | None:
    """Fingerprint of the encoder whose vectors a cache holds; None when its manifest is missing or says nothing of it."""
    try:
        return str(json.loads(manifest_path(index_dir, sequence).read_text(encoding="utf-8"))["model"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def save_cache(index: Any, manifest: Manifest, index_dir: Path, sequence: int, *, keep_lower: bool = False) -> None:
    """Write the cache of a sequence number with its manifest, whole or not at all, and remove those of lower numbers.

    One of a higher number stays: whoever reads the catalogue and saves late must not undo what an indexer has saved since.

    Args:
        keep_lower: whether those of lower numbers stay, because they are still being searched.
    """
    import faiss

    path = cache_path(index_dir, sequence)
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    try:
        faiss.write_index(index, os.fspath(unfinished))
        if manifest.items:
            manifest = replace(manifest, bytes_per_vector=unfinished.stat().st_size / manifest.items)
        fields = manifest.to_json()
        sums = {name: _checksum(unfinished, fields, whole=name == _WHOLE) for name in (_WHOLE, _PIECES)}
        beside = unfinished.with_suffix(".json.part")
        beside.write_text(json.dumps({**fields, **sums}, indent=2) + "\n", encoding="utf-8")
        beside.replace(manifest_path(index_dir, sequence))  # first: without it the index is worth nothing
        unfinished.replace(path)
    except (RuntimeError, OSError) as error:  # faiss raises RuntimeError whatever went wrong
        for left in (unfinished, unfinished.with_suffix(".json.part")):
            with suppress(OSError):  # where nothing can be written nothing can be removed
                left.unlink()
        raise HdmlError(
            f"{path} cannot be written ({error}); free some space or change the permissions, what the catalogue holds stays"
        ) from error
    if not keep_lower:
        # A process that was killed may have left a manifest alone.
        others = {*cached_sequences(index_dir), *_sequences(index_dir, "json")}
        remove_caches(index_dir, sorted(other for other in others if other < sequence))


def remove_caches(index_dir: Path, sequences: Iterable[int]) -> None:
    """Remove the caches of these sequence numbers, and unfinished ones of processes that were killed."""
    for sequence in sequences:
        manifest_path(index_dir, sequence).unlink(missing_ok=True)  # first: a cache without one is found, and removed, later
        cache_path(index_dir, sequence).unlink(missing_ok=True)
    for unfinished in index_dir.glob("index.*.part"):
        with suppress(FileNotFoundError):  # its process has just finished it
            if time.time() - unfinished.stat().st_mtime > ABANDONED_S:
                unfinished.unlink()


def load_cache(index_dir: Path, sequence: int, *, check_all: bool = False) -> tuple[Any, Manifest] | None:
    """Map the cache of that sequence number into memory; None when it is missing or damaged.

    faiss believes what it reads, and may crash on a damaged file: none is opened that has another checksum than its manifest.

    Args:
        check_all: whether all of a large file is read to tell that; else some pieces of it are, its beginning and end included.
    """
    import faiss

    path, name = cache_path(index_dir, sequence), _WHOLE if check_all else _PIECES
    if not path.exists():
        return None
    try:
        fields = json.loads(manifest_path(index_dir, sequence).read_text(encoding="utf-8"))
        sums = {each: fields.pop(each) for each in (_WHOLE, _PIECES)}
        if sums[name] != _checksum(path, fields, whole=check_all):
            logger.warning("%s is damaged and will be built again: its checksum is another than its manifest says", path)
            return None
        manifest = Manifest.from_json(fields)
        index = faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("%s is damaged and will be built again: %s", path, error)
        return None
    return (index, manifest) if index.ntotal == manifest.items else None


def _checksum(path: Path, fields: dict[str, Any], *, whole: bool) -> int:
    """Of a cache and of the other fields of its manifest, by which it is searched."""
    return checksum(path, json.dumps(fields, sort_keys=True).encode(), whole=whole)


def to_device(index: Any, device: str) -> tuple[Any, str]:
    """Move an index to the GPU where the device rule and faiss allow it.

    Args:
        index: on the CPU.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns:
        The index and the device it is on, ``"cpu"`` or ``"cuda"``.

    Raises:
        HdmlError: CUDA was asked for but faiss reports no GPU.
    """
    import faiss

    if device == "cpu":
        return index, "cpu"
    if faiss.get_num_gpus() == 0:
        if device == "cuda":
            raise HdmlError('the device "cuda" was asked for, but faiss reports no GPU; use --device cpu or auto')
        return index, "cpu"
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(_GPU_SCRATCH_BYTES)
    return faiss.index_cpu_to_gpu(resources, 0, index), "cuda"


def nearest(
    index: Any, unit: NDArray[np.float32], k: int, *, params: Any = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids and scores of the k nearest items of a unit vector [D], best first, ids ascending among equal scores.

    Args:
        params: of faiss's search, such as a selector; there may be fewer results with one.
    """
    if k < 1:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    scores, ids = faiss_search(index, unit[None], k, params)
    found = ids[0] >= 0
    order = np.lexsort((ids[0][found], -scores[0][found]))
    return ids[0][found][order], scores[0][found][order]
