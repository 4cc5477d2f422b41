"""Bring an index up to date with its gallery: embed what is new or changed, drop what is gone."""

import hashlib
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexing.calibration import FALSE_MATCHES, calibrate, check_false_matches, read_calibration
from indexing.catalogue import Catalogue, has_catalogue, unfinished_catalogue
from indexing.descriptions import Descriptions, name_by_folders, read_descriptions
from indexing.device import available_cores
from indexing.encoder import ENCODER, IMPORTED, Encoder, is_imported, read_metadata
from indexing.errors import HdmlError, UnreadableImage
from indexing.foreign import AnyEncoder, open_encoder
from indexing.gallery import Failure, PhotoFile, any_glob, check_gallery, walk_gallery
from indexing.index import cached_sequences, remove_caches, save_cache, sequences_of
from indexing.kinds import Plan, build_base, check_plan
from indexing.lock import indexing_alone
from indexing.preprocess import Box, Preprocessing, decode_photo, reason_of, to_array
from indexing.recording import EmbeddedPhoto, Recorded
from indexing.walk import Comparison

# What lies beside an encoder and belongs to it: pages show the lens and regions from these, and say why where one is missing.
COMPANIONS = ("synthesizer.onnx", "regions.onnx", "run.json")
_BATCH = 8  # photos that a worker embeds at once, and photos per transaction
_BATCH_ON_GPU = 32
_BATCHES_IN_FLIGHT_PER_WORKER = 3
_CHANGED_SHARE = 0.05  # that searches read from the catalogue; beyond it a new base is built
_MERGED_AFTER = 10_000  # photos, so that searches need not compare with all that a long first run has stored


@dataclass(frozen=True)
class Progress:
    """How far an update is: photos embedded or found unreadable, of how many, the unreadable ones, and the speed so far."""

    done: int
    total: int
    failed: int
    images_per_second: float


@dataclass(frozen=True)
class IndexReport:
    """What an update did.

    Attributes:
        index: the index's folder.
        added, updated, moved, removed, unchanged: numbers of photos; a moved one has another path, and the id that it had.
        relabelled: number of photos with another label or other attributes than before.
        absent: number of photos that the manifest tells of, and that are not there.
        failed: every file of the gallery that could not be read, with its reason.
        items: photos that can be searched now; may be 0 when all failed.
        images_per_second: of the embedding; 0 when there was none.
    """

    index: Path
    added: int
    updated: int
    moved: int
    removed: int
    unchanged: int
    relabelled: int
    absent: int
    failed: list[Failure]
    items: int
    images_per_second: float


