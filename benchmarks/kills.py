"""Kill what writes to an index at every kind of step, and hold what is left against what had been acknowledged.

    python benchmarks/kills.py [--kills N] [--times N] [--seed N] [--json FILE]

Operations on a small index (benchmarks/trials.py) are run once with every durable step counted (benchmarks/durable_steps.py),
which also gives what the catalogue holds after each commit, and what a run that nobody killed leaves. Then each is run again and
killed: at every kind of step at least N times, spread over the operations and over just before, in the middle and just after, and
some more at random times by the clock. After each kill, in new processes:

1. the catalogue holds exactly what it held after the last commit that had been acknowledged, or after the one that was under way;
2. a copy of the index is verified without a fault that cannot be mended, and its searches find what comparing by hand finds;
3. the operation is run again to its end, as if an hour later. It leaves what it would have left: the same items under the same
   ids, the same results, the same files, and nothing that is unfinished.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import tempfile
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from trials import (
    Answers,
    Contents,
    Ended,
    draw_gallery,
    in_child,
    read_contents,
    same_answers,
    same_contents,
    search_all,
    search_by_hand,
    write_small_encoder,
)

SEED = 1903
_MERGED_AFTER = 16  # photos; the product's own bound is beyond such a gallery
_AN_HOUR_S = 3700


@dataclass(frozen=True)
class Place:
    """Where an operation works; always the same folder, since an index knows its gallery by its path."""

    root: Path

    @property
    def gallery(self) -> Path:
        return self.root / "gallery"

    @property
    def encoder(self) -> Path:
        return self.root / "run" / "encoder.onnx"

    @property
    def other_encoder(self) -> Path:
        return self.root / "other" / "encoder.onnx"

    @property
    def index(self) -> Path:
        return self.root / "index"

    @property
    def bundle(self) -> Path:
        return self.root / "out" / "index.hdml"

    @property
    def bundles(self) -> Path:
        return self.root / "bundles"

    def photos(self) -> list[Path]:
        return sorted(self.gallery.rglob("*.jpg"))


@dataclass(frozen=True)
class Operation:
    """Something that writes: what comes before it, and itself, which may be run again."""

    name: str
    prepare: Callable[[Place], None]
    run: Callable[[Place], None]


@dataclass
class Uninterrupted:
    """An operation that nobody killed.

    Attributes:
        steps: its steps, as told by durable_steps.Step.
        moments: what the catalogue held at first and after every commit.
        answers, files: what it left: results of searches, and names of files, with N for numbers.
        seconds: that it took.
    """

    steps: list[Any]
    moments: list[Contents | None]
    answers: Answers | None
    files: list[str]
    seconds: float = 0.0


@dataclass
class Kill:
    """A kill and what was found after it.

    Attributes:
        operation, phase, step, moment: where it was; the step is the last that had begun, the moment "clock" where the time was
            drawn.
        commits: number of commits to the catalogue that were acknowledged.
        items: number of items that the catalogue then held; None where there was no catalogue yet, or none any more.
        mended: what ``hdml index --verify`` had to mend of what is only a cache.
        faults: what should not be.
    """

    operation: str
    phase: str
    step: str
    moment: str
    commits: int = 0
    items: int | None = None
    mended: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def update(place: Place, **asked: Any) -> None:
    import indexing.indexer
    from indexing.catalogue import has_catalogue
    from indexing.encoder import ENCODER

    indexing.indexer._MERGED_AFTER = _MERGED_AFTER
    encoder = place.index / ENCODER if has_catalogue(place.index) else place.encoder
    indexing.indexer.update_index(place.gallery, place.index, encoder, device="cpu", workers=2, **asked)


def without_index(place: Place, *, species: int = 6, images: int = 4) -> None:
    draw_gallery(place.gallery, species=species, images=images)
    write_small_encoder(place.encoder)
    write_small_encoder(place.other_encoder, seed=1)
    (place.encoder.parent / "run.json").write_text(json.dumps({"name": "small", "finished": "2026-01-02T03:04:05+00:00"}))


def with_index(place: Place) -> None:
    without_index(place)
    update(place)


def with_calibrated_index(place: Place) -> None:
    without_index(place, species=12, images=9)  # as many as that takes
    update(place)


def one_added(place: Place) -> None:
    with_index(place)
    _redraw(place.photos()[0], place.gallery / "new.jpg")


def many_added(place: Place) -> None:
    with_index(place)
    shutil.copy(place.photos()[0], place.gallery / "copy.jpg")
    for number, photo in enumerate(place.photos()[:18]):
        _redraw(photo, photo.with_name(f"new-{number}.jpg"))


def some_changed(place: Place) -> None:
    with_index(place)
    for photo in place.photos()[::3]:
        _redraw(photo, photo)
    place.photos()[1].write_bytes(b"no photo any more")


def some_moved(place: Place) -> None:
    with_index(place)
    folders = sorted(path for path in place.gallery.iterdir() if path.is_dir())
    folders[0].rename(folders[0].with_name("renamed"))
    for photo in sorted(folders[1].iterdir())[:3]:
        photo.rename(folders[2] / f"moved-{photo.name}")


def some_gone(place: Place) -> None:
    with_index(place)
    for photo in place.photos()[::5]:
        photo.unlink()


def some_gone_and_known(place: Place) -> None:
    some_gone(place)
    update(place)


def described(place: Place) -> None:
    with_index(place)
    lines = [f"{photo.relative_to(place.gallery)},wing {number % 5}" for number, photo in enumerate(place.photos())]
    (place.gallery / "table.csv").write_text("\n".join(["path,colour", *lines]))


def with_damaged_base(place: Place) -> None:
    with_index(place)
    (base,) = place.index.glob("index.*.faiss")
    base.write_bytes(base.read_bytes()[:-1000])


def without_base(place: Place) -> None:
    with_index(place)
    for base in place.index.glob("index.*"):
        base.unlink()


def with_bundle(place: Place) -> None:
    from indexing.bundle import pack_index

    with_index(place)
    pack_index(place.index, place.bundle)


def _redraw(photo: Path, target: Path) -> None:
    """Another photo, of other bytes and another time."""
    from PIL import Image, ImageOps

    with Image.open(photo) as image:
        ImageOps.mirror(image).rotate(7).save(target, "JPEG")


def relabel(place: Place) -> None:
    from indexing.descriptions import Descriptions

    update(place, descriptions=Descriptions(manifest=place.gallery / "table.csv"))


def change_kind(place: Place) -> None:
    from indexing.kinds import Plan

    update(place, plan=Plan(kind="hnsw", target=0.9))


def collect(place: Place) -> None:
    from indexing.upkeep import collect_garbage

    collect_garbage(place.index)


def verify(place: Place) -> None:
    from indexing.upkeep import verify_index

    verify_index(place.index)


def search(place: Place) -> None:
    search_all(place.index)


def pack(place: Place) -> None:
    from indexing.bundle import pack_index

    pack_index(place.index, place.bundle)


def unpack(place: Place) -> None:
    from indexing.bundle import unpack_bundle

    unpack_bundle(place.bundle, place.bundles)


def remove(place: Place) -> None:
    from indexing.upkeep import remove_index

    if place.index.exists():
        remove_index(place.index)


def migrate(place: Place) -> None:
    from indexing.migration import migrate_index

    migrate_index(place.index, place.other_encoder, device="cpu", workers=2)


OPERATIONS = [
    Operation("index for the first time", without_index, update),
    Operation("add a photo", one_added, update),
    Operation("add many photos, merging", many_added, update),
    Operation("change photos", some_changed, update),
    Operation("move photos", some_moved, update),
    Operation("remove photos", some_gone, lambda place: update(place, remove=["*/003.jpg"])),
    Operation("describe photos", described, relabel),
    Operation("calibrate", with_calibrated_index, lambda place: update(place, false_matches=0.05)),
    Operation("change the kind of base", with_index, change_kind),
    Operation("change over to another encoder", with_index, migrate),
    Operation("forget what is gone", some_gone_and_known, collect),
    Operation("verify and mend", with_damaged_base, verify),
    Operation("search without a base", without_base, search),
    Operation("pack", with_index, pack),
    Operation("unpack", with_bundle, unpack),
    Operation("remove the index", with_index, remove),
]


class Trial:
    """Operations, each with the state that it starts from and its uninterrupted run, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place, self.log = folder, Place(folder / "trial"), folder / "log"
        self.uninterrupted: dict[str, Uninterrupted] = {}

    def child(self, work: Callable[[], Any], **limits: Any) -> Ended:
        return in_child(work, self.folder, **limits)

    def start(self, operation: Operation) -> None:
        """Lay out the state that an operation starts from."""
        shutil.rmtree(self.place.root, ignore_errors=True)
        shutil.copytree(self.folder / operation.name, self.place.root)
        self.log.unlink(missing_ok=True)  # a child that is killed before its first step tells nothing

    def prepare(self, operation: Operation) -> None:
        """Make that state, and see the operation run with nobody killing it."""
        shutil.rmtree(self.place.root, ignore_errors=True)
        self.place.root.mkdir()
        _must_succeed(operation, self.child(lambda: operation.prepare(self.place)))
        self.place.root.rename(self.folder / operation.name)
        self.start(operation)
        found = _must_succeed(operation, self.child(lambda: _count(operation, self.place, self.log)))
        found.answers, found.files = _must_succeed(operation, self.child(lambda: _left(self.place)))
        self.uninterrupted[operation.name] = found

    def kill(self, operation: Operation, name: str, turn: int, moment: str, seed: int) -> Kill:
        """Kill an operation at a step, the ``turn``-th of its name, and check what is left.

        Where writes were cut elsewhere this time, so that there are fewer, it is one of those that there are.
        """
        for wanted in range(turn, 0, -1):
            self.start(operation)
            ended = self.child(partial(_run_watched, operation, self.place, self.log, (name, wanted), moment, seed))
            if ended.signal:
                break
        return self._check(operation, moment, ended, wanted=name)

    def kill_at_time(self, operation: Operation, seconds: float) -> Kill | None:
        """Kill an operation after some seconds; None where it had ended before."""
        self.start(operation)
        ended = self.child(lambda: _run_watched(operation, self.place, self.log, ("", 0), "", 0), kill_after_s=seconds)
        return self._check(operation, "clock", ended) if ended.signal else None

    def _check(self, operation: Operation, moment: str, ended: Ended, *, wanted: str = "any") -> Kill:
        from durable_steps import last_step

        told = last_step(self.log) or {"phase": "start", "kind": "nothing", "what": "yet", "commits": 0, "done": True}
        kill = Kill(operation.name, told["phase"], f"{told['kind']} {told['what']}", moment, told["commits"])
        if ended.signal != signal.SIGKILL:
            kill.faults.append(f"it was not killed at {wanted}: {ended.fault or 'it ended'}")
            return kill
        expected = self.uninterrupted[operation.name]
        copy = self.folder / "copy"
        under_way = not told["done"]
        for check in (
            partial(_check_acknowledged, self.place, copy, expected=expected, under_way=under_way),
            partial(_check_sound, copy),
            partial(_run_again, operation, self.place),
            partial(_check_end, self.place, expected=expected),
        ):
            ended = self.child(partial(check, kill))
            if ended.fault is not None:
                kill.faults.append(ended.fault)
            else:
                kill = ended.answer
        return kill


