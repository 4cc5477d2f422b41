"""Changing an index over to another encoder: its vectors grow beside those that are searched, and take their place at once.

The catalogue keeps the vectors of both. What a search goes by is one entry in it, so that the change is one transaction: a
searcher sees the vectors of the old model or those of the new one, and a kill leaves either. The old ones stay until ``hdml gc``.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from indexing.agreement import Agreement, compare_models
from indexing.catalogue import Catalogue
from indexing.encoder import ENCODER, read_metadata
from indexing.errors import HdmlError
from indexing.gallery import Failure
from indexing.index import save_cache
from indexing.indexer import Progress, adopt_encoder, embed_files, merge, open_for_indexing, update_index
from indexing.kinds import build_base
from indexing.lock import indexing_alone
from indexing.models import MODELS, Model

_AT_ONCE = 8  # photos stored in one transaction
_MOST_LOST = 0.05  # share of the photos; more of them do not break one by one, their drive or folder is not there


@dataclass(frozen=True)
class Migration:
    """What a migration did.

    Attributes:
        old, new: fingerprints of the encoders.
        embedded: number of photos that got a vector of the new one this time.
        failed: photos that it has no vector of, each with the reason; once swapped, they are found no more.
        agreement: how the two compare; None when the new one was searched by already.
        swapped: whether searches compare by the new one now.
    """

    old: str
    new: str
    embedded: int
    failed: list[Failure]
    agreement: Agreement | None
    swapped: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "old": self.old,
            "new": self.new,
            "embedded": self.embedded,
            "failed": len(self.failed),
            "agreement": self.agreement and self.agreement.to_json(),
            "swapped": self.swapped,
        }


def migrate_index(
    index_dir: Path,
    encoder_path: Path,
    *,
    swap: bool = True,
    device: str = "auto",
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Migration:
    """Embed an index's photos by another encoder, compare it with the present one, and let searches go by it.

    What is embedded is stored as it comes: after an interruption the next call goes on from there. Searches go on by the present
    encoder meanwhile. Photos that have changed since they were indexed are indexed first, by the present encoder. Going back is
    the same call with the old encoder, of which the vectors are there already.

    Args:
        index_dir: the index's folder.
        encoder_path: the new encoder; it is copied or linked into the index.
        swap: whether searches go by it at the end; if not, the vectors wait beside the others for the next call.
        device, workers: as for :func:`indexing.indexer.update_index`.
        progress: called after every few photos, in the calling thread; its counts are of this call.

    Raises:
        HdmlError: there is no index or no such encoder, another process is indexing, the disk is full, or the swap would lose
            vectors that came from a table, or more than 5 % of the photos.
    """
    metadata = read_metadata(encoder_path)
    embedded, told = 0, None
    while True:
        with indexing_alone(index_dir), open_for_indexing(index_dir) as catalogue:
            old, new = _old_and_new(catalogue, encoder_path, metadata.fingerprint, metadata.dimension)
            if new.live:
                return Migration(old.fingerprint, new.fingerprint, embedded, [], None, swapped=True)
            _refuse_tables(catalogue, new)
            some, failed = _embed_lacking(catalogue, new, device=device, workers=workers, progress=progress)
            embedded += some
            if not failed or failed == told:
                if swap:
                    _refuse_to_lose(catalogue, failed)
                agreement = compare_models(catalogue, old, new)
                done = Migration(old.fingerprint, new.fingerprint, embedded, failed, agreement, swapped=swap)
                if swap:
                    _swap(index_dir, catalogue, new, done)
                else:
                    catalogue.set_migration(done.to_json())
                return done
            gallery = catalogue.about().gallery
        told = failed
        update_index(gallery, index_dir, device=device, workers=workers)  # they may have changed or gone


def _old_and_new(catalogue: Catalogue, encoder_path: Path, fingerprint: str, dimension: int) -> tuple[Model, Model]:
    """The model that searches go by and the one to come, whose encoder is taken into the index."""
    known = {model.fingerprint: model for model in catalogue.models()}
    (old,) = (model for model in known.values() if model.live)
    if fingerprint not in known or not known[fingerprint].encoder.exists():
        place = known[fingerprint].encoder if fingerprint in known else catalogue.path.parent / MODELS / fingerprint / ENCODER
        adopt_encoder(encoder_path, place)
    return old, catalogue.add_model(fingerprint, dimension)


def _embed_lacking(
    catalogue: Catalogue,
    model: Model,
    *,
    device: str,
    workers: int | None,
    progress: Callable[[Progress], None] | None,
) -> tuple[int, list[Failure]]:
    """Embed the photos that have no vector of a model; returns how many have one now, and those that have none, by path."""
    total, _ = catalogue.count_lacking(model)
    gallery, started = catalogue.about().gallery, time.perf_counter()
    files = (gallery / path for path in catalogue.lacking(model))
    known = partial(catalogue.knows, by=model)
    done, failed = 0, list[Failure]()
    with closing(embed_files(model.encoder, files, known=known, device=device, workers=workers)) as embedded:
        while batch := list(islice(embedded, _AT_ONCE)):
            failed += catalogue.add_vectors(model, [(photo.path.relative_to(gallery).as_posix(), photo) for photo in batch])
            done += len(batch)
            if progress is not None:
                progress(Progress(done, total, len(failed), done / (time.perf_counter() - started)))
    return done - len(failed), sorted(failed, key=lambda failure: failure.path)


def _refuse_tables(catalogue: Catalogue, model: Model) -> None:
    _, tables = catalogue.count_lacking(model)
    if tables:
        raise HdmlError(
            f"every item needs a photo to be embedded by {model.fingerprint}, but {tables} of {catalogue.path.parent} came as "
            "vectors from a table; make another index of them"
        )


def _refuse_to_lose(catalogue: Catalogue, failed: list[Failure]) -> None:
    photos = catalogue.count()
    if len(failed) > _MOST_LOST * photos:
        raise HdmlError(
            f"at most {_MOST_LOST:.0%} of the photos may be lost to searches, but {len(failed)} of {photos} cannot be embedded "
            f"anew, the first {failed[0].path}: {failed[0].reason}; nothing was swapped: make them readable or leave them out "
            'with "hdml index --remove GLOB", then run this again'
        )


def _swap(index_dir: Path, catalogue: Catalogue, model: Model, done: Migration) -> None:
    """Let searches go by a model, whose base they find ready; it is of the number that the swap will have."""
    plan = catalogue.plan()
    with catalogue.vectors(model) as vectors:
        sequence, (index, manifest) = vectors.sequence, build_base(vectors, plan)
    save_cache(index, manifest, index_dir, sequence + 1, keep_lower=True)
    catalogue.swap(model, sequence=sequence, failed=done.failed, found=done.to_json())
    merge(index_dir, catalogue)  # which says anew what scores mean
