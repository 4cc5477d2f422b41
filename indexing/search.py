"""Search an index: from a photo, an item or a vector to the nearest items."""

import threading
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from indexing.catalogue import Catalogue, Item
from indexing.device import check_device
from indexing.encoder import ENCODER, Encoder, is_imported
from indexing.errors import HdmlError
from indexing.filters import Filter
from indexing.generation import Generation, Some, next_generation, open_generation
from indexing.preprocess import ImageSource

_FILTERS_KEPT = 8


@dataclass(frozen=True)
class Result:
    """An item found: its path relative to the gallery, what is known of it, and its cosine similarity to the query."""

    id: int
    path: str
    label: str | None
    attributes: dict[str, str]
    score: float


class OpenIndex:
    """An index that is open for searching: catalogue, faiss index and encoder. Several threads may search at once.

    What another process stores is found by the next search. The encoder is opened when it is first
    needed: a search from an item needs none.

    Attributes:
        path: the index's folder.
        name: the folder's name.
        gallery: the folder of photos that it is of.
        model: the encoder's fingerprint.
        catalogue: for looking up items.
    """

    def __init__(self, index_dir: Path, *, device: str = "auto") -> None:
        """Open an index; raises HdmlError when there is none, when it is damaged, or for a CUDA that is not there."""
        check_device(device)
        self.path, self.name = index_dir, index_dir.resolve().name
        self.catalogue = Catalogue(index_dir)
        about = self.catalogue.about()
        self.gallery, self.model, self.dimension = about.gallery, about.fingerprint, about.dimension
        self._device = device
        self._lock = threading.Lock()
        self._generation = open_generation(index_dir, self.catalogue, device)
        self._filter_lock = threading.Lock()
        self._filtered: dict[Filter, tuple[int, Generation, Some]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.catalogue.close()

    @property
    def encoder(self) -> Encoder:
        """The index's own encoder; raises HdmlError when its file is missing or is no longer the one the index was built with."""
        with self._lock:
            return self._encoder

    @cached_property
    def _encoder(self) -> Encoder:
        self.check_encoder()
        encoder = Encoder(self.path / ENCODER, device=self._device)
        if encoder.metadata.fingerprint != self.model:
            raise HdmlError(
                f"the index {self.name} was built with encoder {self.model}, but its {ENCODER} is now "
                f"{encoder.metadata.fingerprint}; put the old file back or remove the index and build it anew"
            )
        return encoder

    def check_encoder(self) -> None:
        """Raise HdmlError when the index's vectors were imported without their encoder, so that no photo can be embedded."""
        if is_imported(self.model):
            raise HdmlError(
                f"the index {self.name} has imported vectors and no encoder, so that it cannot be searched by a photo; search it "
                "by one of its items (--id) or, from Python, by a vector"
            )

    @property
    def item_count(self) -> int:
        """Number of photos that can be found."""
        return self.catalogue.count()

    def item(self, item_id: int) -> Item:
        """An item with its vector; raises HdmlError when there is none of that id."""
        return self.catalogue.item(item_id)

    def photo_path(self, item_id: int) -> Path:
        """Where an item's photo lies; raises HdmlError when there is no such item."""
        return self.gallery / self.item(item_id).path

    def search_photo(
        self, source: ImageSource, *, k: int = 10, min_score: float | None = None, where: Filter | None = None
    ) -> list[Result]:
        """The photos most like a photo; raises UnreadableImage, and HdmlError as search_vector does."""
        embedding, _ = self.encoder.encode_photo(source)
        return self.search_vector(embedding, k=k, min_score=min_score, where=where)

    def search_item(
        self, item_id: int, *, k: int = 10, min_score: float | None = None, where: Filter | None = None
    ) -> list[Result]:
        """The photos most like one of the index, without itself; raises HdmlError as item and search_vector do."""
        results = self.search_vector(self.item(item_id).vector, k=k + 1, min_score=min_score, where=where)
        return [result for result in results if result.id != item_id][:k]

    def search_vector(
        self, embedding: NDArray[np.float32], *, k: int = 10, min_score: float | None = None, where: Filter | None = None
    ) -> list[Result]:
        """The photos whose embeddings point most in the direction of a vector.

        Args:
            embedding: [D], of any length above 0.
            k: most results wanted; with fewer photos in the index all are given.
            min_score: least cosine similarity of a result, -1..1.
            where: what every result has to be; the k best of all that are so, and fewer only when there are no more.

        Returns:
            Results, the highest score first, the lower id first among equal scores.

        Raises:
            HdmlError: k is below 1 or more than a GPU can give, or the index holds no photo.
        """
        if k < 1:
            raise HdmlError(f"the number of results must be at least 1, not {k}")
        unit = np.asarray(embedding, np.float32) / np.linalg.norm(embedding)
        ids, scores = self._nearest(unit, k, where)
        known = self.catalogue.known(ids)
        return [
            Result(item_id, *known[item_id], score)
            for item_id, score in zip(ids, scores, strict=True)
            if item_id in known and (min_score is None or score >= min_score)
        ]

    def _nearest(self, unit: NDArray[np.float32], k: int, where: Filter | None) -> tuple[list[int], list[float]]:
        with self._lock:
            self._generation = next_generation(self._generation, self.path, self.catalogue, self._device)
            generation = self._generation
        if generation.size == 0:
            raise HdmlError(f'the index {self.name} must hold photos, but it has none that can be read; run "hdml index" again')
        return generation.search(unit, k, among=None if where is None else self._some(generation, where))

    def _some(self, generation: Generation, where: Filter) -> Some:
        """What a filter lets through, which is remembered of the last few filters until anything at all changes."""
        with self._filter_lock:
            version = self.catalogue.version()
            known, of, some = self._filtered.pop(where, (None, None, None))
            if some is None or known != version or of is not generation:
                some = Some(generation, self.catalogue.matching(where))
            self._filtered[where] = version, generation, some
            if len(self._filtered) > _FILTERS_KEPT:
                del self._filtered[next(iter(self._filtered))]
            return some


def answer(query: str, opened: OpenIndex, results: list[Result], elapsed_ms: float) -> dict[str, Any]:
    """The answer to a search as programs read it, by command line and by HTTP alike."""
    return {
        "query": query,
        "index": opened.name,
        "model": opened.model,
        "elapsed_ms": round(elapsed_ms, 3),
        "results": [asdict(result) for result in results],
    }