def _must_succeed(operation: Operation, ended: Ended) -> Any:
    if ended.fault is not None:
        raise SystemExit(f"{operation.name} must succeed when nobody kills it, but: {ended.fault}")
    return ended.answer


def _count(operation: Operation, place: Place, log: Path) -> Uninterrupted:
    from durable_steps import Watch

    watch = Watch(log, remember=True)
    watch.moments.append(read_contents(place.index))
    watch.install()
    began = time.monotonic()
    operation.run(place)
    return Uninterrupted(watch.steps, watch.moments, None, [], time.monotonic() - began)


def _run_watched(operation: Operation, place: Place, log: Path, kill_at: tuple[str, int], moment: str, seed: int) -> None:
    from durable_steps import Watch

    Watch(log, kill_at=kill_at, moment=moment, seed=seed).install()
    operation.run(place)


def _left(place: Place) -> tuple[Answers | None, list[str]]:
    """Results of searches, and names of files, of all that operations write."""
    answers = search_all(place.index) if read_contents(place.index) is not None else None
    folders = (place.index, place.bundle.parent, place.bundles)
    files = (path.relative_to(place.root) for folder in folders for path in folder.rglob("*") if not path.is_dir())
    return answers, sorted(re.sub(r"\d+|(?<=/)[0-9a-f]{16}(?=/)", "N", str(file)) for file in files)


