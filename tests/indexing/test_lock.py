"""The lock of an index: one indexer at a time, whatever searchers ask, and nothing left of a process that was killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from indexing.errors import HdmlError
from indexing.lock import LOCK, indexing_alone, is_being_indexed

HOLD = """
import sys, time
from pathlib import Path
from indexing.lock import indexing_alone

with indexing_alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_holds_it_and_its_end_frees_it_however_it_comes(tmp_path: Path) -> None:
    assert not is_being_indexed(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_being_indexed(tmp_path)
        with pytest.raises(HdmlError, match=rf"{tmp_path.name} is being indexed by another process \(.*\); wait for it"):
            indexing_alone(tmp_path).__enter__()
        holder.send_signal(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    assert not is_being_indexed(tmp_path)
    with indexing_alone(tmp_path):
        assert is_being_indexed(tmp_path)
    assert not is_being_indexed(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="it knows no shared locks")
def test_an_indexer_outwaits_searchers_that_ask(tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / LOCK).open("wb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        threading.Timer(0.1, asking.close).start()
        with indexing_alone(tmp_path):
            assert asking.closed


@pytest.mark.skipif(sys.platform == "win32", reason="it knows no shared locks")
def test_searchers_that_ask_at_once_do_not_take_each_other_for_an_indexer(tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / LOCK).open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not is_being_indexed(tmp_path)


def test_a_place_where_no_folder_can_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HdmlError, match=r"the index .*inner cannot be made or written: Not a directory"):
        indexing_alone(tmp_path / "file" / "inner").__enter__()


def test_whoever_has_to_wait_is_told_who_holds_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        today = datetime.now(UTC).date()
        with pytest.raises(HdmlError) as refused:
            indexing_alone(tmp_path).__enter__()
        holder.kill()
    for part in (f"-c {tmp_path}: process {holder.pid} on {socket.gethostname()}, since", f"since {today}"):
        assert part in str(refused.value)


@pytest.mark.parametrize("written", ["", "torn {", "[]", '{"pid": "many"}', "a killed one's"])
def test_a_holder_that_cannot_be_known_is_not_named(tmp_path: Path, written: str) -> None:
    """As between taking the lock and signing it, when the file still tells of one that was killed."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        dead.wait()
    about = {"pid": dead.pid, "host": socket.gethostname(), "command": "hdml index", "since": "2026-01-01"}
    with indexing_alone(tmp_path):
        (tmp_path / LOCK).write_text(json.dumps(about) if written == "a killed one's" else written)
        with pytest.raises(HdmlError, match=r"is being indexed by another process; wait for it"):
            indexing_alone(tmp_path).__enter__()


def test_a_lock_that_tells_of_a_dead_holder_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == holder.pid
    assert not is_being_indexed(tmp_path)
    with indexing_alone(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
