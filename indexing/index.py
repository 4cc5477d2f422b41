"""The faiss index of a catalogue's vectors: a cache on disk that may be thrown away and is then built again."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexing.catalogue import Catalogue, Vectors
from indexing.errors import HdmlError

logger = logging.getLogger(__name__)

# faiss has no type stubs: below, an index is ``Any``.
MAX_GPU_RESULTS = 2048
_GPU_SCRATCH_BYTES = 64 << 20  # faiss takes 1.5 GB unless told otherwise


def cache_path(index_dir: Path, sequence: int) -> Path:
    """Where the cache of the vectors of that sequence number lies."""
    return index_dir / f"index.{sequence}.faiss"


def read_index(index_dir: Path, catalogue: Catalogue) -> tuple[int, Any]:
    """The faiss index of the catalogue's present vectors and their sequence number; built and saved when no cache fits."""
    sequence = catalogue.sequence()
    index = load_cache(index_dir, sequence, count=catalogue.count())
    if index is not None:
        return sequence, index
    vectors = catalogue.vectors()
    index = build_index(vectors)
    try:
        save_cache(index, index_dir, vectors.sequence)
    except HdmlError as error:  # searching needs no cache, only its next start is slower
        logger.warning("%s", error)
    return vectors.sequence, index


def build_index(vectors: Vectors) -> Any:
    """Exact inner-product search over unit vectors, that is by cosine similarity, keyed by item ids."""
    import faiss

    index = faiss.IndexIDMap(faiss.IndexFlatIP(vectors.vectors.shape[1]))
    index.add_with_ids(vectors.vectors, vectors.ids)
    return index


def save_cache(index: Any, index_dir: Path, sequence: int) -> None:
    """Write the cache of a sequence number, whole or not at all, and remove those of other numbers."""
    import faiss

    path = cache_path(index_dir, sequence)
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    try:
        faiss.write_index(index, os.fspath(unfinished))
        unfinished.replace(path)
    except (RuntimeError, OSError) as error:  # faiss raises RuntimeError whatever went wrong
        unfinished.unlink(missing_ok=True)
        raise HdmlError(
            f"{path} cannot be written ({error}); free some space or change the permissions, what the catalogue holds stays"
        ) from error
    remove_caches(index_dir, but=path)


def remove_caches(index_dir: Path, *, but: Path | None = None) -> None:
    """Remove the caches of an index, finished or not, except one."""
    for pattern in ("index.*.faiss", "index.*.part"):
        for path in index_dir.glob(pattern):
            if path != but:
                path.unlink(missing_ok=True)


def load_cache(index_dir: Path, sequence: int, *, count: int) -> Any | None:
    """Map the cache of that sequence number into memory; None when it is missing, damaged or does not hold ``count`` items."""
    import faiss

    path = cache_path(index_dir, sequence)
    if not path.exists():
        return None
    try:
        index = faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        logger.warning("%s is damaged and will be built again: %s", path, error)
        return None
    return index if index.ntotal == count else None


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


def nearest(index: Any, vector: NDArray[np.float32], k: int) -> tuple[list[int], list[float]]:
    """Ids and scores of the k nearest items of a unit vector [D], best first, ids ascending among equal scores."""
    scores, ids = index.search(vector[None], k)
    order = np.lexsort((ids[0], -scores[0]))
    return ids[0][order].tolist(), scores[0][order].tolist()
