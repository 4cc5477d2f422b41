"""Which regions of two photos matter for their match: what each place of the feature map embeds to, beside the other photo."""

import json
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from indexing.encoder import Encoder, hdml_metadata, open_session
from indexing.errors import HdmlError
from indexing.preprocess import ImageSource, Preprocessing, Window, decode_photo, to_array
from indexing.queries import Query
from indexing.search import OpenIndex

REGIONS = "regions.onnx"  # its name in a run's and in an index's folder, beside the encoder that it belongs to


class NoRegions(HdmlError):
    """This encoder cannot tell regions apart; the message says why and what to do."""


@dataclass(frozen=True)
class Regions:
    """Regions of a photo, in how far they are like another photo.

    Attributes:
        similarities: [h, w], −1 to 1, from left to right and from the top down.
        area: the part of the photo that the encoder saw, which they divide evenly.
    """

    similarities: NDArray[np.float32]
    area: Window


@dataclass(frozen=True)
class Why:
    """Why a query and an item match.

    Attributes:
        score: cosine similarity of their embeddings.
        query: None of a query without a photo.
    """

    score: float
    query: Regions | None
    item: Regions


def explain(opened: OpenIndex, query: Query, item_id: int) -> Why:
    """The regions of a query's photo and of an item's that matter for their match.

    Raises:
        UnknownItem: an item is not there.
        NoRegions: the index's encoder does not average over the places of its feature map, or came without its regions.
        UnreadableImage: the query's photo cannot be read.
        HdmlError: as OpenIndex.search, or the item's photo cannot be read.
    """
    query.check()
    moment, (other, *_) = opened.present_items([item_id, *query.items])
    encoder = opened.encoder_of(moment)
    look = partial(_look, encoder, RegionHead(encoder))
    asked = None
    if query.photo is not None:
        asked = look(query.photo, query.crop)
    elif query.item is not None:
        with opened.reading_item(query.item):
            asked = look(opened.item_photo(query.item), query.crop)
    if query.decodes and asked is not None:  # it has been embedded by the look at it
        query = replace(query, photo=None, item=None, crop=None, vector=asked.embedding)
    vector, searched = opened.embed(query)
    if searched.model != moment.model:
        raise NoRegions(f"the index {opened.name} has just been changed over to another model; look again.")
    with opened.reading_item(item_id):
        seen = look(opened.item_photo(item_id), None)
    return Why(
        score=float(vector @ other.vector),
        query=None if asked is None else asked.compared_with(other.vector),
        item=seen.compared_with(vector),
    )


@dataclass(frozen=True)
class _Seen:
    """A photo as an encoder saw it: its unit embedding [D], what each place embeds to [D, h, w], and which part it was."""

    embedding: NDArray[np.float32]
    local: NDArray[np.float32]
    area: Window

    def compared_with(self, other: NDArray[np.float32]) -> Regions:
        return Regions(similarities(self.local, other), self.area)


class RegionHead:
    """What an encoder's head makes of every place of its feature map."""

    def __init__(self, encoder: Encoder) -> None:
        """Raises NoRegions when the encoder came without, or with another one's, and HdmlError when the file is damaged."""
        path = encoder.path.with_name(REGIONS)
        if not path.is_file():
            raise NoRegions(
                f"regions need an encoder that averages over the places of its feature map, as ResNets do, but "
                f"{encoder.metadata.backbone} ({encoder.metadata.fingerprint}) came without {REGIONS}; export such a run again "
                'with "hdml export" and index the photos anew'
            )
        self._session = open_session(path, device="cpu")
        fingerprint = json.loads(hdml_metadata(self._session, path)).get("fingerprint")
        if fingerprint not in (encoder.metadata.fingerprint, (encoder.metadata.quantization or {}).get("of")):
            raise NoRegions(
                f"{path} must belong to the encoder {encoder.metadata.fingerprint} beside it, but belongs to {fingerprint}; "
                "remove the index and build it anew"
            )

    def local_embeddings(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Feature maps [B, F, h, w] → what each place would embed to [B, D, h, w], whose mean is the embedding, unnormalised."""
        (found,) = self._session.run(["local_embeddings"], {"feature_map": maps})
        return np.asarray(found)


def similarities(local: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """How like another photo each place is: the cosine of its local embedding with that photo's embedding.

    An average over places commutes with an affine head, so that the dot product of two embeddings is the mean over places of
    those of the local embeddings (Zhu, Yang and Chen, "Visual Explanation for Deep Metric Learning", arXiv:1909.12977). Here
    each is divided by its length, so that −1 to 1 means at a place what it means of two photos.

    Args:
        local: [D, h, w].
        other: [D], of unit length.

    Returns:
        [h, w]; 0 where a local embedding is 0.
    """
    lengths = np.maximum(np.linalg.norm(local, axis=0), np.finfo(np.float32).tiny)
    return np.asarray(np.clip(np.tensordot(other, local, axes=1) / lengths, -1, 1), np.float32)


def _look(encoder: Encoder, head: RegionHead, source: ImageSource, crop: Window | None) -> _Seen:
    photo = decode_photo(source, shorter_side=encoder.preprocessing.resize, box=crop)
    embeddings, maps = encoder.look(to_array(photo.image, encoder.preprocessing)[None])
    return _Seen(embeddings[0], head.local_embeddings(maps)[0], seen_area(photo.image.size, encoder.preprocessing, crop))


def seen_area(size: tuple[int, int], preprocessing: Preprocessing, crop: Window | None = None) -> Window:
    """What an encoder saw of a photo, its centre, as a part of the whole photo.

    Args:
        size: width and height of the photo, or of what a crop leaves of it.
        crop: the part of the photo that is left.
    """
    whole = Window(0, 0, 1, 1) if crop is None else crop
    width, height = whole.right - whole.left, whole.bottom - whole.top
    side = min(size) * preprocessing.crop / preprocessing.resize
    across, down = width * (1 - side / size[0]) / 2, height * (1 - side / size[1]) / 2  # cut off on either side
    return Window(whole.left + across, whole.top + down, whole.right - across, whole.bottom - down)
