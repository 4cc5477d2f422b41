"""Comparing two models of one index, held against comparing every item with every other one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from indexing.agreement import Agreement, compare_models
from indexing.catalogue import Catalogue
from indexing.gallery import PhotoFile
from indexing.models import Model
from indexing.recording import EmbeddedPhoto

LABELS = ["mugs"] * 12 + ["plates"] * 10 + ["spoons"] + [None] * 7  # spoons are alone


def unit(random: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    vectors = random.standard_normal((rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    """30 items with random vectors of 8 values by one model, and 29 of them with vectors of 6 by another."""
    random = np.random.default_rng(3)
    old, new = unit(random, 30, 8), unit(random, 30, 6)
    names = [f"{number:02}.jpg" for number in range(30)]
    with Catalogue.create(tmp_path, gallery=tmp_path, fingerprint="01d", dimension=8) as made:
        made.compare(PhotoFile(name, label, 1, 1) for name, label in zip(names, LABELS, strict=True))
        made.record([(name, embedded(row, old)) for row, name in enumerate(names)])
        model = made.add_model("2e3", 6)
        assert made.add_vectors(model, [(name, embedded(row, new)) for row, name in enumerate(names[:29])]) == []
        yield made


def embedded(row: int, vectors: np.ndarray) -> EmbeddedPhoto:
    return EmbeddedPhoto(Path("unused"), row.to_bytes(20), vectors[row], norm=1.0, width=1, height=1)


def both(catalogue: Catalogue) -> tuple[Model, Model]:
    old, new = catalogue.models()
    return old, new


def by_hand(catalogue: Catalogue, k: int) -> tuple[list[list[int]], list[list[int]]]:
    """The k nearest of each of the first 29 items among these, by either model, in plain loops."""
    found = []
    for model in both(catalogue):
        with catalogue.vectors(model) as vectors:
            pages = list(vectors.pages())
        stored = {int(i): v for ids, page in pages for i, v in zip(ids, page, strict=True) if i <= 29}
        ranked = [
            sorted((other for other in stored if other != own), key=lambda other, own=own: -float(stored[own] @ stored[other]))
            for own in sorted(stored)
        ]
        found.append([one[:k] for one in ranked])
    return found[0], found[1]


def test_agreement_and_precision_are_those_of_plain_loops(catalogue: Catalogue) -> None:
    found = compare_models(catalogue, *both(catalogue))
    old, new = by_hand(catalogue, 10)
    assert found.neighbours is not None
    assert (found.sampled, found.labelled) == (29, 22)
    shares = [len(set(one) & set(other)) / 10 for one, other in zip(old, new, strict=True)]
    assert found.neighbours.mean == pytest.approx(np.mean(shares))
    for k, precision in ((1, found.precision_at_1), (10, found.precision_at_10)):
        assert precision is not None
        expected = [[sum(LABELS[i - 1] == LABELS[own] for i in rows[own][:k]) / k for own in range(22)] for rows in (old, new)]
        assert precision.old.mean == pytest.approx(np.mean(expected[0]))
        assert precision.new.mean == pytest.approx(np.mean(expected[1]))
        differences = np.subtract(expected[1], expected[0])
        half = 1.96 * differences.std() / np.sqrt(22)
        assert precision.difference.mean == pytest.approx(differences.mean())
        assert precision.difference.high - precision.difference.low == pytest.approx(2 * half)


def test_intervals_are_wilsons(catalogue: Catalogue) -> None:
    """With the limits solved for: where the mean is 1.96 standard deviations of that limit away from it."""
    found = compare_models(catalogue, *both(catalogue)).neighbours
    assert found is not None
    for limit in (found.low, found.high):
        assert abs(found.mean - limit) == pytest.approx(1.96 * np.sqrt(limit * (1 - limit) / 29), rel=1e-6)


def test_a_model_agrees_with_itself(catalogue: Catalogue) -> None:
    old, _ = both(catalogue)
    found = compare_models(catalogue, old, old)
    assert found.neighbours is not None
    assert found.neighbours.mean == found.neighbours.high == 1
    assert found.neighbours.low < 1, "a sample of 30 is no proof"
    assert found.precision_at_1 is not None
    assert (found.precision_at_1.difference.low, found.precision_at_1.difference.high) == (0, 0)


def test_a_sample_is_taken_of_many_and_is_the_same_each_time(catalogue: Catalogue) -> None:
    one, again = (compare_models(catalogue, *both(catalogue), sample=9) for _ in range(2))
    assert one == again
    assert one.sampled == 9
    assert compare_models(catalogue, *both(catalogue), sample=9, seed=1) != one


def test_too_few_items_have_nothing_to_compare(catalogue: Catalogue) -> None:
    old, _ = both(catalogue)
    assert compare_models(catalogue, old, catalogue.add_model("3e4", 6)) == Agreement(0, None, 0, None, None)
