"""What marks teach: photos that join labels and pairs that meet, each rule by an example; and nothing that is held out."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hdml import fit
from hdml.checkpoint import load_tensors
from hdml.config import TrainConfig
from hdml.data import Photo, read_labelled_folder
from hdml.feedback import (
    ALONE,
    BOTH,
    HELD_OUT,
    NO_LABEL,
    ONE_LABEL,
    TWO_LABELS,
    UNREADABLE,
    Lesson,
    Mark,
    MarkedPhoto,
    keep_marks,
    learn,
    read_marks,
    twins_of,
    with_lesson,
)
from hdml.fit import finish_run, plan_run
from hdml.run import MODEL, read_record, read_split
from hdml.run_photos import read_run_photos
from hdml.sampling import ClassSampler, TripletSampler
from hdml.splits import Split, SplitRule, split_photos
from hdml.train import make_sampler
from hdml.watcher import Silent
from indexing.errors import HdmlError
from tests.conftest import COLOURS, SHAPES, draw_shape

CLASSES = sorted(f"{colour}-{shape}" for colour in COLOURS for shape in SHAPES)
TINY: dict[str, Any] = {
    "backbone": "shufflenet_v2_x0_5",  # a thirtieth of a ResNet-18's weights, which are what takes the time here
    "weights": "none",
    "image_size": 32,
    "steps": 4,
    "classes_per_batch": 4,
    "dimension": 16,
    "evaluations": 2,
    "test_classes": "last:3",
}
A, B, UNSEEN = CLASSES[0], CLASSES[1], CLASSES[-1]


@pytest.fixture
def folder(shapes: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shapes, tmp_path / "shapes"))


@pytest.fixture
def split(folder: Path) -> Split:
    return split_photos(read_labelled_folder(folder), SplitRule("class", "last:3", 0.0))


def of_data(split: Split, label: str, number: int = 0) -> MarkedPhoto:
    """A photo of the data, as an index of the same folder knows it."""
    (place,) = [p for p in split.photos.paths if p.parts[0] == label and p.stem == str(number)]
    return MarkedPhoto(place.as_posix(), split.photos.root / place, label)


def sent(tmp_path: Path, name: str, *, seed: int = 0, label: str | None = None) -> MarkedPhoto:
    """A photo that is none of the data."""
    file = tmp_path / "sent" / f"{name}.png"
    file.parent.mkdir(exist_ok=True)
    draw_shape(COLOURS[0], SHAPES[0], np.random.default_rng(1000 + seed)).save(file)
    return MarkedPhoto(name, file, label)


def lesson_of(tmp_path: Path, split: Split, *marks: Mark, unreadable: tuple[Path, ...] = ()) -> Lesson:
    keep_marks(tmp_path / "kept", marks)
    kept = read_marks(tmp_path / "kept")
    return learn(kept, split, twins_of(split.photos, kept), unreadable=unreadable)


def reasons(lesson: Lesson) -> list[tuple[str, str, str]]:
    return sorted((one.mark.query.name, one.mark.item.name, one.reason) for one in lesson.left_out)


def test_photos_join_the_label_that_right_marks_link_them_with(tmp_path: Path, split: Split) -> None:
    first, second = sent(tmp_path, "first", seed=1), sent(tmp_path, "second", seed=2)
    lesson = lesson_of(tmp_path, split, Mark(first, of_data(split, A), True), Mark(second, first, True))
    assert [(photo.name, label) for photo, label in lesson.joined] == [("first", A), ("second", A)]
    assert lesson.left_out == ()


def test_a_label_of_the_index_counts_where_training_knows_it(tmp_path: Path, split: Split) -> None:
    known, strange = sent(tmp_path, "known", seed=1, label=B), sent(tmp_path, "strange", seed=2, label="a day at the sea")
    lesson = lesson_of(tmp_path, split, Mark(sent(tmp_path, "query"), known, True), Mark(of_data(split, A), strange, True))
    assert {(photo.name, label) for photo, label in lesson.joined} == {("known", B), ("query", B), ("strange", A)}


def test_a_copy_of_a_training_photo_is_that_photo(tmp_path: Path, split: Split) -> None:
    original = of_data(split, A)
    copy = tmp_path / "copy.jpg"
    shutil.copy(original.file, copy)
    lesson = lesson_of(tmp_path, split, Mark(MarkedPhoto("copy", copy), of_data(split, B), False))
    assert lesson.joined == ()
    assert lesson.apart == ((Photo(Path(original.name)), Photo(Path(of_data(split, B).name))),)


def test_pairs_marked_wrong_of_two_labels_are_to_meet_once(tmp_path: Path, split: Split) -> None:
    query, item = of_data(split, A), of_data(split, B, 3)
    lesson = lesson_of(tmp_path, split, Mark(query, item, False), Mark(item, query, False))
    assert [{str(photo) for photo in pair} for pair in lesson.apart] == [{query.name, item.name}]


def test_contradictions_are_left_out_and_listed(tmp_path: Path, split: Split) -> None:
    a, b, between, doubted = of_data(split, A), of_data(split, B), sent(tmp_path, "between", seed=1), sent(tmp_path, "x", seed=2)
    lesson = lesson_of(
        tmp_path,
        split,
        Mark(a, b, True),
        Mark(between, a, True),
        Mark(between, b, True),
        Mark(a, of_data(split, A, 1), False),
        Mark(doubted, a, True),
        Mark(doubted, of_data(split, A, 2), False),
    )
    assert (lesson.joined, lesson.apart) == ((), ())
    assert reasons(lesson) == sorted(
        [
            (a.name, b.name, TWO_LABELS),
            ("between", a.name, TWO_LABELS),
            ("between", b.name, TWO_LABELS),
            (a.name, of_data(split, A, 1).name, ONE_LABEL),
            ("x", a.name, BOTH),
            ("x", of_data(split, A, 2).name, BOTH),
        ]
    )


def test_nothing_is_learned_of_what_is_held_out(tmp_path: Path, split: Split) -> None:
    """Of test and validation classes alike: their photos, copies of these, labels of the index, and what is linked with them."""
    unseen, a = of_data(split, UNSEEN), of_data(split, A)
    copy = tmp_path / "copy.jpg"
    shutil.copy(of_data(split, UNSEEN, 2).file, copy)
    chooses = of_data(split, split.classes.validation[0])
    chained, labelled = sent(tmp_path, "chained", seed=1), sent(tmp_path, "labelled", seed=2, label=UNSEEN)
    marks = [
        Mark(a, unseen, False),
        Mark(a, chooses, False),
        Mark(a, unseen, True),
        Mark(chained, unseen, True),
        Mark(chained, a, True),
        Mark(MarkedPhoto("copy", copy), a, False),
        Mark(labelled, a, True),
    ]
    lesson = lesson_of(tmp_path, split, *marks)
    assert (lesson.joined, lesson.apart) == ((), ())
    assert {why for *_, why in reasons(lesson)} == {HELD_OUT}
    assert len(lesson.left_out) == len(marks)


def test_what_cannot_be_used_is_said(tmp_path: Path, split: Split) -> None:
    lost, torn, lone = MarkedPhoto("lost", tmp_path / "lost.jpg"), sent(tmp_path, "torn", seed=1), sent(tmp_path, "lone", seed=2)
    a = of_data(split, A)
    lesson = lesson_of(
        tmp_path, split, Mark(lost, a, True), Mark(torn, a, False), Mark(lone, a, False), unreadable=(torn.file.resolve(),)
    )
    assert reasons(lesson) == sorted([("lost", a.name, UNREADABLE), ("torn", a.name, UNREADABLE), ("lone", a.name, NO_LABEL)])


def test_a_label_of_one_photo_is_in_no_batch(tmp_path: Path, folder: Path) -> None:
    for number in range(1, 6):
        (folder / B / f"{number}.png").unlink(missing_ok=True)
        (folder / B / f"{number}.jpg").unlink(missing_ok=True)
    split = split_photos(read_labelled_folder(folder), SplitRule("class", "last:3", 0.0))
    mark = Mark(of_data(split, A), of_data(split, B), False)
    assert [why for *_, why in reasons(lesson_of(tmp_path, split, mark))] == [ALONE]
    second = Mark(sent(tmp_path, "second"), of_data(split, B), True)
    assert len(lesson_of(tmp_path, split, mark, second).apart) == 1


def test_the_split_gains_what_joins_and_changes_in_nothing_else(tmp_path: Path, split: Split) -> None:
    mark = Mark(sent(tmp_path, "first"), of_data(split, A), True)
    lesson = lesson_of(tmp_path, split, mark)
    gained = with_lesson(split, lesson)
    new = gained.photos.photos[-1]
    assert new.path == (tmp_path / "sent" / "first.png").resolve()
    assert set(gained.train_set.photos) == {*split.train_set.photos, new}
    assert gained.train_set.classes[gained.train_set.labels[gained.train_set.photos.index(new)]] == A
    assert (gained.validation, gained.test) == (split.validation, split.test)
    assert gained.classes == split.classes


@pytest.mark.parametrize("sampler", [ClassSampler, TripletSampler])
def test_every_batch_holds_a_pair_as_anchor_and_negative(sampler: Any) -> None:
    labels = [label for label in range(6) for _ in range(4)]
    pairs = [(0, 5), (9, 22), (13, 2)]
    drawn = sampler(labels, classes_per_batch=4, seed=3, apart=pairs)
    met = []
    for step in range(12):
        batch = drawn.batch(step)
        classes = batch.labels[:4]
        assert len(set(classes)) == 4
        assert [labels[photo] for photo in batch.photos] == batch.labels.tolist()
        anchors, positives = batch.photos[:4], batch.photos[4:8]
        assert all(anchors != positives)
        negatives = batch.photos[8:9] if sampler is TripletSampler else positives
        met += [pair for pair in (*pairs, *(pair[::-1] for pair in pairs)) if pair[0] == anchors[0] and pair[1] in negatives]
        assert len(met) >= step + 1
    assert set(met) >= {*pairs, *(pair[::-1] for pair in pairs)}


def test_batches_without_pairs_are_those_of_before() -> None:
    labels = [label for label in range(6) for _ in range(4)]
    one, other = (ClassSampler(labels, classes_per_batch=4, seed=3, **given) for given in ({}, {"apart": []}))
    for step in range(5):
        np.testing.assert_array_equal(one.batch(step).photos, other.batch(step).photos)


@pytest.fixture
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_export", lambda *arguments: {})


def as_jpeg(seed: int) -> bytes:
    target = io.BytesIO()
    draw_shape(COLOURS[0], SHAPES[0], np.random.default_rng(seed)).save(target, "JPEG")
    return target.getvalue()


def planned(folder: Path, run: Path, split: Split) -> None:
    upload = MarkedPhoto("mine.jpg", Path("feedback/abc.jpg"), None, 12345, "ab" * 20, as_jpeg(7))
    marks = [
        Mark(upload, of_data(split, A), True),
        Mark(of_data(split, A), of_data(split, B), False),
        Mark(of_data(split, A), of_data(split, UNSEEN), False),
    ]
    plan_run(folder, run, watcher=Silent(), marks=marks, **TINY)


@pytest.mark.usefixtures("without_export")
def test_a_run_learns_from_the_marked_photo_and_resumed_it_ends_the_same(folder: Path, split: Split, tmp_path: Path) -> None:
    class Interrupted(Silent):
        def step(self, progress: Any) -> None:
            if progress.step == 3:
                raise KeyboardInterrupt

    whole, halved, none = (tmp_path / name for name in ("whole", "halved", "none"))
    cpu = torch.device("cpu")
    planned(folder, whole, split)
    record = finish_run(whole, device=cpu, watcher=Silent())
    assert record["feedback"] == {"marks": 3, "joined": 1, "apart": 1, "left_out": 1}
    parts = read_split(whole)
    assert parts is not None
    assert str((whole / "feedback" / "abc.jpg").resolve()) in parts["train"]
    planned(folder, halved, split)
    with pytest.raises(KeyboardInterrupt):
        finish_run(halved, device=cpu, watcher=Interrupted())
    finish_run(halved, device=cpu, watcher=Silent())
    plan_run(folder, none, watcher=Silent(), **TINY)
    finish_run(none, device=cpu, watcher=Silent())
    tensors = [load_tensors(run / MODEL)[0] for run in (whole, halved, none)]
    for name, value in tensors[0].items():
        torch.testing.assert_close(value, tensors[1][name], rtol=0, atol=0)
    assert any(not torch.equal(value, tensors[2][name]) for name, value in tensors[0].items())


def test_batches_of_a_run_hold_the_photo_under_its_label_and_the_pair(folder: Path, split: Split, tmp_path: Path) -> None:
    run = tmp_path / "run"
    planned(folder, run, split)
    record = read_record(run)
    config = TrainConfig(**record["config"])
    found, decoded, _ = read_run_photos(run, record, config, Silent())
    photos = found.train_set
    (pair,) = found.apart
    position = {photo: index for index, photo in enumerate(photos.photos)}
    sampler = make_sampler(config, photos.labels.tolist(), [(position[pair[0]], position[pair[1]])])
    new = position[Photo((run / "feedback" / "abc.jpg").resolve())]
    drawn_new = 0
    for step in range(40):
        batch = sampler.batch(step)
        assert {position[photo] for photo in pair} <= set(batch.photos.tolist())
        drawn_new += int((batch.labels[batch.photos == new] == photos.classes.index(A)).sum())
    assert drawn_new > 0
    assert decoded.batch([photos.photos[new]], (0, 0)).shape == (1, 3, 32, 32)


def test_a_marked_photo_that_changes_stops_a_run_from_going_on(folder: Path, split: Split, tmp_path: Path) -> None:
    outside = sent(tmp_path, "outside")
    plan_run(folder, tmp_path / "run", watcher=Silent(), marks=[Mark(outside, of_data(split, A), True)], **TINY)
    Image.new("RGB", (64, 64)).save(outside.file)
    with pytest.raises(HdmlError, match=r"outside\.png, a marked one, has changed; start a new run"):
        finish_run(tmp_path / "run", device=torch.device("cpu"), watcher=Silent())
