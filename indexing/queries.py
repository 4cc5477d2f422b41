"""What a search may be asked by: a photo or a part of one, an item, a vector, and examples of what is wanted and what is not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexing.errors import HdmlError, UnreadableImage
from indexing.filters import Filter
from indexing.generation import Generation
from indexing.pictures import has_pictures, kept_picture
from indexing.preprocess import ImageSource, Window
from indexing.rocchio import DEFAULT_WEIGHTS, Weights, rocchio

if TYPE_CHECKING:
    from indexing.search import MinScore, OpenIndex, Result


@dataclass(frozen=True, eq=False)
class Query:
    """At most one of a photo, an item and a vector; examples may move it, or stand alone.

    Attributes:
        photo: as open_rgb takes it.
        item: id of one of the index.
        vector: [D], of any length above 0.
        crop: the part of the photo, or of the item's photo, to search by.
        more, less: ids of items that results should be like and should not be like.
        weights: of the query and of its examples.
    """

    photo: ImageSource | None = None
    item: int | None = None
    vector: NDArray[np.float32] | None = None
    crop: Window | None = None
    more: tuple[int, ...] = ()
    less: tuple[int, ...] = ()
    weights: Weights = DEFAULT_WEIGHTS

    @property
    def has_examples(self) -> bool:
        return bool(self.more or self.less)

    @property
    def decodes(self) -> bool:
        """Whether a photo has to be read and embedded."""
        return self.photo is not None or (self.item is not None and self.crop is not None)

    @property
    def items(self) -> list[int]:
        """Ids of all items that it speaks of, each once."""
        own = () if self.item is None else (self.item,)
        return list(dict.fromkeys((*own, *self.more, *self.less)))

    def check(self) -> None:
        """Raise HdmlError for none or several of a photo, an item and a vector, or a crop of what is no photo."""
        given = sum(each is not None for each in (self.photo, self.item, self.vector))
        if given > 1 or (given == 0 and not self.has_examples):
            raise HdmlError(
                "a search takes one query: a photo, the id of an item, or a vector; or examples of more or less alone"
            )
        if self.crop is not None and not self.decodes:
            raise HdmlError("a crop is a part of a photo: send one, or give the id of an item")


def find(
    opened: "OpenIndex", query: Query, *, k: int = 10, min_score: "MinScore" = None, where: Filter | None = None
) -> "list[Result]":
    """The photos most like a query, best first, without the items that it speaks of.

    Args:
        k: most results wanted.
        min_score: least score of a result.
        where: what every result has to be.

    Raises:
        UnreadableImage: the photo cannot be read.
        UnknownItem: an item is not there.
        HdmlError: the query is none, or as OpenIndex.search_vector.
    """
    vector, moment = embed(opened, query)
    named = query.items
    results = opened.search_vector(vector, k=k + len(named), min_score=min_score, where=where, moment=moment)
    return [result for result in results if result.id not in named][:k]


def embed(opened: "OpenIndex", query: Query) -> tuple[NDArray[np.float32], Generation]:
    """The direction that a query searches in [D], and the moment of the index whose encoder gave it; raises as find does."""
    query.check()
    moment, items = opened.present_items(query.items)
    vectors = {item.id: item.vector for item in items}
    begun = _begin(opened, query, moment, vectors)
    if begun is not None and not query.has_examples:
        return begun, moment
    more, less = ([vectors[item] for item in ids] for ids in (query.more, query.less))
    return rocchio(begun, more, less, query.weights), moment


def _begin(
    opened: "OpenIndex", query: Query, moment: Generation, vectors: dict[int, NDArray[np.float32]]
) -> NDArray[np.float32] | None:
    """What a query is before its examples move it, of unit length."""
    if query.vector is not None:
        return opened.unit(query.vector, moment)
    if query.photo is not None:
        return opened.encoder_of(moment).encode_photo(query.photo, crop=query.crop)[0]
    if query.item is None or query.crop is None:
        return None if query.item is None else vectors[query.item]
    with item_read(opened, query.item):
        return opened.encoder_of(moment).encode_photo(item_photo(opened, query.item), crop=query.crop)[0]


@contextmanager
def item_read(opened: "OpenIndex", item_id: int) -> Iterator[None]:
    """Reading an item's photo: what cannot be read any more is said of the index, not of a query."""
    try:
        yield
    except UnreadableImage as error:
        raise HdmlError(
            f'the photo of item {item_id} cannot be read any more: {error}; bring {opened.name} up to date with "hdml index"'
        ) from error


def item_photo(opened: "OpenIndex", item_id: int) -> ImageSource:
    """An item's photo, or its small picture where the index has come without photos; raises HdmlError when there is none."""
    if not has_pictures(opened.path):
        return opened.photo_path(item_id)
    kept = kept_picture(opened.path, item_id)
    if kept is None:
        raise HdmlError(f"the index {opened.name} has come without photos, and without a picture of item {item_id}")
    return kept[0]
