"""The lock of an index: one indexer at a time, whatever searchers ask, and nothing left of a process that was killed."""

import signal
import subprocess
import sys
import threading
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
        with pytest.raises(HdmlError, match=f"{tmp_path.name} is being indexed by another process; wait for it"):
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