def _check_acknowledged(place: Place, copy: Path, kill: Kill, *, expected: Uninterrupted, under_way: bool) -> Kill:
    shutil.rmtree(copy, ignore_errors=True)
    if place.index.exists():
        shutil.copytree(place.index, copy)  # before anything opens it
    held = read_contents(place.index)
    kill.items = None if held is None else len(held)
    possible = expected.moments[kill.commits : kill.commits + 1 + under_way]
    if not any(same_contents(held, moment) for moment in possible):
        kill.faults.append(f"the catalogue holds something else than after the {kill.commits} commits that were acknowledged")
    if place.bundle.exists():
        with zipfile.ZipFile(place.bundle) as archive:
            if (damaged := archive.testzip()) is not None:
                kill.faults.append(f"the bundle is there, and damaged at {damaged}")
    return kill


def _check_sound(copy: Path, kill: Kill) -> Kill:
    from indexing.catalogue import has_catalogue
    from indexing.errors import HdmlError
    from indexing.search import OpenIndex
    from indexing.upkeep import verify_index

    if not has_catalogue(copy):
        try:
            OpenIndex(copy, device="cpu")
        except HdmlError:
            return kill
        kill.faults.append("an index opens that is not there")
        return kill
    rows = read_contents(copy) or {}
    model = _model(copy)
    if any(row.state == "ready" for row in rows.values()) and not same_answers(search_all(copy), search_by_hand(rows, model)):
        kill.faults.append("a search finds something else than comparing by hand")
    found = verify_index(copy)
    kill.faults += found.faults
    kill.mended = [re.sub(r"\d+", "N", one) for one in found.mended]
    if any(row.state == "ready" for row in rows.values()) and not same_answers(search_all(copy), search_by_hand(rows, model)):
        kill.faults.append("after verifying, a search finds something else than comparing by hand")
    return kill


