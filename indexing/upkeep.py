"""Keeping an index sound: looking for faults and mending what can be mended, and clearing away what is not needed any more."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from indexing.catalogue import CATALOGUE, Catalogue
from indexing.encoder import ENCODER, is_imported, read_metadata
from indexing.errors import HdmlError
from indexing.generation import open_generation
from indexing.index import cached_sequences, load_cache, remove_caches, sequences_of
from indexing.indexer import COMPANIONS, compare_gallery, merge
from indexing.lock import indexing_alone
from indexing.models import MODELS, Model

_EIGHT_BITS = 0.02  # that a value may be off where a base keeps eight bits of it


@dataclass(frozen=True)
class Verification:
    """What was found, a sentence each.

    Attributes:
        items: searchable ones.
        faults: that no command can mend; they say what to do.
        mended: faults of what is only a cache.
        behind: how the photos differ from what the index knows of them; indexing again takes that in.
    """

    items: int
    faults: list[str]
    mended: list[str]
    behind: list[str]


def verify_index(index_dir: Path) -> Verification:
    """Hold an index's catalogue, bases, encoder and photos against one another, and build bases anew that are damaged.

    Raises:
        HdmlError: there is no index, another process is indexing, or the catalogue cannot be read at all.
    """
    with indexing_alone(index_dir), Catalogue(index_dir) as catalogue:
        faults = [f"{catalogue.path}: {fault}; remove the index and build it anew" for fault in catalogue.find_faults()]
        imported = is_imported(catalogue.about().fingerprint)  # without encoder, and perhaps without photos
        models = [model for model in catalogue.models() if not is_imported(model.fingerprint)]
        faults += [fault for model in models if (fault := _fault_of_encoder(model)) is not None]
        mended = []
        if not faults:
            others = [model.fingerprint for model in catalogue.models() if not model.live]
            spared = {number for other in others for number in sequences_of(index_dir, other) if number <= catalogue.sequence()}
            for sequence in sorted(set(cached_sequences(index_dir)) - spared):
                if (fault := _fault_of_base(index_dir, sequence, catalogue)) is not None:
                    remove_caches(index_dir, [sequence])
                    mended.append(f"the base {sequence} {fault}; another was built from the catalogue")
            merge(index_dir, catalogue)
        return Verification(catalogue.count(), faults, mended, [] if imported else _behind(catalogue))


@dataclass(frozen=True)
class Forgotten:
    """What an index no longer keeps: the number of photos that were gone, and the fingerprints of models not searched by."""

    photos: int
    models: list[str]


def collect_garbage(index_dir: Path) -> Forgotten:
    """Forget what searches do not need, and give the room back.

    These are the items whose photos are gone, with their ids and vectors, and the models that searches do not compare by, with
    their vectors, encoders and bases.

    Raises:
        HdmlError: there is no index, or another process is indexing.
    """
    with indexing_alone(index_dir), Catalogue(index_dir) as catalogue:
        merge(index_dir, catalogue, share=0.0)  # a base that holds them would no longer be told that they are gone
        models = catalogue.forget_models()
        kept = catalogue.about()
        remove_caches(index_dir, set(cached_sequences(index_dir)) - set(sequences_of(index_dir, kept.fingerprint)))
        if kept.encoder.parent != index_dir:
            for name in (ENCODER, *COMPANIONS):
                (index_dir / name).unlink(missing_ok=True)
        for folder in (index_dir / MODELS).glob("*"):  # those of migrations that a kill ended at their very beginning too
            if folder != kept.encoder.parent:
                shutil.rmtree(folder)
        return Forgotten(catalogue.forget_gone(), [model.fingerprint for model in models])


def describe_index(index_dir: Path) -> dict[str, Any]:
    """What an index is, its present base, built if there is none, what was measured of it and what scores mean, as JSON.

    Raises:
        HdmlError: there is no index.
    """
    with Catalogue(index_dir) as catalogue:
        about, base = catalogue.about(), open_generation(index_dir, catalogue, "cpu").base
        return {
            **base.manifest.to_json(),
            "index": index_dir.resolve().name,
            "items": catalogue.count(),
            "gallery": str(about.gallery),
            "model": about.fingerprint,
            "models": [{**asdict(model), "encoder": str(model.encoder)} for model in catalogue.models()],
            "migration": catalogue.migration(),
            "generation": base.sequence,
            "changed_since": catalogue.count_changes(base.sequence),
            "calibration": catalogue.calibration(),
        }


def remove_index(index_dir: Path) -> None:
    """Remove an index's folder; raises HdmlError while another process is indexing, or when it cannot be removed."""
    try:
        with indexing_alone(index_dir):
            (index_dir / CATALOGUE).unlink(missing_ok=True)  # first, so that what a kill leaves is no index
        shutil.rmtree(index_dir)
    except OSError as error:
        raise HdmlError(f"{index_dir} cannot be removed: {error.strerror}; change its permissions") from error


def _fault_of_encoder(model: Model) -> str | None:
    try:
        found = read_metadata(model.encoder, check_all=True).fingerprint
    except HdmlError as error:
        return str(error)
    if found == model.fingerprint:
        return None
    return (
        f"{model.encoder} must be the encoder {model.fingerprint} that embedded the photos, but is {found}; put the old file back"
    )


def _fault_of_base(index_dir: Path, sequence: int, catalogue: Catalogue) -> str | None:
    """Why a base is not what the catalogue had at its number, as far as that can still be told; None when it is."""
    import faiss

    if sequence > catalogue.sequence():
        return "is of a later moment than the catalogue"
    cached = load_cache(index_dir, sequence, check_all=True)
    if cached is None:
        return "is damaged"
    index, manifest = cached
    if manifest.model != catalogue.about().fingerprint:
        return "is not of the encoder that searches compare by"
    rounding = 0.0 if manifest.kind == "exact" else _EIGHT_BITS
    ids = faiss.vector_to_array(index.id_map)
    changed = catalogue.changes(sequence).ids
    unchanged = ids[~np.isin(ids, changed)]
    seen = 0
    with catalogue.vectors() as vectors:
        for page_ids, page in vectors.pages():
            same = ~np.isin(page_ids, changed)
            places = np.searchsorted(ids, page_ids[same])
            seen += len(places)
            if not np.array_equal(ids[np.minimum(places, len(ids) - 1)] if len(ids) else ids, page_ids[same]):
                return "lacks items"
            if len(places) and not np.abs(index.index.reconstruct_batch(places) - page[same]).max() <= rounding:
                return "has other vectors than the catalogue"
    return None if seen == len(unchanged) else "holds items that are not there"


def _behind(catalogue: Catalogue) -> list[str]:
    try:
        comparison = compare_gallery(catalogue)
    except HdmlError as error:
        return [str(error)]
    counted = {
        "new, changed or unreadable before": comparison.pending,
        "gone": comparison.gone,
        "under another label or with other attributes": comparison.relabelled,
    }
    return [f"{count} photos are {what}" for what, count in counted.items() if count]
