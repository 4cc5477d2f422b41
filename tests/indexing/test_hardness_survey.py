"""The survey against the lens, anchor by anchor, and its summaries against loops."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import indexing.hardness_survey
from indexing.hardness import HardnessLens, NoLens
from indexing.hardness_survey import hard_tuples, survey
from indexing.indexer import update_index
from indexing.search import OpenIndex


@pytest.fixture
def opened(photos: Path, tmp_path: Path, tiny_run: Path) -> Iterator[OpenIndex]:
    (photos / "red-right" / "3.jpg").rename(photos / "unlabelled.jpg")  # no copy: of equal photos, either may be the nearest
    (photos / "single").mkdir()
    (photos / "red-right" / "4.jpg").rename(photos / "single" / "4.jpg")
    update_index(photos, tmp_path / "index", tiny_run / "encoder.onnx", device="cpu")
    with OpenIndex(tmp_path / "index", device="cpu") as index:
        yield index


def test_tuples_are_those_that_the_lens_shows(opened: OpenIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing.hardness_survey, "_COMPARED_AT_A_TIME", 7)  # so that there are several parts
    lens = HardnessLens(opened)
    photos = lens.photos()
    anchors = np.array([i for i, item in enumerate(photos.items) if item.label not in (None, "single")])
    found, row = hard_tuples(lens, photos, anchors), 0
    for anchor in anchors:
        look = lens.look(photos.items[anchor].id)
        own = look.own
        for negative in look.negatives:
            assert photos.items[found.anchors[row]].id == look.anchor.id
            assert photos.items[found.positives[row]].id == look.positive.id
            assert photos.items[found.negatives[row]].id == negative.photo.id
            assert found.d_ap[row] == pytest.approx(look.positive.distance, rel=1e-5)
            assert found.d_an[row] == pytest.approx(negative.photo.distance, rel=1e-5)
            assert found.reembedded[row] == pytest.approx(negative.reembedded[own], rel=1e-5)
            assert found.gains[row] == pytest.approx(1 - negative.reembedded[own] / negative.photo.distance, abs=1e-5)
            assert found.losses[row] == pytest.approx(negative.loss, rel=1e-5)
            assert found.synthetic_losses[row] == pytest.approx(negative.losses[own], rel=1e-5)
            assert found.violations[row] == negative.violates
            assert found.synthetic_violations[row] == negative.violations[own]
            assert found.kept[row] == negative.label_kept[own]
            row += 1
    assert row == len(found.anchors)


def test_summaries_are_those_of_a_loop_over_looks(opened: OpenIndex) -> None:
    lens = HardnessLens(opened)
    told = survey(lens)
    anchors = [item for item in opened.catalogue.items() if item.label not in (None, "single")]
    assert (told.anchors, told.of, told.label, told.share, told.loss) == (18, 18, None, 0.5, "npair")
    rows = defaultdict(list)
    for item in anchors:
        look = lens.look(item.id)
        for negative in look.negatives:
            values = (
                negative.label_kept[look.own],
                1 - negative.reembedded[look.own] / negative.photo.distance,
                negative.reembedded[look.own] < negative.photo.distance,
                negative.loss,
                negative.losses[look.own],
                negative.violates,
                negative.violations[look.own],
            )
            rows[item.label].append((*values, item.id, negative.photo.label))
    everything = [row for of in rows.values() for row in of]
    for means, of in ((told.means, everything), *((each.means, rows[each.label]) for each in told.labels)):
        assert means.tuples == len(of)
        columns = [float(np.mean([row[column] for row in of])) for column in range(7)]
        found = (means.kept, means.gain, means.harder, means.loss, means.synthetic_loss)
        assert (*found, means.violations, means.synthetic_violations) == pytest.approx(columns, abs=1e-5)
    assert [each.label for each in told.labels] == sorted(
        rows, key=lambda label: (np.mean([row[0] for row in rows[label]]), label)
    )
    for histogram, column in ((told.gains, 1), (told.losses, 3), (told.synthetic_losses, 4)):
        values = [row[column] for row in everything]
        assert sum(histogram.counts) == len(values)
        # At the edges themselves, float32 and float64 may disagree.
        inner = histogram.edges[len(histogram.edges) // 2]
        below = sum(value < inner for value in values)
        assert sum(histogram.counts[: len(histogram.edges) // 2]) == pytest.approx(below, abs=1)
    assert told.losses.edges == told.synthetic_losses.edges
    highest = {label: max(row[3] for row in of) for label, of in rows.items()}
    assert {start.label: start.value for start in told.hardest} == pytest.approx(highest, rel=1e-5)
    assert [start.value for start in told.hardest] == pytest.approx(sorted(highest.values(), reverse=True), rel=1e-5)
    pulled = defaultdict(float)
    for item in anchors:
        look = lens.look(item.id)
        if all(negative.photo.distance > look.positive.distance for negative in look.negatives):
            pulled[item.label] = max(pulled[item.label], *(negative.loss for negative in look.negatives))
    assert {start.label: start.value for start in told.pulled} == pytest.approx(dict(pulled), rel=1e-5)
    assert pulled
    violating = defaultdict(int)
    for label, of in rows.items():
        for row in of:
            violating[label, row[8]] += row[5]
    expected = {pair: count / len({row[7] for row in rows[pair[0]]}) for pair, count in violating.items() if count}
    assert {(start.label, start.other): start.value for start in told.confused} == pytest.approx(expected)


def test_survey_of_a_label_is_of_its_anchors_alone(opened: OpenIndex) -> None:
    lens = HardnessLens(opened)
    told, whole = survey(lens, "blue-left"), survey(lens)
    (row,) = [each for each in whole.labels if each.label == "blue-left"]
    assert told.labels == [row]
    assert told.means == row.means
    assert (told.anchors, told.label) == (5, "blue-left")


def test_large_gallery_is_surveyed_by_evenly_spaced_anchors(opened: OpenIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing.hardness_survey, "ANCHORS", 6)
    told = survey(HardnessLens(opened))
    assert (told.anchors, told.of) == (6, 18)
    assert told.means.tuples == sum(each.means.tuples for each in told.labels) == 6 * 4


def test_what_cannot_be_surveyed_is_said(opened: OpenIndex, photos: Path, tiny_run: Path) -> None:
    lens = HardnessLens(opened)
    with pytest.raises(NoLens, match="has the label moths"):
        survey(lens, "moths")
    with pytest.raises(NoLens, match="single of the index index has two photos"):
        survey(lens, "single")
    for photo in photos.glob("[!s]*/*.jpg"):
        photo.unlink()
    update_index(photos, opened.path, tiny_run / "encoder.onnx", device="cpu")
    with pytest.raises(NoLens, match=r"two labels at least, one for negatives, but have 1\."):
        survey(lens)
