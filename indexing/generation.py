"""What a search looks in: a base of vectors in a file that never changes, and what has changed in the catalogue since.

The catalogue numbers its changes. A base holds the vectors of one such number; whatever changed later is read from the catalogue
when it is asked for: items that are new or have other vectors are compared one by one, and what the base knows of them, or of
items that are gone, is passed over. The indexer builds another base when that has become too much.
"""

import logging
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexing.catalogue import Catalogue
from indexing.errors import HdmlError
from indexing.index import MAX_GPU_RESULTS, cached_sequences, load_cache, nearest, save_cache, sequences_of, to_device
from indexing.kinds import Manifest, build_base, candidates, faiss_search, one_thread, search_params, second_look
from indexing.lock import is_being_indexed
from indexing.vectors import Changes, Look

logger = logging.getLogger(__name__)


_ONE_BY_ONE = 10_000  # items that a filtered search compares with by themselves
_PAGE = 8192


class Base:
    """A faiss index of item ids, of the vectors that the catalogue had at a sequence number; it never changes."""

    def __init__(self, index: Any, manifest: Manifest, sequence: int, device: str, look: Look) -> None:
        """Take an index with its manifest; ``look`` gives the vectors that it was built of.

        Raises:
            HdmlError: CUDA is asked for, and not there or not able to search this kind.
        """
        self.sequence, self.manifest, self._look = sequence, manifest, look
        if manifest.kind == "hnsw" and device == "cuda":
            raise HdmlError("an index of the kind hnsw is searched on the CPU; use --device cpu, or --kind ivf or exact")
        if manifest.kind != "exact" and device == "auto":
            device = "cpu"  # a GPU has not been seen to answer one query at a time sooner
        self._whole = index
        self.index, placed = to_device(index, device)
        self.on_gpu = placed == "cuda"
        # faiss searches a CPU index from many threads at once, a GPU index from one.
        self._guard: AbstractContextManager[Any] = threading.Lock() if self.on_gpu else nullcontext()

    @property
    def size(self) -> int:
        return int(self.index.ntotal)

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """[n], ascending."""
        import faiss

        ids: NDArray[np.int64] = faiss.vector_to_array(self._whole.id_map)
        return ids

    def held(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some ids that it holds; looked up one by one, since there are far fewer than it has."""
        if not self.size:
            return ids[:0]
        places = np.minimum(np.searchsorted(self.ids, ids), self.size - 1)
        found: NDArray[np.int64] = ids[self.ids[places] == ids]
        return found

    def nearest_among(self, unit: NDArray[np.float32], k: int, some: "Some") -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids and scores of the k nearest of some of its items: few are compared with, among many the index is searched."""
        import faiss

        ids, wanted = some.in_base, candidates(self.manifest.settings, k)
        if some.selector is not None:
            params = search_params(self.manifest, wanted, chosen=some.selector, passed=len(ids))
            return self._refined(unit, *nearest(self._whole, unit, min(wanted, len(ids)), params=params), k)
        places = np.searchsorted(self.ids, ids)
        found_ids, found = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for start in range(0, len(ids), _PAGE):
            page = self._whole.index.reconstruct_batch(places[start : start + _PAGE])
            # By faiss as well: equal vectors must have equal scores, however they are found.
            with one_thread():
                scores, rows = faiss.knn(unit[None], page, min(wanted, len(page)), metric=faiss.METRIC_INNER_PRODUCT)
            found_ids.append(ids[start + rows[0]])
            found.append(scores[0])
        return self._refined(unit, *_best(np.concatenate(found_ids), np.concatenate(found), wanted), k)

    def nearest(self, unit: NDArray[np.float32], k: int, dead: "Dead") -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids and scores of the k nearest items that are not dead, or of fewer when there are no more."""
        if not self.on_gpu:
            wanted = min(candidates(self.manifest.settings, k), self.size)
            params = search_params(self.manifest, wanted, chosen=dead.rest)
            return self._refined(unit, *nearest(self.index, unit, wanted if k else 0, params=params), k)
        # A GPU knows no selectors.
        wanted = min(candidates(self.manifest.settings, k) + len(dead.ids), self.size)
        params = search_params(self.manifest, wanted)
        if wanted > MAX_GPU_RESULTS or (params is not None and params.nprobe > MAX_GPU_RESULTS):
            raise HdmlError(
                f"on a GPU {k} results beside {len(dead.ids)} that are gone would take more than {MAX_GPU_RESULTS} candidates or "
                'lists; use --device cpu, ask for fewer, or run "hdml index" again'
            )
        with self._guard:
            ids, scores = nearest(self.index, unit, wanted, params=params)
        alive = ~np.isin(ids, dead.ids)
        return self._refined(unit, ids[alive], scores[alive], k)

    def nearest_of_many(self, units: NDArray[np.float32], k: int, dead: "Dead") -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As nearest, on the CPU, of many unit vectors [n, D]: scores and ids [n, k or more], in no order; −1 where none is."""
        wanted = candidates(self.manifest.settings, k)
        scores, ids = faiss_search(self._whole, units, wanted, search_params(self.manifest, wanted, chosen=dead.rest))
        return (second_look(units, ids, scores, self._look) if self.manifest.settings.refine else scores), ids

    def _refined(
        self, unit: NDArray[np.float32], ids: NDArray[np.int64], scores: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k best of what was found, by a second look at it where the base needs one."""
        if self.manifest.settings.refine and len(ids):
            scores = second_look(unit[None], ids[None], scores[None], self._look)[0]
        return _best(ids, scores, k)


class Dead:
    """Items of a base that are gone since, or have another vector; and a selector of the rest, as faiss takes it."""

    def __init__(self, ids: NDArray[np.int64]) -> None:
        self.ids = ids
        self.rest: Any = None
        if len(ids):
            import faiss

            self._batch = faiss.IDSelectorBatch(ids)  # faiss holds no reference of its own
            self.rest = faiss.IDSelectorNot(self._batch)


class Some:
    """Some items of a generation, the only ones that a search may find; what it takes to search among them is made once.

    Attributes:
        in_base: [m] ids of those in the base that are not dead, ascending.
        selector: of them, as faiss takes it; None when they are few enough to be compared with one by one.
        added: exact search in those that are not in the base.
    """

    def __init__(self, generation: "Generation", ids: NDArray[np.int64]) -> None:
        in_base = generation.base.held(ids)
        self.in_base = in_base[~np.isin(in_base, generation.dead.ids)]
        self.selector: Any = None
        if len(self.in_base) > _ONE_BY_ONE:
            import faiss as typed

            faiss: Any = typed  # its stubs lack what is needed here
            self._flags = _flags(self.in_base)  # faiss holds no reference of its own
            self.selector = faiss.IDSelectorBitmap(self._flags)
        ours = np.isin(generation.added, ids)
        self.added = _compared(generation.added[ours], generation.vectors[ours])


@dataclass(frozen=True)
class Generation:
    """One moment of an index. Several threads may search in it.

    Attributes:
        sequence: number of the catalogue's last change that it knows of.
        base: the greater part.
        dead: what of the base does not count any more.
        added: [n] ids of items that are not in the base, or not with this vector.
        vectors: [n, D] theirs.
    """

    sequence: int
    base: Base
    dead: Dead
    added: NDArray[np.int64]
    vectors: NDArray[np.float32]

    @property
    def model(self) -> str:
        """Fingerprint of the encoder that gave all of its vectors."""
        return self.base.manifest.model

    @property
    def dimension(self) -> int:
        """Length of its vectors."""
        return self.base.manifest.dim

    @property
    def size(self) -> int:
        """Number of items that can be found."""
        return self.base.size - len(self.dead.ids) + len(self.added)

    @property
    def is_base(self) -> bool:
        """Whether nothing has changed since the base."""
        return not len(self.dead.ids) and not len(self.added)

    def search(self, unit: NDArray[np.float32], k: int, *, among: Some | None = None) -> tuple[list[int], list[float]]:
        """Ids and scores of the k nearest items of a unit vector [D], best first, ids ascending among equal scores.

        Args:
            among: the only items that may be found; None for all.

        Raises:
            HdmlError: on a GPU, when k is more than it can give.
        """
        if among is None:
            k = min(k, self.size)
            ids, scores = self.base.nearest(unit, min(k, self.base.size - len(self.dead.ids)), self.dead)
            added = self._added_index
        else:
            ids, scores = self.base.nearest_among(unit, k, among)
            added = among.added
        own_ids, own_scores = nearest(added, unit, min(k, added.ntotal))
        ids, scores = _best(np.concatenate([ids, own_ids]), np.concatenate([scores, own_scores]), k)
        return ids.tolist(), scores.tolist()

    @cached_property
    def _added_index(self) -> Any:
        return _compared(self.added, self.vectors)

    def search_many(self, units: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As search, on the CPU, of many unit vectors [n, D] at once: ids and scores [n, k], −1 and −∞ where there are none."""
        found = [self.base.nearest_of_many(units, k, self.dead)]
        if len(self.added):
            found.append(faiss_search(self._added_index, units, k))
        scores, ids = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
        scores[ids < 0] = -np.inf
        order = np.lexsort((ids, -scores))[:, :k]
        return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)

    def with_changes(self, changes: Changes) -> "Generation":
        """The generation after these changes."""
        touched = np.isin(self.added, changes.ids)
        order = np.argsort(ids := np.concatenate([self.added[~touched], changes.ready]), kind="stable")
        vectors = np.concatenate([self.vectors[~touched], changes.vectors])
        dead = np.union1d(self.dead.ids, self.base.held(changes.ids))
        return Generation(changes.sequence, self.base, Dead(dead), ids[order], vectors[order])


def _compared(ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> Any:
    """Exact search in a few vectors, by faiss as well: equal vectors must have equal scores, wherever they are kept."""
    import faiss

    index = faiss.IndexIDMap(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(vectors, ids)
    return index


def _flags(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A bit for every number up to the greatest, set for those that are there."""
    flags = np.zeros(int(numbers.max()) + 1, bool)
    flags[numbers] = True
    return np.packbits(flags, bitorder="little")


def _best(ids: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    order = np.lexsort((ids, -scores))[:k]
    return ids[order], scores[order]


def open_generation(index_dir: Path, catalogue: Catalogue, device: str) -> Generation:
    """The present generation of an index: over the newest base that can be read, else over one that is built now, and saved.

    While a process is indexing, which saves bases itself, none is saved.

    Raises:
        HdmlError: CUDA was asked for but faiss reports no GPU.
    """
    while True:
        generation = _up_to_date(_open_base(index_dir, catalogue, device), catalogue)
        if generation is not None:
            return generation


def _open_base(index_dir: Path, catalogue: Catalogue, device: str) -> Base:
    about = catalogue.about()
    for sequence in reversed(sequences_of(index_dir, about.fingerprint)):
        if sequence <= about.sequence and (cached := load_cache(index_dir, sequence)) is not None:
            return Base(*cached, sequence, device, catalogue.look(about.fingerprint, about.dimension, sequence))
    plan = catalogue.plan()
    with catalogue.vectors() as vectors:
        sequence, (index, manifest) = vectors.sequence, build_base(vectors, plan)
    if not is_being_indexed(index_dir):
        try:
            save_cache(index, manifest, index_dir, sequence)
        except HdmlError as error:  # searching needs no file, only its next start is slower
            logger.warning("%s", error)
    return Base(index, manifest, sequence, device, catalogue.look(manifest.model, manifest.dim, sequence))


def next_generation(generation: Generation, index_dir: Path, catalogue: Catalogue, device: str) -> Generation:
    """The same generation while nothing has changed, else the one after; over a new base when there is one."""
    present = catalogue.sequence()
    if present == generation.sequence and generation.is_base:
        return generation
    if any(generation.base.sequence < sequence <= present for sequence in cached_sequences(index_dir)):
        return open_generation(index_dir, catalogue, device)
    if present == generation.sequence:
        return generation
    changes = catalogue.changes(generation.sequence)
    if changes.model != generation.model:
        return open_generation(index_dir, catalogue, device)
    return generation.with_changes(changes)


def _up_to_date(base: Base, catalogue: Catalogue) -> Generation | None:
    """The present generation over a base; None when its model has been changed for another meanwhile."""
    nothing, no_vectors = np.empty(0, np.int64), np.empty((0, base.manifest.dim), np.float32)
    generation = Generation(base.sequence, base, Dead(nothing), nothing, no_vectors)
    if catalogue.sequence() == base.sequence:
        return generation
    changes = catalogue.changes(base.sequence)
    return generation.with_changes(changes) if changes.model == generation.model else None
