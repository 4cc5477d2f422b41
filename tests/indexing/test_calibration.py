"""What a score means: thresholds against explicit loops, and what they come to on things that were not there."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from indexing.calibration import (
    LABELS,
    SELF_CONSISTENCY,
    BestScores,
    Calibration,
    Uncalibrated,
    calibrate,
    calibrate_vectors,
    equal_error,
    find_thresholds,
    read_calibration,
    share_of,
    threshold_at,
)
from indexing.catalogue import Catalogue
from indexing.errors import HdmlError
from indexing.gallery import PhotoFile
from indexing.indexer import merge
from indexing.recording import EmbeddedPhoto
from indexing.vectors import Vectors

DIMENSION = 32


def things(count: int, photos: int, *, seed: int = 0, spread: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """[count × photos, D] unit vectors around as many directions, families of which are near each other; and their numbers."""
    random = np.random.default_rng(seed)
    families = random.standard_normal((count // 5 + 1, DIMENSION))
    centres = families[random.integers(0, len(families), count)] + 0.9 * random.standard_normal((count, DIMENSION))
    numbers = np.repeat(np.arange(count), photos)
    vectors = centres[numbers] + spread * random.standard_normal((len(numbers), DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), numbers


def as_vectors(vectors: np.ndarray, *, page: int = 500) -> Vectors:
    def pages() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(vectors), page):
            yield np.arange(start, min(start + page, len(vectors))), vectors[start : start + page]

    return Vectors(7, vectors.shape[1], len(vectors), pages, lambda wanted: (wanted, vectors[wanted]))


def calibrated(vectors: np.ndarray, numbers: np.ndarray, *, asked: float = 0.01, seed: int = 0) -> Calibration | Uncalibrated:
    return calibrate_vectors(as_vectors(vectors), np.arange(len(vectors)), numbers, asked=asked, seed=seed)


def thresholds(vectors: np.ndarray, numbers: np.ndarray, *, asked: float = 0.01) -> Calibration:
    found = calibrated(vectors, numbers, asked=asked)
    assert isinstance(found, Calibration)
    return found


def absent_and_present(vectors: np.ndarray, numbers: np.ndarray) -> tuple[list[float], list[float]]:
    """By a loop over pairs."""
    absent, present = [], []
    for query in range(len(vectors)):
        others = [other for other in range(len(vectors)) if other != query and numbers[other] >= 0]
        scores = [(float(vectors[query] @ vectors[other]), numbers[other] == numbers[query]) for other in others]
        absent.append(max(score for score, same in scores if not same))
        present.append(max((score for score, same in scores if same), default=-np.inf))
    return absent, present


@pytest.mark.parametrize("page", [7, 60, 1000])
def test_best_scores_are_those_of_a_loop_over_pairs(page: int) -> None:
    vectors, numbers = things(12, 5)
    numbers[7] = numbers[40] = -1
    numbers[:5] = [0, 12, 13, 14, 15]  # four have none of their own
    random = np.random.default_rng(0)
    found = BestScores.measured(as_vectors(vectors, page=page), lambda ids, _: numbers[ids], random)
    absent, present = absent_and_present(vectors, numbers)
    labelled = numbers >= 0
    np.testing.assert_array_equal(found.groups, numbers[labelled])
    np.testing.assert_allclose(found.absent, np.array(absent)[labelled], atol=2e-6)
    np.testing.assert_allclose(found.present, np.array(present)[labelled], atol=2e-6)


def test_folds_share_the_groups_out() -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 23, 400)
    folds = BestScores(groups, random.random(400), random.random(400)).folds(4, random)
    assert len(folds) == 4
    for rest, left_out in folds:
        assert set(rest.groups) | set(left_out.groups) == set(groups)
        assert not set(rest.groups) & set(left_out.groups)
    assert sum(len(left_out.groups) for _, left_out in folds) == 400


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.1, 0.5])
def test_threshold_is_reached_as_often_as_asked_by_more_of_the_same(rate: float) -> None:
    """On average over draws; a naive quantile of 99 scores is reached twice as often as asked at 1 %."""
    random = np.random.default_rng(0)
    drawn = [threshold_at(random.random(99), rate) for _ in range(4000)]
    assert np.mean([1 - threshold for threshold in drawn]) == pytest.approx(rate, rel=0.07)


def test_threshold_lies_above_scores_that_too_many_share() -> None:
    scores = np.array([0.5] * 90 + [0.9] * 10)
    assert 0.5 < threshold_at(scores, 0.2) <= 0.9
    assert threshold_at(scores, 0.05) == pytest.approx(0.9, abs=1e-5)
    assert threshold_at(scores, 0.05) > 0.9


def test_equal_error_is_where_a_loop_finds_it() -> None:
    random = np.random.default_rng(3)
    absent, present = random.normal(0.4, 0.1, 300).round(6), random.normal(0.6, 0.15, 200).round(6)
    off = {
        float(threshold): abs(
            sum(score >= threshold for score in absent) / 300 - sum(score < threshold for score in present) / 200
        )
        for threshold in (*absent, *present)
    }
    assert off[equal_error(absent, present)] == pytest.approx(min(off.values()))


def test_interval_of_independent_queries_is_wilsons_and_of_dependent_ones_that_of_their_groups() -> None:
    """Worked by hand: 20 of 400 with z = 1.96 is 3.26 % to 7.59 %; groups that are wholly one or the other count once each."""
    random = np.random.default_rng(0)
    hits = np.zeros(400, bool)
    hits[random.permutation(400)[:20]] = True
    alone = share_of(hits, np.arange(400))
    assert (alone.share, alone.low, alone.high) == pytest.approx((0.05, 0.0326, 0.0759), abs=2e-4)
    groups = np.repeat(np.arange(40), 10)
    together = share_of(np.isin(groups, [3, 4]), groups)
    of_groups = share_of(np.isin(np.arange(40), [3, 4]), np.arange(40))
    assert (together.low, together.high) == pytest.approx((of_groups.low, of_groups.high))
    none = share_of(np.zeros(400, bool), groups)
    assert (none.share, none.low) == (0, 0)
    assert none.high == pytest.approx(1.96**2 / (40 + 1.96**2))


def verdict_shares(seed: int, *, hidden: bool) -> dict[str, float]:
    """Shares of 3,600 photos of 300 things that a gallery of 300 others does not hold, and of photos of things that it does."""
    vectors, numbers = things(600, 12, seed=seed)
    indexed = numbers % 2 == 0
    withheld = indexed & (np.arange(len(numbers)) % 6 == 0)
    gallery = indexed & ~withheld
    found = thresholds(vectors[gallery], np.full(gallery.sum(), -1) if hidden else numbers[gallery])
    assert found.basis == (SELF_CONSISTENCY if hidden else LABELS)
    absent = (vectors[~indexed] @ vectors[gallery].T).max(1)
    same = numbers[withheld][:, None] == numbers[gallery]
    present = np.where(same, vectors[withheld] @ vectors[gallery].T, -1).max(1)
    return {
        "false": float(np.mean(absent >= found.match)),
        "rejected": float(np.mean(absent < found.unsure)),
        "matched": float(np.mean(present >= found.match)),
        "missed": float(np.mean(present < found.unsure)),
    }


@pytest.mark.parametrize("hidden", [False, True])
def test_one_per_cent_asked_is_had_of_classes_that_are_not_there(hidden: bool) -> None:
    drawn = [verdict_shares(seed, hidden=hidden) for seed in range(4)]
    mean = {name: np.mean([shares[name] for shares in drawn]) for name in drawn[0]}
    assert mean["false"] < 0.02
    assert mean["rejected"] > 0.8
    assert mean["missed"] < 0.2
    if not hidden:  # a thing that is cut in two groups puts the threshold higher, so that groups promise no more than "at most"
        assert mean["false"] > 0.005
        assert mean["matched"] > 0.5


def test_what_the_check_tells_is_what_the_other_half_comes_to() -> None:
    vectors, numbers = things(200, 10)
    found = thresholds(vectors, numbers)
    check = found.check
    assert (check.queries, check.labels) == (2000, 200)
    assert check.false_matches.low < 0.01 < check.false_matches.high
    absent, present = (np.array(scores) for scores in _by_matrix(vectors, numbers))
    assert check.rejected == pytest.approx(np.mean(absent < found.unsure), abs=0.05)
    assert check.matched == pytest.approx(np.mean(present >= found.match), abs=0.07)
    assert check.missed == pytest.approx(np.mean(present < found.unsure), abs=0.05)
    assert (sum(check.absent), sum(check.present)) == (2000, 2000)
    asked = [point.asked for point in check.curve]
    assert asked == sorted(asked)
    assert [point.achieved.share for point in check.curve] == sorted(point.achieved.share for point in check.curve)
    (chosen,) = (point for point in check.curve if point.asked == 0.01)
    assert chosen.achieved.low < 0.01 < chosen.achieved.high


def _by_matrix(vectors: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    same = numbers[:, None] == numbers
    return np.where(same, -np.inf, scores).max(1), np.where(same, scores, -np.inf).max(1)


def test_labels_left_out_keep_to_the_rate() -> None:
    """Three things of sixty are like others, each more than the last: a threshold made of all does not foresee the next."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 20)
    absent = (0.5 + 0.1 * random.random(1200) + np.maximum(0, 0.1 * (groups - 56))).round(6)
    scores, rate = BestScores(groups, absent, absent), 0.04
    match = find_thresholds(scores, rate, np.random.default_rng(1)).match
    assert match > threshold_at(absent, rate)
    kept = []
    for share in np.linspace(1, 0.1, 19):
        beyond = np.zeros(60)
        for rest, left_out in scores.folds(10, np.random.default_rng(1)):
            threshold = threshold_at(rest.absent, share * rate)
            for group, score in zip(left_out.groups, left_out.absent, strict=True):
                beyond[group] += score >= threshold
        by_thing = beyond / 20  # all have twenty photos, so that the rate is the mean of theirs
        if by_thing.mean() + by_thing.std(ddof=1) / np.sqrt(60) <= rate:
            kept.append(threshold_at(absent, share * rate))
    assert match == kept[0]


