"""Generations: a base and what has changed since answer as one index of the catalogue's present vectors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexing.catalogue import Catalogue
from indexing.gallery import PhotoFile
from indexing.generation import Generation, next_generation, open_generation
from indexing.index import cache_path, cached_sequences, save_cache
from indexing.kinds import Plan, build_base
from indexing.lock import indexing_alone
from indexing.recording import EmbeddedPhoto

DIMENSION = 8


def embedded(seed: int) -> EmbeddedPhoto:
    vector = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    vector /= np.linalg.norm(vector)
    return EmbeddedPhoto(Path("unused"), seed.to_bytes(20), vector, norm=1.0, width=1, height=1)


class Gallery:
    """Photos by name, each with the seed of its vector, and the catalogue that is brought up to date with them."""

    def __init__(self, index_dir: Path, *, size: int = 40) -> None:
        index_dir.mkdir(parents=True)
        self.index_dir = index_dir
        self.seeds = {f"{number}.jpg": number for number in range(size)}
        self.catalogue = Catalogue.create(index_dir, gallery=index_dir, fingerprint="f00d", dimension=DIMENSION)
        self.update()

    def update(self) -> None:
        self.catalogue.compare(PhotoFile(name, None, 1, seed) for name, seed in sorted(self.seeds.items()))
        self.catalogue.settle()
        self.catalogue.record([(name, embedded(self.seeds[name])) for name in self.catalogue.pending()])

    def merge(self) -> None:
        with self.catalogue.vectors() as vectors:
            save_cache(*build_base(vectors, Plan()), self.index_dir, vectors.sequence)

    def open(self) -> Generation:
        return open_generation(self.index_dir, self.catalogue, "cpu")

    def check(self, generation: Generation) -> None:
        """It finds what comparing with every item finds."""
        items = self.catalogue.items()
        assert generation.size == len(items)
        assert generation.sequence == self.catalogue.sequence()
        for seed in (3, 1000):
            query = embedded(seed).vector
            expected = sorted(((float(item.vector @ query), -item.id) for item in items), reverse=True)
            ids, scores = generation.search(query, 10)
            assert ids == [-item_id for _, item_id in expected[:10]]
            np.testing.assert_allclose(scores, [score for score, _ in expected[:10]], atol=1e-6)


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    made = Gallery(tmp_path / "index")
    made.merge()
    yield made
    made.catalogue.close()


def change(gallery: Gallery) -> None:
    """Some are gone, some have other vectors, some are new."""
    for number in (0, 1, 2):
        del gallery.seeds[f"{number}.jpg"]
    gallery.seeds |= {"5.jpg": 505, "6.jpg": 606, "new.jpg": 700, "newer.jpg": 701}
    gallery.update()


def test_what_has_changed_since_the_base_is_found_and_what_is_gone_is_not(gallery: Gallery) -> None:
    before = gallery.open()
    gallery.check(before)
    change(gallery)
    assert cached_sequences(gallery.index_dir) == [before.sequence]
    gallery.check(next_generation(before, gallery.index_dir, gallery.catalogue, "cpu"))
    gallery.check(gallery.open())


def test_many_searches_at_once_answer_as_one_by_one(gallery: Gallery) -> None:
    change(gallery)
    generation = gallery.open()
    queries = np.stack([embedded(seed).vector for seed in range(2000, 2030)])
    for k in (1, 10, 60):  # there are fewer than 60
        ids, scores = generation.search_many(queries, k)
        assert ids.shape == scores.shape == (30, k)
        for row, query in enumerate(queries):
            expected_ids, expected = generation.search(query, k)
            found = ids[row] >= 0
            assert ids[row][found].tolist() == expected_ids
            np.testing.assert_allclose(scores[row][found], expected, atol=1e-6)
            assert np.isneginf(scores[row][~found]).all()


def test_a_generation_never_changes_and_the_same_one_serves_while_nothing_does(gallery: Gallery) -> None:
    before = gallery.open()
    found = before.search(embedded(3).vector, 40)
    change(gallery)
    assert before.search(embedded(3).vector, 40) == found
    after = next_generation(before, gallery.index_dir, gallery.catalogue, "cpu")
    assert next_generation(after, gallery.index_dir, gallery.catalogue, "cpu") is after


def test_a_new_base_is_taken_up_and_answers_the_same(gallery: Gallery) -> None:
    change(gallery)
    before = gallery.open()
    gallery.merge()
    after = next_generation(before, gallery.index_dir, gallery.catalogue, "cpu")
    assert (before.is_base, after.is_base) == (False, True)
    gallery.check(after)
    query = embedded(3).vector
    assert after.search(query, 40) == before.search(query, 40)


def test_an_item_that_failed_and_is_gone_for_good_is_not_found_in_an_old_base(gallery: Gallery) -> None:
    before = gallery.open()
    changed = {name: seed + 1000 * (name == "7.jpg") for name, seed in sorted(gallery.seeds.items())}
    gallery.catalogue.compare(PhotoFile(name, None, 1, seed) for name, seed in changed.items())
    gallery.catalogue.record([("7.jpg", EmbeddedPhoto(Path("unused"), reason="torn"))])
    del gallery.seeds["7.jpg"]
    gallery.update()
    assert gallery.catalogue.failures() == []
    gallery.check(next_generation(before, gallery.index_dir, gallery.catalogue, "cpu"))
    gallery.check(gallery.open())


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"x" * len(data)])
def test_a_damaged_or_missing_base_is_built_again(damage, gallery: Gallery) -> None:
    base = cache_path(gallery.index_dir, gallery.catalogue.sequence())
    whole = base.read_bytes()
    base.write_bytes(damage(whole))
    gallery.check(gallery.open())
    assert base.read_bytes() == whole
    base.unlink()
    gallery.check(gallery.open())
    assert base.read_bytes() == whole


def test_while_a_process_is_indexing_no_base_is_written(gallery: Gallery) -> None:
    cache_path(gallery.index_dir, gallery.catalogue.sequence()).unlink()
    with indexing_alone(gallery.index_dir):
        gallery.check(gallery.open())
        assert cached_sequences(gallery.index_dir) == []
    gallery.check(gallery.open())
    assert cached_sequences(gallery.index_dir) == [gallery.catalogue.sequence()]


def test_a_base_from_after_the_catalogues_last_change_is_not_believed(gallery: Gallery) -> None:
    """A power failure may take the latest changes of a catalogue, whose numbers are then given to others."""
    base = cache_path(gallery.index_dir, gallery.catalogue.sequence())
    base.rename(cache_path(gallery.index_dir, gallery.catalogue.sequence() + 5))
    assert gallery.open().base.sequence == gallery.catalogue.sequence()


_NAMES = st.integers(0, 11).map("{}.jpg".format)
_STEP = st.one_of(
    st.tuples(st.just("put"), _NAMES, st.integers(0, 15)),  # few seeds, so that copies, moves and swaps happen
    st.tuples(st.just("remove"), _NAMES, st.just(0)),
    st.tuples(st.sampled_from(["update", "merge", "search", "reopen"]), st.just(""), st.just(0)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEP, max_size=30))
def test_any_sequence_of_changes_is_found_as_in_a_fresh_index(steps: list[tuple[str, str, int]], tmp_path_factory) -> None:
    gallery = Gallery(tmp_path_factory.mktemp("any") / "index", size=4)
    generation = gallery.open()
    for what, name, seed in [*steps, ("update", "", 0), ("search", "", 0)]:
        match what:
            case "put":
                gallery.seeds[name] = seed
            case "remove":
                gallery.seeds.pop(name, None)
            case "update":
                gallery.update()
            case "merge":
                gallery.merge()
            case "reopen":
                generation = gallery.open()
            case "search":
                generation = next_generation(generation, gallery.index_dir, gallery.catalogue, "cpu")
                if generation.size:
                    gallery.check(generation)
    found = {item.path: item.vector.tobytes() for item in gallery.catalogue.items()}
    assert found == {name: embedded(seed).vector.tobytes() for name, seed in gallery.seeds.items()}
    gallery.catalogue.close()
