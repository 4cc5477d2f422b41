"""Duplicates among the photos of a gallery: the same bytes, the same picture written anew, mirrored, or a part of it.

Pairs are proposed by the embeddings and by hashes of what the photos look like, plain and mirrored, and confirmed on the pixels:
two photos of one thing are no duplicates. In a group every photo is a confirmed copy of the one to keep, so that no chain
of small differences joins what is not alike.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexing.copies import SIDE, close_hashes, difference, hashes, tolerance
from indexing.crops import PICTURE, PROMISING, correlate, fit
from indexing.device import available_cores
from indexing.errors import UnreadableImage
from indexing.gallery import Failure
from indexing.items import PhotoRecord
from indexing.preprocess import open_rgb

Progress = Callable[[str, int, int], None]
Pairs = NDArray[np.int64]

EXACT, WRITTEN_ANEW, MIRRORED, CROPPED, CROPPED_MIRRORED = "exact", "re-encoded", "mirrored", "cropped", "cropped and mirrored"
PROPOSED = 5  # nearest photos that are looked at for each
_WHOLE = 0.97  # share of both sides from which on a window is all of the photo
_AT_A_TIME = 1024


@dataclass(frozen=True)
class Duplicate:
    """A photo that another one makes superfluous: its position, and what kind of copy it is."""

    place: int
    kind: str


@dataclass(frozen=True)
class Group:
    """Duplicates of one photo.

    Attributes:
        keep: position of the photo to keep: no part of another of the group, then that of most pixels, of most bytes, of the
            lowest id.
        copies: the others.
    """

    keep: int
    copies: tuple[Duplicate, ...]


@dataclass(frozen=True)
class _Link:
    """That two photos are copies; ``whole`` is the one that the other is a part of, −1 when neither is."""

    kind: str
    whole: int = -1


class _Pictures:
    """Small pictures of photos: in memory [n, 16, 16, 3], and in a file of no name [n, PICTURE, PICTURE, 3]."""

    def __init__(self, large: NDArray[np.uint8], shapes: NDArray[np.float64]) -> None:
        self.large, self.shapes = large, shapes
        self.small = np.zeros((len(large), SIDE, SIDE, 3), np.uint8)

    def put(self, place: int, photo: Image.Image) -> None:
        picture = photo.resize((PICTURE, PICTURE), Image.Resampling.BILINEAR, reducing_gap=3.0)
        self.large[place] = np.asarray(picture)
        self.small[place] = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))


def find_duplicates(
    records: Sequence[PhotoRecord], gallery: Path, places: NDArray[np.int64], progress: Progress
) -> tuple[list[Group], list[Failure]]:
    """Groups of duplicates, the largest first, and the photos that are not there any more as the index knows them.

    Args:
        records: [n] what the index knows of the photos.
        places: [n, k] positions of each photo's nearest others, −1 where there are no more.
    """
    changed = _changed(records, gallery)
    same = _by_bytes(records, changed)
    firsts = list(same)
    shapes = np.array([records[first].width / records[first].height for first in firsts])
    with _stored(len(firsts)) as large:
        pictures = _Pictures(large, shapes)
        unreadable = _read(pictures, [gallery / records[first].path for first in firsts], progress)
        pairs, near = _proposed(pictures, _numbers(places, same)[firsts], unreadable)
        links = _confirmed(pictures, pairs, near, progress)
        order = _order([records[first] for first in firsts])

        def confirm(asked: Pairs) -> dict[tuple[int, int], _Link]:
            return _confirmed(pictures, asked, np.ones(len(asked), bool), lambda *_: None)

        groups = list(_groups(links, order, confirm))
    changed |= {firsts[at]: reason for at, reason in unreadable.items()}
    gone = [Failure(records[place].path, reason) for place, reason in sorted(changed.items())]
    return _with_exact(groups, firsts, same), gone


def _changed(records: Sequence[PhotoRecord], gallery: Path) -> dict[int, str]:
    """Positions of the photos whose files are not as they were indexed, with the reason."""
    changed = {}
    for place, record in enumerate(records):
        try:
            status = (gallery / record.path).stat()
        except OSError as error:
            changed[place] = f"the file cannot be read any more: {error.strerror}"
            continue
        if (status.st_size, status.st_mtime_ns) != (record.size, record.mtime_ns):
            changed[place] = "the file has changed since it was indexed"
    return changed


def _by_bytes(records: Sequence[PhotoRecord], without: Container[int]) -> dict[int, list[int]]:
    """Position of the first photo of each content → those of all that have it."""
    first: dict[bytes | int, int] = {}
    same: dict[int, list[int]] = {}
    for place, record in enumerate(records):
        if place not in without:
            same.setdefault(first.setdefault(record.hash or record.id, place), []).append(place)
    return same


def _numbers(places: NDArray[np.int64], same: dict[int, list[int]]) -> NDArray[np.int64]:
    """Positions of photos as numbers of contents, in the order of ``same``; −1 for none."""
    number = np.full(len(places) + 1, -1, np.int64)  # the last is that of −1
    for content, members in enumerate(same.values()):
        number[members] = content
    found: NDArray[np.int64] = number[places]
    return found


@contextmanager
def _stored(count: int) -> Iterator[NDArray[np.uint8]]:
    """Room for pictures in a file without a name, since those of a large gallery need not fit into memory."""
    if count == 0:
        yield np.zeros((0, PICTURE, PICTURE, 3), np.uint8)
        return
    with tempfile.TemporaryFile() as file:
        yield np.memmap(file, np.uint8, "w+", shape=(count, PICTURE, PICTURE, 3))


def _read(pictures: _Pictures, paths: Sequence[Path], progress: Progress) -> dict[int, str]:
    """Put the pictures of photo files; those that cannot be read any more, with the reason."""

    def read(place: int) -> str | None:
        try:
            pictures.put(place, open_rgb(paths[place], shorter_side=PICTURE))
        except UnreadableImage as error:
            return str(error)
        return None

    unreadable = {}
    with ThreadPoolExecutor(available_cores()) as pool:
        for place, reason in enumerate(pool.map(read, range(len(paths)))):
            if reason is not None:
                unreadable[place] = reason
            progress("Looking at the photos", place + 1, len(paths))
    return unreadable


def _proposed(pictures: _Pictures, nearest: NDArray[np.int64], without: Container[int]) -> tuple[Pairs, NDArray[np.bool_]]:
    """Pairs [n, 2] of contents that may be copies, the lower first; and which of them the embeddings propose."""
    found: dict[tuple[int, int], bool] = {}
    if len(pictures.small):
        plain = hashes(pictures.small)
        for asked in (plain, hashes(pictures.small[:, :, ::-1])):
            for place, near in enumerate(close_hashes(asked, plain)):
                found |= {(min(place, other), max(place, other)): False for other in near.tolist()}
    for place, others in enumerate(nearest):
        some = [other for other in dict.fromkeys(others.tolist()) if other >= 0 and other != place][:PROPOSED]
        found |= {(min(place, other), max(place, other)): True for other in some}
    pairs = [pair for pair in found if pair[0] != pair[1] and pair[0] not in without and pair[1] not in without]
    return np.array(pairs, np.int64).reshape(-1, 2), np.array([found[pair] for pair in pairs], bool)


def _confirmed(
    pictures: _Pictures, pairs: Pairs, for_crops: NDArray[np.bool_], progress: Progress
) -> dict[tuple[int, int], _Link]:
    """Those of the pairs that are copies, on their pixels; crops are looked for where ``for_crops`` says so."""
    links: dict[tuple[int, int], _Link] = {}
    for start in range(0, len(pairs), _AT_A_TIME):
        some = pairs[start : start + _AT_A_TIME]
        plain, mirrored = _whole_copies(pictures.small, some)
        rest = some[for_crops[start : start + _AT_A_TIME] & ~plain & ~mirrored]
        links |= {(a, b): _Link(WRITTEN_ANEW) for a, b in some[plain].tolist()}
        links |= {(a, b): _Link(MIRRORED) for a, b in some[mirrored & ~plain].tolist()}
        links |= _crops(pictures, rest)
        progress("Comparing look-alikes", min(start + _AT_A_TIME, len(pairs)), len(pairs))
    return links


def _whole_copies(small: NDArray[np.uint8], pairs: Pairs) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    first, second = small[pairs[:, 0]], small[pairs[:, 1]]
    allowed = np.minimum(tolerance(first), tolerance(second))
    return difference(first, second) <= allowed, difference(first[:, :, ::-1], second) <= allowed


def _crops(pictures: _Pictures, pairs: Pairs) -> dict[tuple[int, int], _Link]:
    links: dict[tuple[int, int], _Link] = {}
    for whole_first in (True, False):
        wholes, parts = pairs.T if whole_first else pairs.T[::-1]
        for mirrored in (False, True):
            looked_for = pictures.large[parts][:, :, ::-1] if mirrored else pictures.large[parts]
            scores, windows = correlate(pictures.large[wholes], looked_for, pictures.shapes[parts] / pictures.shapes[wholes])
            for at in np.flatnonzero(scores >= PROMISING).tolist():
                misfit, window = fit(pictures.large[wholes[at]], np.ascontiguousarray(looked_for[at]), windows[at])
                pair = (int(pairs[at, 0]), int(pairs[at, 1]))
                if misfit > 1 or pair in links:
                    continue
                if min(window.right - window.left, window.bottom - window.top) >= _WHOLE:
                    links[pair] = _Link(MIRRORED if mirrored else WRITTEN_ANEW)
                else:
                    links[pair] = _Link(CROPPED_MIRRORED if mirrored else CROPPED, int(wholes[at]))
    return links


def _order(records: Sequence[PhotoRecord]) -> list[int]:
    """Positions, that of the photo that is kept before all others first."""
    return sorted(range(len(records)), key=lambda at: (-records[at].width * records[at].height, -records[at].size, at))


def _groups(
    links: dict[tuple[int, int], _Link], order: Sequence[int], confirm: Callable[[Pairs], dict[tuple[int, int], _Link]]
) -> Iterator[Group]:
    """Groups of contents, each around one that all others are copies of: what is only linked through others is asked about."""
    rank = {place: at for at, place in enumerate(order)}
    for component in _components(links):
        left = component
        while len(left) > 1:
            parts = {place for pair in _within(left, links) for place in pair if links[pair].whole not in (-1, place)}
            keep = min(left, key=lambda place: (place in parts, rank[place]))
            asked = [_pair(keep, other) for other in sorted(left - {keep}) if _pair(keep, other) not in links]
            links |= confirm(np.array(asked, np.int64).reshape(-1, 2))
            copies = [other for other in sorted(left - {keep}, key=rank.__getitem__) if _pair(keep, other) in links]
            if copies:
                yield Group(keep, tuple(Duplicate(other, links[_pair(keep, other)].kind) for other in copies))
            left = left - {keep, *copies}


def _pair(one: int, other: int) -> tuple[int, int]:
    return min(one, other), max(one, other)


def _within(places: set[int], links: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    return [pair for pair in links if pair[0] in places and pair[1] in places]


def _components(links: Iterable[tuple[int, int]]) -> list[set[int]]:
    around = defaultdict(set)
    for one, other in links:
        around[one].add(other)
        around[other].add(one)
    components, seen = [], set[int]()
    for start in sorted(around):
        if start in seen:
            continue
        component, border = {start}, [start]
        while border:
            border = [other for place in border for other in around[place] if other not in component]
            component.update(border)
        seen |= component
        components.append(component)
    return components


def _with_exact(groups: Sequence[Group], firsts: Sequence[int], same: dict[int, list[int]]) -> list[Group]:
    """Groups of contents as groups of photos, and those of equal bytes alone; the largest first."""
    grouped: set[int] = set()
    whole = []
    for group in groups:
        keep = firsts[group.keep]
        copies = [Duplicate(place, EXACT) for place in same[keep][1:]]
        copies += [Duplicate(place, copy.kind) for copy in group.copies for place in same[firsts[copy.place]]]
        grouped |= {keep, *(firsts[copy.place] for copy in group.copies)}
        whole.append(Group(keep, tuple(copies)))
    for first, members in same.items():
        if first not in grouped and len(members) > 1:
            whole.append(Group(first, tuple(Duplicate(place, EXACT) for place in members[1:])))
    return sorted(whole, key=lambda group: (-len(group.copies), group.keep))
