from pathlib import Path

import pytest

import indexing.memory
from indexing.memory import available_memory


def test_container_limit_bounds_what_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing.memory, "_CGROUP", tmp_path)
    free = available_memory()
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert available_memory() == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() == pytest.approx(free, rel=0.5)
