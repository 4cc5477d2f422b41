"""Changing an index over to another encoder: nothing is lost or mixed, whatever happens meanwhile and wherever it is killed."""

import io
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from indexing.catalogue import Catalogue
from indexing.encoder import Encoder
from indexing.errors import HdmlError
from indexing.gallery import Failure
from indexing.hardness import HardnessLens, NoLens
from indexing.index import cached_sequences, remove_caches, sequences_of
from indexing.indexer import Progress, update_index
from indexing.lock import indexing_alone
from indexing.migration import migrate_index
from indexing.search import OpenIndex
from indexing.upkeep import collect_garbage, verify_index
from tests.conftest import TINY, write_tiny_encoder, write_tiny_synthesizer

# As long as the first, so that only the numbers tell their vectors apart, and longer.
OTHER = replace(TINY, fingerprint="0ther00000000000")
WIDE = replace(TINY, fingerprint="w1de000000000000", dimension=48)
MIGRATE = """
import os, signal, sys
from pathlib import Path
import indexing.migration
from indexing.catalogue import Catalogue

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

match sys.argv[3]:
    case "before the base":
        indexing.migration.save_cache = die
    case "before the swap":
        Catalogue.swap = die
    case "after the swap":
        swap = Catalogue.swap
        Catalogue.swap = lambda *given, **named: (swap(*given, **named), die())
progress = die if sys.argv[3] == "embedding" else None
indexing.migration.migrate_index(Path(sys.argv[1]), Path(sys.argv[2]), device="cpu", workers=1, progress=progress)
"""


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three encoders by fingerprint."""
    folder = tmp_path_factory.mktemp("encoders")
    made = [(TINY, 0), (OTHER, 1), (WIDE, 2)]
    for about, seed in made:
        (folder / about.fingerprint).mkdir()
        write_tiny_encoder(folder / about.fingerprint / "encoder.onnx", about, seed=seed)
    return {about.fingerprint: folder / about.fingerprint / "encoder.onnx" for about, _ in made}


@pytest.fixture
def index_dir(photos: Path, tmp_path: Path, encoders: dict[str, Path]) -> Path:
    """The index of 20 photos by TINY."""
    update_index(photos, tmp_path / "index", encoders[TINY.fingerprint], device="cpu")
    return tmp_path / "index"


def check_vectors(index_dir: Path, encoders: dict[str, Path], *, searched_by: str) -> None:
    """Every searchable item has the vector that the live encoder gives of its file, and no vector of another that it does not."""
    with Catalogue(index_dir) as catalogue:
        items, gallery = catalogue.items(), catalogue.about().gallery
        assert {item.model for item in items} <= {searched_by}
        assert len(items) == catalogue.count()
        for model in catalogue.models():
            assert model.live == (model.fingerprint == searched_by)
            encoder = Encoder(encoders[model.fingerprint], device="cpu")
            paths = {item.id: item.path for item in items}
            with catalogue.vectors(model) as vectors:
                pages = [(ids.copy(), page.copy()) for ids, page in vectors.pages()]
            assert vectors.count == sum(len(ids) for ids, _ in pages)
            for ids, page in pages:
                for item_id, vector in zip(ids.tolist(), page, strict=True):
                    expected, _ = encoder.encode_photo(gallery / paths[item_id])
                    np.testing.assert_allclose(vector, expected, atol=1e-5)


def check_searches(opened: OpenIndex, encoders: dict[str, Path]) -> None:
    """Every photo finds what comparing with all the vectors of the live encoder finds."""
    items, encoder = opened.catalogue.items(), Encoder(encoders[opened.present().model], device="cpu")
    for item in items[:3]:
        query, _ = encoder.encode_photo(opened.gallery / item.path)
        scores = sorted((float(other.vector @ query) for other in items), reverse=True)
        found = opened.search_photo(opened.gallery / item.path, k=len(items))
        np.testing.assert_allclose([result.score for result in found], scores, atol=1e-5)
        assert len(opened.search_item(item.id, k=len(items))) == len(items) - 1


def test_searches_go_by_the_old_encoder_until_the_swap_and_by_the_new_one_after_it(
    photos: Path, index_dir: Path, encoders: dict[str, Path]
) -> None:
    seen: list[str] = []
    with OpenIndex(index_dir, device="cpu") as opened:

        def look(progress: Progress) -> None:
            check_searches(opened, encoders)
            seen.append(opened.model)

        ids = {item.path: item.id for item in opened.catalogue.items()}
        done = migrate_index(index_dir, encoders[WIDE.fingerprint], device="cpu", progress=look)
        assert seen
        assert set(seen) == {TINY.fingerprint}
        assert (done.old, done.new, done.embedded) == (TINY.fingerprint, WIDE.fingerprint, 20)
        assert (done.failed, done.swapped) == ([], True)
        check_searches(opened, encoders)
        assert (opened.model, opened.dimension) == (WIDE.fingerprint, 48)
        assert {item.path: item.id for item in opened.catalogue.items()} == ids
    check_vectors(index_dir, encoders, searched_by=WIDE.fingerprint)
    assert verify_index(index_dir).faults == []
    assert verify_index(index_dir).mended == []


def test_the_base_of_the_new_encoder_is_there_at_the_swap(index_dir: Path, encoders: dict[str, Path]) -> None:
    migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu")
    with Catalogue(index_dir) as catalogue:
        assert sequences_of(index_dir, OTHER.fingerprint) == [catalogue.sequence()]
    with indexing_alone(index_dir), OpenIndex(index_dir, device="cpu") as opened:
        assert opened.present().is_base


def test_without_its_base_nothing_is_searched_in_the_base_of_another_encoder(
    photos: Path, index_dir: Path, encoders: dict[str, Path]
) -> None:
    (old,) = cached_sequences(index_dir)
    with OpenIndex(index_dir, device="cpu") as opened:
        migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu")
        (new,) = sequences_of(index_dir, OTHER.fingerprint)
        assert cached_sequences(index_dir) == [old, new]
        with indexing_alone(index_dir):  # so that no searcher saves one
            remove_caches(index_dir, [new])
            check_searches(opened, encoders)
            with OpenIndex(index_dir, device="cpu") as anew:
                check_searches(anew, encoders)
    update_index(photos, index_dir, device="cpu")
    assert cached_sequences(index_dir) == sequences_of(index_dir, OTHER.fingerprint) == [new]


def test_what_comes_later_is_embedded_by_the_new_encoder(photos: Path, index_dir: Path, encoders: dict[str, Path]) -> None:
    migrate_index(index_dir, encoders[WIDE.fingerprint], device="cpu")
    (photos / "red-right" / "0.jpg").replace(photos / "moved.jpg")
    (photos / "red-right" / "1.jpg").write_bytes((photos / "blue-left" / "1.jpg").read_bytes())
    Image.new("RGB", (40, 40), "navy").save(photos / "new.png")
    report = update_index(photos, index_dir, device="cpu")
    assert (report.added, report.updated, report.moved) == (1, 1, 1)
    check_vectors(index_dir, encoders, searched_by=WIDE.fingerprint)
    with pytest.raises(HdmlError, match=r"with encoder w1de000000000000 \(48-d\).*--migrate --encoder"):
        update_index(photos, index_dir, encoders[TINY.fingerprint], device="cpu")


def test_going_back_embeds_only_what_is_new_since(photos: Path, index_dir: Path, encoders: dict[str, Path]) -> None:
    migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu")
    Image.new("RGB", (40, 40), "navy").save(photos / "new.png")
    (photos / "red-right" / "1.jpg").unlink()
    update_index(photos, index_dir, device="cpu")
    done = migrate_index(index_dir, encoders[TINY.fingerprint], device="cpu")
    assert (done.embedded, done.swapped) == (1, True)
    check_vectors(index_dir, encoders, searched_by=TINY.fingerprint)
    with OpenIndex(index_dir, device="cpu") as opened:
        assert opened.item_count == 20
        check_searches(opened, encoders)


def test_said_again_it_does_nothing(index_dir: Path, encoders: dict[str, Path]) -> None:
    migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu")
    bases = cached_sequences(index_dir)
    again = migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu")
    assert (again.embedded, again.agreement, again.swapped) == (0, None, True)
    assert cached_sequences(index_dir) == bases


def test_without_a_swap_the_new_vectors_wait(index_dir: Path, encoders: dict[str, Path]) -> None:
    waiting = migrate_index(index_dir, encoders[OTHER.fingerprint], swap=False, device="cpu")
    assert (waiting.embedded, waiting.swapped) == (20, False)
    check_vectors(index_dir, encoders, searched_by=TINY.fingerprint)
    done = migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu")
    assert (done.embedded, done.agreement) == (0, waiting.agreement)
    with Catalogue(index_dir) as catalogue:
        assert catalogue.migration() == json.loads(json.dumps(done.to_json()))


def test_a_photo_that_changes_during_a_migration_gets_the_new_vector_of_its_new_bytes(
    photos: Path, index_dir: Path, encoders: dict[str, Path]
) -> None:
    migrate_index(index_dir, encoders[OTHER.fingerprint], swap=False, device="cpu")
    (photos / "red-right" / "1.jpg").write_bytes((photos / "blue-left" / "1.jpg").read_bytes())
    update_index(photos, index_dir, device="cpu")
    check_vectors(index_dir, encoders, searched_by=TINY.fingerprint)
    assert migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu").embedded == 1
    check_vectors(index_dir, encoders, searched_by=OTHER.fingerprint)


def test_photos_that_change_or_go_under_its_hands_are_indexed_first(
    photos: Path, index_dir: Path, encoders: dict[str, Path]
) -> None:
    (photos / "red-right" / "1.jpg").write_bytes((photos / "blue-left" / "1.jpg").read_bytes())
    (photos / "red-right" / "2.jpg").unlink()
    Image.new("RGB", (40, 40), "navy").save(photos / "red-right" / "3.jpg")
    done = migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu")
    assert (done.embedded, done.failed, done.swapped) == (19, [], True)
    check_vectors(index_dir, encoders, searched_by=OTHER.fingerprint)


def test_a_photo_that_cannot_be_embedded_anew_is_told_and_found_again_once_it_can_be(
    photos: Path, tmp_path: Path, index_dir: Path, encoders: dict[str, Path]
) -> None:
    dark = photos / "red-right" / "1.jpg"
    whole, about = dark.read_bytes(), dark.stat()
    dark.write_bytes(b"\0" * len(whole))
    os.utime(dark, ns=(about.st_mtime_ns, about.st_mtime_ns))
    with Catalogue(index_dir) as catalogue:
        lost = catalogue.item_at("red-right/1.jpg").id
    done = migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu")
    (failure,) = done.failed
    assert failure.path == "red-right/1.jpg"
    assert "not in an image format" in failure.reason
    assert done.swapped
    with OpenIndex(index_dir, device="cpu") as opened:
        assert opened.catalogue.failures() == [failure]
        assert opened.item_count == 19
        check_searches(opened, encoders)
    dark.write_bytes(whole)
    update_index(photos, index_dir, device="cpu")
    with Catalogue(index_dir) as catalogue:
        assert catalogue.item_at("red-right/1.jpg").id == lost
    check_vectors(index_dir, encoders, searched_by=OTHER.fingerprint)


def test_a_swap_that_would_lose_many_photos_is_refused(photos: Path, index_dir: Path, encoders: dict[str, Path]) -> None:
    for number in (1, 2):
        path = photos / "red-right" / f"{number}.jpg"
        about = path.stat()
        path.write_bytes(b"\0" * about.st_size)
        os.utime(path, ns=(about.st_mtime_ns, about.st_mtime_ns))
    with pytest.raises(HdmlError, match=r"at most 5% .* but 2 of 20 cannot be embedded anew, the first red-right/1\.jpg: "):
        migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu")
    with OpenIndex(index_dir, device="cpu") as opened:
        assert (opened.model, opened.item_count) == (TINY.fingerprint, 20)
    waiting = migrate_index(index_dir, encoders[OTHER.fingerprint], swap=False, device="cpu")
    assert [failure.path for failure in waiting.failed] == ["red-right/1.jpg", "red-right/2.jpg"]


def test_vectors_that_came_from_a_table_are_not_lost(index_dir: Path, encoders: dict[str, Path]) -> None:
    with Catalogue(index_dir) as catalogue:
        catalogue._connection.execute("UPDATE items SET source = 'table' WHERE id <= 3")
    with pytest.raises(HdmlError, match=r"but 3 of .*index came as vectors from a table"):
        migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu")


def test_a_fingerprint_with_vectors_of_another_length_is_refused(
    index_dir: Path, encoders: dict[str, Path], tmp_path: Path
) -> None:
    migrate_index(index_dir, encoders[OTHER.fingerprint], swap=False, device="cpu")
    wrong = write_tiny_encoder(tmp_path / "wrong.onnx", replace(OTHER, dimension=48), seed=3)
    with pytest.raises(HdmlError, match=r"must give vectors of 32 values, .* but gives 48"):
        migrate_index(index_dir, wrong, device="cpu")


def test_interrupted_it_goes_on_from_there(index_dir: Path, encoders: dict[str, Path]) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu", progress=interrupt)
    check_vectors(index_dir, encoders, searched_by=TINY.fingerprint)
    assert migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu").embedded == 12
    check_vectors(index_dir, encoders, searched_by=OTHER.fingerprint)


@pytest.mark.parametrize("moment", ["embedding", "before the base", "before the swap", "after the swap"])
def test_killed_it_leaves_the_one_or_the_other_and_goes_on(
    moment: str, photos: Path, index_dir: Path, encoders: dict[str, Path]
) -> None:
    command = [sys.executable, "-c", MIGRATE, str(index_dir), str(encoders[OTHER.fingerprint]), moment]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    expected = OTHER if moment == "after the swap" else TINY
    with OpenIndex(index_dir, device="cpu") as opened:
        check_searches(opened, encoders)
        assert opened.model == expected.fingerprint
        assert sequences_of(index_dir, expected.fingerprint), "its base is there all the time"
        (photos / "red-right" / "0.jpg").unlink()  # the next change gets the number that the swap would have had
        update_index(photos, index_dir, device="cpu")
        check_searches(opened, encoders)
        again = migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu")
        assert again.embedded == {"embedding": 11}.get(moment, 0)
        check_searches(opened, encoders)
        assert opened.model == OTHER.fingerprint
    check_vectors(index_dir, encoders, searched_by=OTHER.fingerprint)
    assert verify_index(index_dir).faults == verify_index(index_dir).mended == []


def test_searches_from_many_threads_meet_no_mixture_of_models(photos: Path, index_dir: Path, encoders: dict[str, Path]) -> None:
    """A photo embedded by one encoder would not be its own nearest, with all of the score, among vectors of the other."""
    paths = sorted(photos.rglob("*.jpg"))
    for about in (OTHER, WIDE):
        migrate_index(index_dir, encoders[about.fingerprint], swap=False, device="cpu")
    over = False

    with OpenIndex(index_dir, device="cpu") as opened:
        ids = {item.path: item.id for item in opened.catalogue.items()}

        def search(number: int) -> set[str]:
            models = set()
            while not over:
                path = paths[number % len(paths)]
                number += 1
                (first, *_) = opened.search_photo(path, k=3)
                assert first.path == path.relative_to(photos).as_posix()
                assert first.score == pytest.approx(1, abs=1e-5)
                assert len(opened.search_item(ids[first.path], k=3)) == 3
                models.add(opened.model)
            return models

        with ThreadPoolExecutor(3) as pool:
            searching = [pool.submit(search, 7 * number) for number in range(3)]
            try:
                for about in (OTHER, WIDE, TINY, OTHER):
                    migrate_index(index_dir, encoders[about.fingerprint], device="cpu")
            finally:
                over = True
            models = set.union(*(each.result(timeout=60) for each in searching))
        assert len(models) > 1
        assert opened.present().model == OTHER.fingerprint


def test_gc_forgets_what_is_not_searched_by(photos: Path, index_dir: Path, encoders: dict[str, Path]) -> None:
    for about in (OTHER, WIDE):
        migrate_index(index_dir, encoders[about.fingerprint], device="cpu")
    (index_dir / "models" / "begun").mkdir()
    assert collect_garbage(index_dir).models == [TINY.fingerprint, OTHER.fingerprint]
    with Catalogue(index_dir) as catalogue:
        (model,) = catalogue.models()
    assert (model.fingerprint, model.vectors, model.live) == (WIDE.fingerprint, 20, True)
    assert [path.relative_to(index_dir).as_posix() for path in index_dir.rglob("encoder.onnx")] == [
        f"models/{WIDE.fingerprint}/encoder.onnx"
    ]
    assert sequences_of(index_dir, WIDE.fingerprint) == cached_sequences(index_dir)
    assert collect_garbage(index_dir).models == []
    assert migrate_index(index_dir, encoders[TINY.fingerprint], device="cpu").embedded == 20
    check_vectors(index_dir, encoders, searched_by=TINY.fingerprint)
    assert verify_index(index_dir).faults == []


def test_a_damaged_encoder_of_another_model_is_a_fault_too(index_dir: Path, encoders: dict[str, Path]) -> None:
    migrate_index(index_dir, encoders[OTHER.fingerprint], device="cpu")
    (index_dir / "encoder.onnx").unlink()
    (fault,) = verify_index(index_dir).faults
    assert f"{index_dir / 'encoder.onnx'} must be an ONNX file" in fault


def test_the_lens_is_that_of_the_encoder_that_is_searched_by(
    photos: Path, tmp_path: Path, tiny_run: Path, encoders: dict[str, Path]
) -> None:
    index_dir = tmp_path / "index"
    update_index(photos, index_dir, tiny_run / "encoder.onnx", device="cpu")
    run = tmp_path / "run"
    run.mkdir()
    (run / "encoder.onnx").write_bytes(encoders[OTHER.fingerprint].read_bytes())
    write_tiny_synthesizer(run / "synthesizer.onnx", OTHER)
    with OpenIndex(index_dir, device="cpu") as opened:
        lens = HardnessLens(opened)
        migrate_index(index_dir, run / "encoder.onnx", device="cpu")
        with pytest.raises(NoLens, match="changed over to another model"):
            lens.look(1)
        assert HardnessLens(opened).look(1).anchor.id == 1
        migrate_index(index_dir, encoders[WIDE.fingerprint], device="cpu")
        with pytest.raises(NoLens, match="came without a synthesizer"):
            HardnessLens(opened)


def test_a_vector_of_another_length_is_refused_in_a_sentence(index_dir: Path) -> None:
    with (
        OpenIndex(index_dir, device="cpu") as opened,
        pytest.raises(HdmlError, match="must have 32 values, as its encoder 00c0ffee00c0ffee gives, not 48"),
    ):
        opened.search_vector(np.ones(48, np.float32))


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).resize((40, 36)).save(content, "PNG")
    return content.getvalue()


_CONTENTS = [png(seed) for seed in range(5)] + [b"no photo"]  # few, so that there are copies
_NAMES = st.sampled_from([f"{folder}/{name}.png" for folder in "ab" for name in "cde"])
_FINGERPRINTS = st.sampled_from([TINY.fingerprint, OTHER.fingerprint, WIDE.fingerprint])
_STEP = st.one_of(
    st.tuples(st.just("put"), _NAMES, st.integers(0, len(_CONTENTS) - 1)),
    st.tuples(st.just("move"), _NAMES, _NAMES),
    st.tuples(st.just("remove"), _NAMES, st.just(0)),
    st.tuples(st.sampled_from(["migrate", "begin"]), _FINGERPRINTS, st.just(0)),
    st.tuples(st.sampled_from(["update", "search", "gc"]), st.just(""), st.just(0)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(_STEP, max_size=12))
def test_any_sequence_of_changes_and_migrations_ends_as_a_fresh_index(
    steps: list[tuple[str, str, int | str]], tmp_path_factory: pytest.TempPathFactory, encoders: dict[str, Path]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    gallery, index_dir, model = folder / "gallery", folder / "index", TINY.fingerprint
    put(gallery / "kept.png", _CONTENTS[0], 1)
    update_index(gallery, index_dir, encoders[model], device="cpu", workers=1)
    with OpenIndex(index_dir, device="cpu") as opened:
        for moment, (what, name, given) in enumerate([*steps, ("update", "", 0)], start=2):
            match what:
                case "put":
                    put(gallery / name, _CONTENTS[int(given)], moment)
                case "move" if (gallery / name).exists():
                    put(gallery / str(given), b"", moment)
                    (gallery / name).replace(gallery / str(given))
                case "remove":
                    (gallery / name).unlink(missing_ok=True)
                case "update":
                    update_index(gallery, index_dir, device="cpu", workers=1)
                case "migrate" | "begin":
                    update_index(gallery, index_dir, device="cpu", workers=1)
                    migrate_index(index_dir, encoders[name], swap=what == "migrate", device="cpu", workers=1)
                    model = name if what == "migrate" else model
                case "gc":
                    collect_garbage(index_dir)
                case "search":
                    with suppress(HdmlError):
                        opened.search_photo(gallery / "kept.png", k=3)
        check_searches(opened, encoders)
    check_vectors(index_dir, encoders, searched_by=model)
    update_index(gallery, folder / "fresh", encoders[model], device="cpu", workers=1)
    found, expected = contents(index_dir), contents(folder / "fresh")
    assert found.keys() == expected.keys()
    for path, (label, vector, norm) in expected.items():
        assert found[path][0] == label
        np.testing.assert_allclose(found[path][1], vector, atol=1e-6)
        assert found[path][2] == pytest.approx(norm, rel=1e-5)
    assert failures(index_dir) == failures(folder / "fresh")


def put(path: Path, content: bytes, moment: int) -> None:
    """Write a file whose time is that of no other, as files have that do not come within one tick of the clock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(moment * 10**9, moment * 10**9))


def contents(index_dir: Path) -> dict[str, tuple[str | None, np.ndarray, float]]:
    with Catalogue(index_dir) as catalogue:
        return {item.path: (item.label, item.vector, item.norm) for item in catalogue.items()}


def failures(index_dir: Path) -> list[Failure]:
    with Catalogue(index_dir) as catalogue:
        return catalogue.failures()