def _model(index_dir: Path) -> int:
    connection = sqlite3.connect(index_dir / "catalogue.sqlite")
    ((model,),) = connection.execute("SELECT value FROM meta WHERE key = 'model'")
    connection.close()
    return int(model)


def _run_again(operation: Operation, place: Place, kill: Kill) -> Kill:
    """As if the kill had been an hour ago, when nobody can be at work on a file that is unfinished."""
    then = time.time() - _AN_HOUR_S
    for unfinished in place.root.rglob("*.part"):
        for path in (unfinished, *unfinished.rglob("*")):
            os.utime(path, (then, then))
    operation.run(place)
    return kill


def _check_end(place: Place, kill: Kill, *, expected: Uninterrupted) -> Kill:
    held = read_contents(place.index)
    if not same_contents(held, expected.moments[-1]):
        kill.faults.append("run again, it leaves other items than without the kill")
    answers, files = _left(place)
    if (answers is None) != (expected.answers is None) or not same_answers(answers or [], expected.answers or []):
        kill.faults.append("run again, searches find something else than without the kill")
    if files != expected.files:
        more, less = Counter(files) - Counter(expected.files), Counter(expected.files) - Counter(files)
        kill.faults.append(f"run again, the files are others: {sorted(more) or 'none'} besides, {sorted(less) or 'none'} missing")
    return kill


Chosen = tuple[str, str, int, str]
"""Operation, name of a step, which of that name, and moment."""