def test_lower_rates_have_higher_thresholds_and_verdicts_follow_them() -> None:
    vectors, numbers = things(100, 8)
    strict, loose = (thresholds(vectors, numbers, asked=asked) for asked in (0.005, 0.2))
    assert strict.match > loose.match
    assert [strict.verdict(score) for score in (1.0, strict.match, strict.unsure, strict.unsure - 1e-9, -1.0, None)] == [
        "match",
        "match",
        "unsure",
        "no match",
        "no match",
        "no match",
    ]


@pytest.mark.parametrize("basis", [LABELS, SELF_CONSISTENCY])
def test_json_and_back_is_the_same(basis: str) -> None:
    vectors, numbers = things(30, 8)
    found = thresholds(vectors, numbers if basis == LABELS else np.full(len(numbers), -1))
    assert found.basis == basis
    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (lambda numbers: np.full(len(numbers), -1), "there are no labels"),
        (lambda numbers: np.where(np.arange(len(numbers)) % 4 == 0, -1, numbers), "25% of the photos have no label"),
        (lambda numbers: numbers % 9, "9 labels are fewer than 10"),
    ],
)
def test_without_fit_labels_groups_stand_in_and_it_is_said(labels, told: str) -> None:
    vectors, numbers = things(40, 8)
    found = thresholds(vectors, labels(numbers))
    assert found.basis == SELF_CONSISTENCY
    assert found.note.startswith(f"{told}, so that groups of like photos stand in for things")


