"""What the processor is told to be capable of."""

from pathlib import Path

import pytest

from indexing.device import has_vnni


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f avx512_vnni", True),
        ("fpu avx2 avx_vnni", True),
        ("fpu avx2 avx512f", False),
        ("fpu avx512_vnni_like", False),
    ],
)
def test_vnni_is_read_from_the_flags(tmp_path: Path, flags: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: avx_vnni\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    assert has_vnni(tmp_path / "cpuinfo") is expected


def test_no_flags_are_no_vnni(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert not has_vnni(tmp_path / "cpuinfo")
    assert not has_vnni(tmp_path / "absent")
