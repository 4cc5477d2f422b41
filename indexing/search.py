"""Search an index: from a photo, an item or a vector to the nearest items."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from indexing.calibration import Calibration, Uncalibrated, read_calibration
from indexing.catalogue import Catalogue
from indexing.device import check_device
from indexing.encoder import Encoder, is_imported
from indexing.errors import HdmlError, UnreadableImage
from indexing.filters import Filter
from indexing.generation import Generation, Some, next_generation, open_generation
from indexing.items import Item
from indexing.pictures import has_pictures, kept_picture
from indexing.preprocess import ImageSource
from indexing.queries import Query
from indexing.rocchio import rocchio

_FILTERS_KEPT = 8
MinScore = float | Literal["auto"] | None
"""Least cosine similarity of a result, −1..1; ``"auto"`` is the least that says *match*, None any."""


@dataclass(frozen=True)
class Result:
    """An item found: its path relative to the gallery, what is known of it, and its cosine similarity to the query.

    ``width`` and ``height`` are the upright photo's, in pixels, so that room can be left for it before it is there; None of a
    vector without a photo.
    """

    id: int
    path: str
    label: str | None
    attributes: dict[str, str]
    width: int | None
    height: int | None
    score: float


class OpenIndex:
    """An index that is open for searching: catalogue, faiss index and encoder. Several threads may search at once.

    What another process stores is found by the next search, and so is another model that it has been changed over to. The encoder
    is opened when it is first needed: a search from an item needs none.

    Attributes:
        path: the index's folder.
        name: the folder's name.
        gallery: the folder of photos that it is of.
        catalogue: for looking up items.
    """

    def __init__(self, index_dir: Path, *, device: str = "auto") -> None:
        """Open an index; raises HdmlError when there is none, when it is damaged, or for a CUDA that is not there."""
        check_device(device)
        self.path, self.name = index_dir, index_dir.resolve().name
        self.catalogue = Catalogue(index_dir)
        self.gallery = self.catalogue.about().gallery
        self._device = device
        self._lock, self._encoder_lock = threading.Lock(), threading.Lock()
        self._encoder: Encoder | None = None
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
    def model(self) -> str:
        """Fingerprint of the encoder whose vectors were searched last."""
        return self._generation.model

    @property
    def dimension(self) -> int:
        """Length of these vectors."""
        return self._generation.dimension

    @property
    def encoder(self) -> Encoder:
        """The index's own encoder; raises HdmlError when its file is missing or is no longer the one the index was built with."""
        return self.encoder_of(self.present())

    def encoder_of(self, moment: Generation) -> Encoder:
        """The encoder that gave the vectors of a moment; raises HdmlError as encoder does."""
        with self._encoder_lock:
            if self._encoder is None or self._encoder.metadata.fingerprint != moment.model:
                self._encoder = self._open_encoder(moment.model)
            return self._encoder

    def _open_encoder(self, model: str) -> Encoder:
        self._check_encoder(model)
        encoder = Encoder(self.catalogue.encoder_of(model), device=self._device)
        if encoder.metadata.fingerprint != model:
            raise HdmlError(
                f"the index {self.name} was built with encoder {model}, but its {encoder.path.name} is now "
                f"{encoder.metadata.fingerprint}; put the old file back or remove the index and build it anew"
            )
        return encoder

    def check_encoder(self) -> None:
        """Raise HdmlError when the index's vectors were imported without their encoder, so that no photo can be embedded."""
        self._check_encoder(self.present().model)

    def _check_encoder(self, model: str) -> None:
        if is_imported(model):
            raise HdmlError(
                f"the index {self.name} has imported vectors and no encoder, so that it cannot be searched by a photo; search it "
                "by one of its items (--id) or, from Python, by a vector"
            )

    def present(self) -> Generation:
        """The index as it is at this moment: items and vectors, all of one model. It never changes."""
        with self._lock:
            self._generation = next_generation(self._generation, self.path, self.catalogue, self._device)
            return self._generation

    @property
    def calibration(self) -> Calibration | None:
        """What the scores of this index mean; None where that is not known."""
        found = read_calibration(self.catalogue)
        return found if isinstance(found, Calibration) else None

    def least_score(self, min_score: MinScore) -> float | None:
        """The number that a least score stands for; raises HdmlError for "auto" where the index is not calibrated."""
        return min_score if min_score != "auto" else least_match(read_calibration(self.catalogue), self.name)

    @property
    def item_count(self) -> int:
        """Number of photos that can be found."""
        return self.catalogue.count()

    def item(self, item_id: int) -> Item:
        """An item with its vector; raises UnknownItem when there is none of that id."""
        return self.catalogue.item(item_id)

    def present_items(self, ids: Sequence[int]) -> tuple[Generation, list[Item]]:
        """The present moment, and items with their vectors of its model; raises UnknownItem when one is not there."""
        while True:
            moment, items = self.present(), [self.item(item_id) for item_id in ids]
            if all(item.model == moment.model for item in items):  # else changed over in between
                return moment, items

    def photo_path(self, item_id: int) -> Path:
        """Where an item's photo lies; raises UnknownItem when there is no such item."""
        return self.gallery / self.item(item_id).path

    def item_photo(self, item_id: int) -> ImageSource:
        """An item's photo, or its small picture where the index has come without photos; raises HdmlError when there is none."""
        if not has_pictures(self.path):
            return self.photo_path(item_id)
        kept = kept_picture(self.path, item_id)
        if kept is None:
            raise HdmlError(f"the index {self.name} has come without photos, and without a picture of item {item_id}")
        return kept[0]

    @contextmanager
    def reading_item(self, item_id: int) -> Iterator[None]:
        """Read an item's photo inside: what cannot be read any more is said of the index, not of a query."""
        try:
            yield
        except UnreadableImage as error:
            raise HdmlError(
                f'the photo of item {item_id} cannot be read any more: {error}; bring {self.name} up to date with "hdml index"'
            ) from error

    def search(self, query: Query, *, k: int = 10, min_score: MinScore = None, where: Filter | None = None) -> list[Result]:
        """The photos most like a query, best first, without the items that it speaks of.

        Args:
            k: most results wanted.
            min_score: least score of a result.
            where: what every result has to be.

        Raises:
            UnreadableImage: the photo cannot be read.
            UnknownItem: an item is not there.
            HdmlError: the query is none, or as search_vector.
        """
        vector, moment = self.embed(query)
        named = query.items
        results = self.search_vector(vector, k=k + len(named), min_score=min_score, where=where, moment=moment)
        return [result for result in results if result.id not in named][:k]

    def embed(self, query: Query) -> tuple[NDArray[np.float32], Generation]:
        """The direction that a query searches in [D], and the moment whose encoder gave it; raises as search does."""
        query.check()
        moment, items = self.present_items(query.items)
        vectors = {item.id: item.vector for item in items}
        begun = self._begin(query, moment, vectors)
        if begun is not None and not query.has_examples:
            return begun, moment
        more, less = ([vectors[item] for item in ids] for ids in (query.more, query.less))
        return rocchio(begun, more, less, query.weights), moment

    def _begin(self, query: Query, moment: Generation, vectors: dict[int, NDArray[np.float32]]) -> NDArray[np.float32] | None:
        """What a query is before its examples move it, of unit length."""
        if query.vector is not None:
            return self.unit(query.vector, moment)
        if query.photo is not None:
            return self.encoder_of(moment).encode_photo(query.photo, crop=query.crop)[0]
        if query.item is None or query.crop is None:
            return None if query.item is None else vectors[query.item]
        with self.reading_item(query.item):
            return self.encoder_of(moment).encode_photo(self.item_photo(query.item), crop=query.crop)[0]

    def search_photo(
        self, source: ImageSource, *, k: int = 10, min_score: MinScore = None, where: Filter | None = None
    ) -> list[Result]:
        """The photos most like a photo; raises as search does."""
        return self.search(Query(photo=source), k=k, min_score=min_score, where=where)

    def search_item(self, item_id: int, *, k: int = 10, min_score: MinScore = None, where: Filter | None = None) -> list[Result]:
        """The photos most like one of the index, without itself; raises as search does."""
        return self.search(Query(item=item_id), k=k, min_score=min_score, where=where)

    def search_vector(
        self,
        embedding: NDArray[np.float32],
        *,
        k: int = 10,
        min_score: MinScore = None,
        where: Filter | None = None,
        moment: Generation | None = None,
    ) -> list[Result]:
        """The photos whose embeddings point most in the direction of a vector.

        Args:
            embedding: [D], of any length above 0.
            k: most results wanted; with fewer photos in the index all are given.
            min_score: least score of a result.
            where: what every result has to be; the k best of all that are so, and fewer only when there are no more.
            moment: of the index, whose encoder gave the vector, where the index may have been changed over to another model
                since; None takes the present one.

        Returns:
            Results, the highest score first, the lower id first among equal scores.

        Raises:
            HdmlError: k is below 1 or more than a GPU can give, the vector is of another length than the index's or has no
                direction, the index holds no photo, or ``min_score`` is "auto" and the index is not calibrated.
        """
        if k < 1:
            raise HdmlError(f"the number of results must be at least 1, not {k}")
        least = self.least_score(min_score)
        moment = moment or self.present()
        ids, scores = self._nearest(moment, self.unit(embedding, moment), k, where)
        known = self.catalogue.known(ids)
        return [
            Result(item_id, *known[item_id], score)
            for item_id, score in zip(ids, scores, strict=True)
            if item_id in known and (least is None or score >= least)
        ]

    def unit(self, vector: NDArray[np.floating], moment: Generation) -> NDArray[np.float32]:
        """A vector [D] made one long; raises HdmlError where it is of another length than the index's, or has no direction."""
        if len(vector) != moment.dimension:
            raise HdmlError(
                f"a vector to search the index {self.name} by must have {moment.dimension} values, as its encoder {moment.model} "
                f"gives, not {len(vector)}"
            )
        with np.errstate(over="ignore"):
            length = np.linalg.norm(vector)
        if not 0 < length < np.inf:
            raise HdmlError(
                f"a vector to search by must have a direction, so that its length is above 0 and finite, not {length}"
            )
        return np.asarray(vector / length, np.float32)

    def _nearest(
        self, moment: Generation, unit: NDArray[np.float32], k: int, where: Filter | None
    ) -> tuple[list[int], list[float]]:
        if moment.size == 0:
            raise HdmlError(f'the index {self.name} must hold photos, but it has none that can be read; run "hdml index" again')
        return moment.search(unit, k, among=None if where is None else self._some(moment, where))

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


def least_match(known: Calibration | Uncalibrated | None, name: str) -> float:
    """The least score that is a match, from what is known of an index's scores; raises HdmlError where that is too little."""
    match known:
        case Calibration(match=least):
            return least
        case Uncalibrated(reason=reason):
            raise HdmlError(f"a least score of auto needs a calibrated index, but {name} is not: {reason}; give a number")
    raise HdmlError(
        f'a least score of auto needs a calibrated index, but {name} is not yet; run "hdml index" again or give a number'
    )