def test_few_labels_and_few_photos_are_said() -> None:
    note = thresholds(*things(12, 9)).note
    assert "made from 12 different things only" in note
    assert "108 photos are few for 1 % of false matches" in note
    assert thresholds(*things(60, 9)).note == ""


def test_rate_that_no_photo_could_tell_is_raised_to_the_least_that_one_can() -> None:
    vectors, numbers = things(50, 4)
    assert thresholds(vectors, numbers, asked=0.0001).rate == pytest.approx(1 / 201)


@pytest.mark.parametrize("count", [1, 99])
def test_too_few_photos_have_no_thresholds(count: int) -> None:
    vectors, numbers = things(count, 1)
    found = calibrated(vectors, numbers)
    assert isinstance(found, Uncalibrated)
    assert found.reason.startswith(f"{count} photos are too few")


@pytest.mark.parametrize("labelled", [True, False])
def test_photos_that_are_all_the_same_never_match(labelled: bool) -> None:
    vectors = np.repeat(things(1, 1)[0], 200, axis=0)
    found = calibrated(vectors, np.arange(200) % 20 if labelled else np.full(200, -1))
    if isinstance(found, Calibration):
        assert found.verdict(1.0) != "match"
        assert found.check.false_matches.share == 0
    else:
        assert "nothing to take for something else" in found.reason