def update_index(
    gallery: Path,
    index_dir: Path,
    encoder_path: Path | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    remove: Sequence[str] = (),
    restore: Sequence[str] = (),
    descriptions: Descriptions | None = None,
    plan: Plan | None = None,
    false_matches: float | None = None,
    retry_failed: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> IndexReport:
    """Make the index of a gallery, or bring it up to date.

    A file that cannot be read is listed in the report and stops nothing, even when it is every file. Photos that cannot be
    looked at, because a folder cannot be listed, are listed too and keep what the index knows of them. What is embedded is
    stored as it comes: after an interruption the next run goes on from there. With nothing to embed no encoder is loaded.

    Args:
        gallery: any folder of photos, nested or flat.
        index_dir: the index's folder; made when missing.
        encoder_path: of a new index; for an existing one None, its own ``encoder.onnx`` or another of the same fingerprint.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        workers: threads that decode and embed; None for one per core.
        remove: globs of paths, relative to the gallery, to leave out from now on though their files are there; ``*`` matches
            slashes too.
        restore: globs that were given as ``remove`` before, to take back.
        descriptions: where labels and attributes come from, from now on; None leaves it as it is.
        plan: what is asked of the bases from now on; None leaves it as it is. A base that was built to another is built anew.
        false_matches: share of the photos of absent things that may be called a match, from now on; None leaves it as it is.
        retry_failed: whether files that could not be read are tried again though they look as they did then.
        progress: called after every batch, in the calling thread.

    Raises:
        HdmlError: no such folder, one that cannot be listed, no photo in it, an index of another encoder or gallery or one that
            another process is indexing, a manifest that cannot be read, a share of false matches that is none, a full disk.
    """
    if false_matches is not None:
        check_false_matches(false_matches)
    gallery = check_gallery(gallery)
    opened = None
    if not has_catalogue(index_dir):  # what is wrong with these is told before an index without photos is made
        _at_least_one(walk_gallery(gallery), gallery)
        opened = Encoder(_needed(encoder_path, index_dir), device=device, threads=1)
    with indexing_alone(index_dir), _open_or_create(index_dir, gallery, encoder_path, opened) as catalogue:
        catalogue.include(restore)
        removed = catalogue.exclude(remove)
        comparison = compare_gallery(catalogue, descriptions, retry_failed=retry_failed)
        if descriptions is not None:
            catalogue.set_descriptions(descriptions)
        catalogue.settle()
        total, started = Recorded(), time.perf_counter()
        # Photos whose known twin changed before they were stored are left for the second time, when none counts as known.
        for known in (catalogue.knows, _none_is_known):
            files = (gallery / path for path in catalogue.pending())
            encoder = opened or catalogue.about().encoder
            with closing(embed_files(encoder, files, known=known, device=device, workers=workers)) as embedded:
                while batch := list(islice(embedded, _BATCH)):
                    total += catalogue.record([(photo.path.relative_to(gallery).as_posix(), photo) for photo in batch])
                    speed = total.photos / (time.perf_counter() - started)
                    if total.photos // _MERGED_AFTER > (total.photos - len(batch)) // _MERGED_AFTER:
                        merge(index_dir, catalogue)
                    if progress is not None:
                        progress(Progress(total.photos, comparison.pending, total.failed, speed))
        ask(index_dir, catalogue, plan)
        if false_matches is not None:
            catalogue.set_false_matches(false_matches)
        merge(index_dir, catalogue)
        catalogue.mark_updated()
        return IndexReport(
            index=index_dir,
            added=total.added,
            updated=total.updated,
            moved=total.moved,
            removed=removed + comparison.gone - total.moved,
            unchanged=comparison.unchanged + total.touched,
            relabelled=comparison.relabelled,
            absent=comparison.absent,
            failed=sorted([*catalogue.failures(), *comparison.unseen], key=lambda failure: failure.path),
            items=catalogue.count(),
            images_per_second=speed if total.photos else 0.0,
        )


def _at_least_one(photos: Iterator[PhotoFile], gallery: Path) -> Iterator[PhotoFile]:
    """The same photos; raises HdmlError when there are none, so that a drive that is not mounted never empties an index."""
    first = next(photos, None)
    if first is None:
        raise HdmlError(f"{gallery} must hold photos, in itself or in its folders, but none was found")
    return chain([first], photos)


def compare_gallery(catalogue: Catalogue, descriptions: Descriptions | None = None, *, retry_failed: bool = True) -> Comparison:
    """Walk the gallery of an index and say what it means for the items; none is changed yet.

    Args:
        descriptions: where labels and attributes come from; None for where they came from the last time.
        retry_failed: as for :meth:`Catalogue.compare`.

    Raises:
        HdmlError: the gallery cannot be listed or holds no photo, or its manifest cannot be read.
    """
    gallery, descriptions = catalogue.about().gallery, descriptions or catalogue.descriptions()
    photos = _without_excluded(_at_least_one(walk_gallery(gallery), gallery), catalogue.excluded())
    named = name_by_folders(photos, descriptions.folder_names)
    described = () if descriptions.manifest is None else read_descriptions(descriptions.manifest, gallery)
    return catalogue.compare(named, described=described, retry_failed=retry_failed)


def _without_excluded(photos: Iterator[PhotoFile], globs: list[str]) -> Iterator[PhotoFile]:
    """The photos whose path, relative to the gallery, matches none of the globs."""
    if not globs:
        return photos
    excluded = any_glob(globs)
    return (photo for photo in photos if not excluded(photo.path))


def _needed(encoder_path: Path | None, index_dir: Path) -> Path:
    if encoder_path is None:
        raise HdmlError(f"an encoder is needed to make the index {index_dir}, but none was given; name one with --encoder")
    return encoder_path


def _open_or_create(index_dir: Path, gallery: Path, encoder_path: Path | None, opened: Encoder | None) -> Catalogue:
    """The index's catalogue, made if need be; ``opened`` is the encoder, if it has been."""
    if has_catalogue(index_dir):
        catalogue = open_for_indexing(index_dir)
        try:
            _check_bound(catalogue, gallery, encoder_path)
        except BaseException:
            catalogue.close()
            raise
        return catalogue
    encoder_path = _needed(encoder_path, index_dir)
    metadata = opened.metadata if opened else read_metadata(encoder_path)
    create_index(index_dir, gallery, encoder_path, fingerprint=metadata.fingerprint, dimension=metadata.dimension)
    return Catalogue(index_dir)


def open_for_indexing(index_dir: Path) -> Catalogue:
    """An index's catalogue, for whoever is indexing alone; raises HdmlError as Catalogue does."""
    catalogue = Catalogue(index_dir)
    unfinished_catalogue(index_dir).unlink(missing_ok=True)  # of a process that was killed when that had got its name
    # One that lost its latest changes, as in a power failure, will give their numbers to other vectors.
    remove_caches(index_dir, [number for number in cached_sequences(index_dir) if number > catalogue.sequence()])
    return catalogue


def create_index(index_dir: Path, gallery: Path, encoder_path: Path | None, *, fingerprint: str, dimension: int) -> None:
    """Make an empty index, with its encoder if it has one, for whoever is indexing alone; raises HdmlError when it cannot."""
    remove_caches(index_dir, cached_sequences(index_dir))
    if encoder_path is not None:
        adopt_encoder(encoder_path, index_dir / ENCODER)
    Catalogue.create(index_dir, gallery=gallery, fingerprint=fingerprint, dimension=dimension).close()


def _check_bound(catalogue: Catalogue, gallery: Path, encoder_path: Path | None) -> None:
    """Raise HdmlError unless the index is of this gallery and of this encoder; its own encoder is known without opening it."""
    about, index_dir = catalogue.about(), catalogue.path.parent
    if about.gallery != gallery:
        raise HdmlError(f"the index {index_dir} is of {about.gallery}, not of {gallery}; choose another name for the new one")
    if is_imported(about.fingerprint):
        raise HdmlError(
            f"the index {index_dir} has vectors of the model {about.fingerprint.removeprefix(IMPORTED)} and no encoder, so that "
            "photos cannot be embedded into it; import their vectors too, as --remove and --restore need as well, or index the "
            "folder into another --workspace"
        )
    own = about.encoder
    if encoder_path is None or (own.exists() and encoder_path.exists() and own.samefile(encoder_path)):
        return
    given = read_metadata(encoder_path)
    if given.fingerprint != about.fingerprint:
        raise HdmlError(
            f"the index {index_dir} was built with encoder {about.fingerprint} ({about.dimension}-d), but the given "
            f"{encoder_path} is {given.fingerprint} ({given.dimension}-d); go on with {own}, or change over to the other with "
            f'"hdml index {gallery} --migrate --encoder {encoder_path}"'
        )


def adopt_encoder(source: Path, target: Path) -> None:
    """Take an encoder into an index, with what lies beside it and belongs to it; raises HdmlError when that cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for name in COMPANIONS:
            if source.with_name(name).exists():
                _adopt(source.with_name(name), target.with_name(name))
        _adopt(source, target)
    except OSError as error:
        raise HdmlError(
            f"{source} cannot be taken into the index at {target.parent}: {error.strerror}; free some space or choose another "
            "place"
        ) from error


def _adopt(source: Path, target: Path) -> None:
    """Hard-link a file into the index, or copy it where links are not possible."""
    unfinished = target.with_name(f"{target.name}.part")
    unfinished.unlink(missing_ok=True)
    try:
        unfinished.hardlink_to(source)
    except OSError:
        shutil.copy2(source, unfinished)
    target.unlink(missing_ok=True)  # renaming one link of a file onto another would do nothing
    unfinished.replace(target)


def ask(index_dir: Path, catalogue: Catalogue, plan: Plan | None) -> None:
    """Ask something else of the bases to come, if anything, and remove those that were built to another plan.

    Raises:
        HdmlError: the plan's memory is too small for any kind.
    """
    if plan is not None and plan != catalogue.plan():
        check_plan(plan, catalogue.count(), catalogue.about().dimension)
        catalogue.set_plan(plan)
        remove_caches(index_dir, cached_sequences(index_dir))


def merge(index_dir: Path, catalogue: Catalogue, *, share: float = _CHANGED_SHARE) -> None:
    """Build a new base, and calibrate the scores anew, where more than a small share has changed since the last time.

    For whoever is indexing alone.
    """
    few = share * catalogue.count()
    bases = sequences_of(index_dir, catalogue.about().fingerprint)
    if not bases or catalogue.count_changes(bases[-1]) > few:
        plan = catalogue.plan()
        with catalogue.vectors() as vectors:
            sequence, (index, manifest) = vectors.sequence, build_base(vectors, plan)
        save_cache(index, manifest, index_dir, sequence)
    else:  # a process may have been killed when it had saved the last one, and had removed a part of those before
        remove_caches(index_dir, [number for number in [*bases, *sequences_of(index_dir, None)] if number < bases[-1]])
    known, asked = read_calibration(catalogue), catalogue.false_matches() or FALSE_MATCHES
    if known is None or known.asked != asked or catalogue.count_changes(known.sequence) > few:
        catalogue.set_calibration(calibrate(catalogue, asked=asked).to_json())


def embed_files(
    encoder: Path | AnyEncoder,
    files: Iterable[Path],
    *,
    boxes: Iterable[Box | None] | None = None,
    known: Callable[[bytes], bool] | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Generator[EmbeddedPhoto, None, None]:
    """Embed photo files, in their order; memory stays bounded however many there are, and no file is no work.

    Each worker thread decodes a batch and runs it, itself, through one onnxruntime session that all share and that has no
    threads of its own: faster than decoders that feed one encoder, and than a session that uses every core.

    Args:
        encoder: an ONNX file, an encoder's or any image network's, or one that is open with one thread, on whichever device.
        files: paths; they are asked for as the work goes on.
        boxes: the part of each photo to embed; None embeds them whole.
        known: whether a file of these bytes, by their hash, need not be embedded; asked in the workers' threads. None hashes
            none.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        workers: number of threads; None for one per core.

    Raises:
        HdmlError: the encoder cannot be opened, or ``device`` is "cuda" and there is none.
    """
    photos = zip(files, boxes, strict=True) if boxes is not None else zip(files, repeat(None), strict=False)
    batch = list(islice(photos, 1))
    if not batch:
        return
    threads = workers or available_cores()
    if isinstance(encoder, Path):
        encoder = open_encoder(encoder, device=device, threads=1)
    size = _BATCH_ON_GPU if encoder.device == "cuda" else _BATCH
    in_flight: deque[Future[list[EmbeddedPhoto]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="embed")
    try:
        while batch:
            in_flight.append(pool.submit(_embed_batch, encoder, batch, known))
            if len(in_flight) > threads * _BATCHES_IN_FLIGHT_PER_WORKER:
                yield from in_flight.popleft().result()
            batch = list(islice(photos, size))
        while in_flight:
            yield from in_flight.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _embed_batch(
    encoder: AnyEncoder, photos: list[tuple[Path, Box | None]], known: Callable[[bytes], bool] | None
) -> list[EmbeddedPhoto]:
    decoded = [_decode(file, box, encoder.preprocessing, known) for file, box in photos]
    arrays = [array for _, array in decoded if array is not None]
    if not arrays:
        return [photo for photo, _ in decoded]
    embedded = zip(*encoder.encode(np.stack(arrays)), strict=True)
    return [photo if array is None else _with_vector(photo, *next(embedded)) for photo, array in decoded]


def _decode(
    file: Path, box: Box | None, preprocessing: Preprocessing, known: Callable[[bytes], bool] | None
) -> tuple[EmbeddedPhoto, NDArray[np.float32] | None]:
    digest = None
    try:
        with file.open("rb") as source:
            if known is not None:
                digest = hashlib.file_digest(source, _hash).digest()
                if known(digest):
                    return EmbeddedPhoto(file, digest), None
                source.seek(0)
            photo = decode_photo(source, shorter_side=preprocessing.resize, box=box)
    except OSError as error:
        return EmbeddedPhoto(file, digest, reason=reason_of(error)), None
    except UnreadableImage as error:
        return EmbeddedPhoto(file, digest, reason=str(error)), None
    return EmbeddedPhoto(file, digest, width=photo.width, height=photo.height), to_array(photo.image, preprocessing)


def _hash() -> "hashlib.blake2b":
    """Long enough that no two photos share one by chance, or on purpose."""
    return hashlib.blake2b(digest_size=20)


def _none_is_known(_: bytes) -> bool:
    return False


def _with_vector(photo: EmbeddedPhoto, vector: NDArray[np.float32], norm: np.float32) -> EmbeddedPhoto:
    if not np.isfinite(vector).all():
        return replace(photo, reason="the encoder gives no finite embedding of it")
    return replace(photo, vector=vector, norm=float(norm))
