"""What a search may be asked by: a photo or a part of one, an item, a vector, and examples of what is wanted and what is not."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexing.errors import HdmlError
from indexing.preprocess import ImageSource, Window
from indexing.rocchio import DEFAULT_WEIGHTS, Weights


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