def test_gallery_of_single_photos_has_a_match_and_calls_half_of_what_is_absent_no_match() -> None:
    vectors, numbers = things(300, 1)
    found = thresholds(vectors, numbers)
    assert "no label has two photos" in found.note
    assert (found.check.matched, found.check.missed) == (None, None)
    assert found.check.rejected == pytest.approx(0.5, abs=0.1)
    assert found.unsure < found.match


@pytest.mark.parametrize("asked", [0.0, -0.1, 0.6, float("nan")])
def test_share_that_is_none_is_said(asked: float, tmp_path: Path) -> None:
    wanted = pytest.raises(HdmlError, match=r"false matches must be above 0 and at most 0\.5, not")
    with Catalogue.create(tmp_path, gallery=tmp_path, fingerprint="f00d", dimension=DIMENSION) as catalogue, wanted:
        calibrate(catalogue, asked=asked)


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue.create(tmp_path, gallery=tmp_path, fingerprint="f00d", dimension=DIMENSION) as made:
        yield made


def store(catalogue: Catalogue, vectors: np.ndarray, numbers: np.ndarray) -> None:
    """Make these all that the catalogue holds; labels are named so that their order is not that of the numbers."""
    names = [f"{row:05}.jpg" for row in range(len(vectors))]
    labels = [None if number < 0 else f"thing {number % 7} {number}" for number in numbers]
    sizes = [hash(vector.tobytes()) % 2**40 for vector in vectors]
    catalogue.compare(PhotoFile(*row, 1) for row in zip(names, labels, sizes, strict=True))
    catalogue.settle()
    pending = set(catalogue.pending())
    catalogue.record(
        [
            (name, EmbeddedPhoto(Path("unused"), vector.tobytes()[:20], vector, norm=1.0, width=1, height=1))
            for name, vector in zip(names, vectors, strict=True)
            if name in pending
        ]
    )


def test_catalogue_numbers_labels_by_id(catalogue: Catalogue) -> None:
    vectors, numbers = things(12, 3)
    numbers[4] = -1
    store(catalogue, vectors, numbers)
    ids, found = catalogue.label_numbers()
    items = catalogue.items()
    assert ids.tolist() == [item.id for item in items]
    assert (found < 0).tolist() == [item.label is None for item in items]
    by_number = {(int(number), item.label) for number, item in zip(found, items, strict=True)}
    assert len(by_number) == len({number for number, _ in by_number}) == len({label for _, label in by_number}) == 13


def test_index_has_the_thresholds_of_its_vectors(catalogue: Catalogue) -> None:
    vectors, numbers = things(40, 8)
    store(catalogue, vectors, numbers)
    found, expected = calibrate(catalogue), thresholds(vectors, numbers)
    assert isinstance(found, Calibration)
    assert found.sequence == catalogue.sequence()
    assert found.match == pytest.approx(expected.match, abs=0.02)


def test_calibration_is_remade_when_enough_has_changed_or_another_rate_is_asked(catalogue: Catalogue) -> None:
    index_dir = catalogue.path.parent
    vectors, numbers = things(40, 8)
    assert read_calibration(catalogue) is None
    store(catalogue, vectors[:40], numbers[:40])
    merge(index_dir, catalogue)
    few = read_calibration(catalogue)
    assert isinstance(few, Uncalibrated)
    assert few.reason.startswith("40 photos are too few")
    store(catalogue, vectors[:310], numbers[:310])
    merge(index_dir, catalogue)
    first = read_calibration(catalogue)
    assert isinstance(first, Calibration)
    assert first.sequence == 310
    store(catalogue, vectors[:320], numbers[:320])
    merge(index_dir, catalogue)
    assert read_calibration(catalogue) == first
    catalogue.set_false_matches(0.05)
    merge(index_dir, catalogue)
    second = read_calibration(catalogue)
    assert isinstance(second, Calibration)
    assert (second.asked, second.sequence) == (0.05, 320)
    store(catalogue, vectors[:300], numbers[:300])
    merge(index_dir, catalogue)
    third = read_calibration(catalogue)
    assert isinstance(third, Calibration)
    assert third.sequence == catalogue.sequence() > 320
