"""``hdml index --migrate``: an index changed over to another encoder, compared, and changed back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from indexing.catalogue import Catalogue
from tests.cli.conftest import Command
from tests.conftest import TINY, write_tiny_encoder

NEW = replace(TINY, fingerprint="0ther00000000000", dimension=48)


@pytest.fixture
def indexed(hdml: Command, photos: Path, workspace: Path) -> Path:
    """The index of 20 photos by the run tiny, and a later run, new."""
    assert hdml("index", photos).code == 0
    run = workspace / "runs" / "new"
    run.mkdir()
    write_tiny_encoder(run / "encoder.onnx", NEW, seed=1)
    (run / "run.json").write_text(json.dumps({"finished": "2026-02-01T00:00:00+00:00"}))
    return workspace / "indexes" / "photos"


def test_migrate_compares_swaps_and_says_how_to_go_back(hdml: Command, indexed: Path, photos: Path) -> None:
    done = hdml("index", photos, "--migrate")
    assert "20 photos embedded by 0ther00000000000" in done.stdout
    assert "Of the ten nearest of 20 photos, both find " in done.stdout
    assert "Label precision@1 of 20 photos: before 100.0% (" in done.stdout
    back = f"hdml index {photos} --migrate --encoder {TINY.fingerprint}"
    assert f"Swapped: searches go by 0ther00000000000 now. Back: {back}" in done.stdout
    assert hdml("search", photos / "red-right" / "0.jpg", "--json").json["model"] == NEW.fingerprint
    answer = hdml(*back.split()[1:], "--json").json["migration"]
    assert (answer["old"], answer["new"], answer["embedded"]) == (NEW.fingerprint, TINY.fingerprint, 0)
    assert hdml("search", photos / "red-right" / "0.jpg", "--json").json["model"] == TINY.fingerprint
    assert f"Searches go by {TINY.fingerprint} already." in hdml(*back.split()[1:]).stdout


def test_migrate_indexes_what_is_new_on_the_way(hdml: Command, indexed: Path, photos: Path) -> None:
    (photos / "red-right" / "0.jpg").replace(photos / "moved.jpg")
    (photos / "note.jpg").write_text("a note")
    answer = hdml("index", photos, "--migrate", "--encoder", "new", "--remove", "blue-*", "--json").json
    assert (answer["moved"], answer["removed"], len(answer["failed"])) == (1, 10, 1)
    assert answer["migration"]["embedded"] == 10
    assert answer["migration"]["failed"] == []
    assert answer["migration"]["agreement"]["sampled"] == 10


def test_no_swap_leaves_the_new_vectors_beside_and_info_tells_of_them(hdml: Command, indexed: Path, photos: Path) -> None:
    done = hdml("index", photos, "--migrate", "--no-swap")
    swap = f"hdml index {photos} --migrate --encoder {NEW.fingerprint}"
    assert f"Not swapped: searches go by {TINY.fingerprint}. To swap: {swap}" in done.stdout
    assert hdml("search", photos / "red-right" / "0.jpg", "--json").json["model"] == TINY.fingerprint
    answer = hdml("info", "--json").json
    assert [(model["fingerprint"], model["vectors"], model["live"]) for model in answer["models"]] == [
        (TINY.fingerprint, 20, True),
        (NEW.fingerprint, 20, False),
    ]
    assert (answer["migration"]["embedded"], answer["migration"]["swapped"]) == (20, False)
    assert "0ther00000000000 (20 vectors)" in hdml("info").stdout
    assert hdml(*swap.split()[1:], "--json").json["migration"]["swapped"] is True


def test_gc_tells_which_models_it_forgets(hdml: Command, indexed: Path, photos: Path) -> None:
    hdml("index", photos, "--migrate")
    done = hdml("gc")
    assert f"models that are not searched by were forgotten: {TINY.fingerprint}" in done.stdout
    with Catalogue(indexed) as catalogue:
        assert [model.fingerprint for model in catalogue.models()] == [NEW.fingerprint]
    assert hdml("index", photos, "--json").json["unchanged"] == 20
    assert hdml("index", "--verify", "--json").json["faults"] == []
    assert hdml("search", photos / "red-right" / "0.jpg", "-k", 1, "--json").json["results"][0]["path"] == "red-right/0.jpg"


def test_migrate_without_an_index_or_an_encoder_says_so(hdml: Command, photos: Path, workspace: Path) -> None:
    assert "how --migrate ends" in hdml("index", photos, "--no-swap").stderr
    assert f"--migrate needs an index to change over, but {photos} has none" in hdml("index", photos, "--migrate").sentence
    hdml("index", photos)
    assert "but absent is neither" in hdml("index", photos, "--migrate", "--encoder", "absent").sentence
