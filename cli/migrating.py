"""``hdml index --migrate``: an index changed over to another encoder, and what that means told before and after."""

from pathlib import Path
from typing import TYPE_CHECKING

from indexing.errors import HdmlError

if TYPE_CHECKING:
    from cli.display import Display
    from indexing.agreement import Agreement, Measure
    from indexing.migration import Migration

_LISTED_FAILURES = 20


def check_can_migrate(folder: Path, workspace: Path, encoder: str | None) -> None:
    """Raise HdmlError when the folder has no index to change over, or there is no such encoder, before anything is embedded."""
    from indexing.catalogue import has_catalogue
    from indexing.workspace import Workspace

    index_dir = Workspace(workspace).index_for_gallery(folder)
    if not has_catalogue(index_dir):
        raise HdmlError(f"--migrate needs an index to change over, but {folder} has none; make one with hdml index {folder}")
    _find_encoder(index_dir, workspace, encoder)


def migrate_gallery(
    folder: Path,
    index_dir: Path,
    workspace: Path,
    display: "Display",
    *,
    encoder: str | None,
    swap: bool,
    device: str,
    workers: int | None,
) -> "Migration":
    """Change an index over to another encoder and tell how the two compare."""
    from indexing.indexer import Progress
    from indexing.migration import migrate_index

    file = _find_encoder(index_dir, workspace, encoder)
    display.say(f"Embedding {folder} with {file} beside what is searched")

    def on_progress(progress: Progress) -> None:
        figures = f"{progress.images_per_second:.0f} images/s" + (f", {progress.failed} failed" if progress.failed else "")
        display.advance("Embedding anew", progress.done, progress.total, figures)

    try:
        with display.bars():
            done = migrate_index(index_dir, file, swap=swap, device=device, workers=workers, progress=on_progress)
    except KeyboardInterrupt:
        display.say("Stopped; searches go on as before, and the same command goes on from here.")
        raise
    for failure in done.failed[:_LISTED_FAILURES]:
        display.say(f"Not embedded by it: {failure.path}: {failure.reason}")
    if len(done.failed) > _LISTED_FAILURES:
        display.say(f"… and {len(done.failed) - _LISTED_FAILURES} more; --json lists them all.")
    if done.agreement is None:
        display.say(f"Searches go by {done.new} already.")
        return done
    display.say(f"{done.embedded} photos embedded by {done.new}")
    for sentence in _in_words(done.agreement):
        display.say(sentence)
    if done.swapped:
        display.say(f"Swapped: searches go by {done.new} now. Back: hdml index {folder} --migrate --encoder {done.old}")
    else:
        display.say(f"Not swapped: searches go by {done.old}. To swap: hdml index {folder} --migrate --encoder {done.new}")
    return done


def _find_encoder(index_dir: Path, workspace: Path, encoder: str | None) -> Path:
    """The encoder meant by a run, a file, or the fingerprint of one that the index has vectors of; the newest run by default."""
    from indexing.catalogue import Catalogue
    from indexing.workspace import Workspace

    place = Workspace(workspace)
    if encoder is None:
        return place.newest_encoder()
    with Catalogue(index_dir) as catalogue:
        known = {model.fingerprint: model.encoder for model in catalogue.models()}
    return known.get(encoder) or place.find_encoder(encoder)


def _in_words(found: "Agreement") -> list[str]:
    if found.neighbours is None:
        return []
    told = [f"Of the ten nearest of {found.sampled} photos, both find {_share(found.neighbours)}."]
    for k, precision in ((1, found.precision_at_1), (10, found.precision_at_10)):
        if precision is not None:
            points = 100 * precision.difference.mean, 100 * precision.difference.low, 100 * precision.difference.high
            told.append(
                f"Label precision@{k} of {found.labelled} photos: before {_share(precision.old)}, by the new one "
                f"{_share(precision.new)}; {points[0]:+.1f} points ({points[1]:+.1f} to {points[2]:+.1f})."
            )
    return told


def _share(measure: "Measure") -> str:
    return f"{measure.mean:.1%} ({measure.low:.1%} to {measure.high:.1%})"