def choose(uninterrupted: dict[str, Uninterrupted], kills: int, each: int, draw: random.Random) -> list[Chosen]:
    """Where to kill: ``each`` times at every kind of step, thrice as often in every operation, and ``kills`` times in all."""
    from durable_steps import AFTER, BEFORE, TORN

    places: dict[str, list[Chosen]] = defaultdict(list)
    for name, found in uninterrupted.items():
        for step in found.steps:
            for moment in (BEFORE, AFTER, *([TORN] if step.tearable else [])):
                places[step.name].append((name, step.name, step.turn, moment))
    chosen = []
    for of_step in places.values():
        mixed = draw.sample(of_step, len(of_step))
        chosen += [mixed[turn % len(mixed)] for turn in range(each)]
    rest = [place for of_step in places.values() for place in of_step]
    for name in uninterrupted:
        own = [place for place in rest if place[0] == name]
        lacking = 3 * each - sum(place[0] == name for place in chosen)
        chosen += draw.choices(own, k=max(0, lacking))
    chosen += draw.sample(rest, max(0, min(len(rest), kills - len(chosen))))
    return draw.sample(chosen, len(chosen))


def run_trial(trial: Trial, *, kills: int, each: int, times: int, seed: int) -> list[Kill]:
    draw = random.Random(seed)
    by_name = {operation.name: operation for operation in OPERATIONS}
    for operation in OPERATIONS:
        trial.prepare(operation)
    found = []
    chosen = choose(trial.uninterrupted, kills, each, draw)
    for done, (name, step, turn, moment) in enumerate(chosen, start=1):
        found.append(trial.kill(by_name[name], step, turn, moment, draw.randrange(1 << 30)))
        _tell(found[-1], done, len(chosen) + times)
    while len(found) < len(chosen) + times:
        operation = draw.choice(OPERATIONS)
        kill = trial.kill_at_time(operation, draw.uniform(0, 1.2 * trial.uninterrupted[operation.name].seconds))
        if kill is not None:
            found.append(kill)
            _tell(kill, len(found), len(chosen) + times)
    return found


def _tell(kill: Kill, done: int, total: int) -> None:
    if kill.faults:
        print(f"{kill.operation}, {kill.phase}, {kill.moment} {kill.step}: {'; '.join(kill.faults)}", flush=True)
    elif done % 50 == 0:
        print(f"{done} of {total} kills", flush=True)


def table(found: list[Kill], uninterrupted: dict[str, Uninterrupted]) -> str:
    """The kills by operation, as Markdown."""
    lines = ["| operation | steps | kills: before, torn, after, by the clock | a base mended | faults |", "|---|---|---|---|---|"]
    for name, run in [*uninterrupted.items(), ("all", None)]:
        kills = [kill for kill in found if kill.operation == name or run is None]
        moments = Counter(kill.moment for kill in kills)
        steps = len(run.steps) if run is not None else sum(len(other.steps) for other in uninterrupted.values())
        counts = f"{len(kills)}: {', '.join(str(moments[moment]) for moment in ('before', 'torn', 'after', 'clock'))}"
        lines.append(
            f"| {name} | {steps} | {counts} | {sum(map(bool, (kill.mended for kill in kills)))} | "
            f"{sum(map(bool, (kill.faults for kill in kills)))} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill what writes to an index at every kind of step.")
    parser.add_argument("--kills", type=int, default=200, help="at least so many at steps (default: 200)")
    parser.add_argument("--each", type=int, default=5, help="at least so many at every kind of step (default: 5)")
    parser.add_argument("--times", type=int, default=50, help="kills at random times besides (default: 50)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"draws the places and times (default: {SEED})")
    parser.add_argument("--json", type=Path, help="also write every kill to this file")
    options = parser.parse_args()
    import faiss  # noqa: F401 - once, for all children
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401

    import indexing.bundle
    import indexing.upkeep  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder))
        found = run_trial(trial, kills=options.kills, each=options.each, times=options.times, seed=options.seed)
        print(table(found, trial.uninterrupted))
        steps = Counter(f"{kill.phase}: {kill.step}" for kill in found if kill.moment != "clock")
        faults = sum(bool(kill.faults) for kill in found)
        print(f"\n{len(steps)} kinds of step, each hit {min(steps.values(), default=0)} times or more; {faults} faults")
        if options.json is not None:
            about = {"seed": options.seed, "steps": dict(sorted(steps.items())), "kills": [asdict(kill) for kill in found]}
            options.json.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(any(kill.faults for kill in found))


if __name__ == "__main__":
    main()
