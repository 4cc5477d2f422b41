import subprocess
import sys
from pathlib import Path

import pytest

import indexing.memory
from indexing.memory import available_memory

KEPT = """
import sys
import numpy as np
from indexing.memory import return_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

if "return" in sys.argv:
    return_freed_memory()
np.ones(30_000_000, np.uint8)
before = resident()
blocks = [np.ones(10_000_000, np.uint8) for _ in range(4)]
del blocks
print(resident() - before)
"""


def test_container_limit_bounds_what_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing.memory, "_CGROUP", tmp_path)
    free = available_memory()
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert available_memory() == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() == pytest.approx(free, rel=0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed memory like this")
def test_freed_memory_goes_back_to_the_system() -> None:
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", KEPT, *asked], check=True, capture_output=True).stdout)
        for asked in ([], ["return"])
    )
    assert returned < 2_000_000 < kept
