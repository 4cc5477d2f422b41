"""``hdml demo``: the whole path on a small part of the built-in set, run twice."""

from functools import partial
from pathlib import Path

import pytest

import hdml.butterflies as built_in
from cli import demo
from hdml.run import read_record
from tests.cli.conftest import Command


@pytest.fixture
def small_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight species of four photos and small images instead of the whole set."""
    monkeypatch.setattr(built_in, "write_butterflies", partial(built_in.write_butterflies, species=8, images=4, size=40))
    monkeypatch.setattr(demo, "IMAGE_SIZE", 32)


@pytest.mark.usefixtures("small_set")
def test_demo_trains_indexes_and_searches_and_the_second_time_only_searches(hdml: Command, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    first = hdml("demo", "--no-serve", "--steps", 1)
    assert first.code == 0, first.stderr
    record = read_record(workspace / "runs" / "butterflies")
    assert (record["status"], record["measured_on"], record["after"]["classes"]) == ("finished", "test", 4)
    assert f"Wrote {workspace / 'indexes' / 'butterflies'}: 32 added" in first.stdout
    query = sorted((workspace / "butterflies").rglob("*.jpg"))[-1]
    shown = first.stdout.split(f"The photos most like {query}:\n")[1].splitlines()
    assert len(shown) == 5
    name = query.relative_to(workspace / "butterflies").as_posix()
    assert shown[0] == f"1.0000  {query.parent.name}  {name}"

    second = hdml("demo", "--no-serve", "--steps", 1)
    assert second.code == 0
    assert f"The demo's run {workspace / 'runs' / 'butterflies'} is finished; remove {workspace} to start anew." in second.stdout
    assert "0 added, 0 updated, 0 moved, 0 removed, 32 unchanged" in second.stdout
    assert second.stdout.splitlines()[-5:] == shown
    assert read_record(workspace / "runs" / "butterflies") == record
