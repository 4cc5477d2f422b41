"""Checksums: what they are of, and which damage of a large file is seen without reading all of it."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from indexing.checksum import checksum

MEBIBYTE = 1 << 20


def test_a_checksum_is_the_crc_of_what_is_said_the_length_and_the_content(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(3 * MEBIBYTE + 17)
    file = tmp_path / "file"
    file.write_bytes(content)
    for end in (len(content), 2 * MEBIBYTE, 5, 0):
        expected = zlib.crc32(b"about" + str(end).encode() + content[:end])
        assert {checksum(file, b"about", end=end, whole=whole) for whole in (True, False)} == {expected}
    assert checksum(file, whole=False) == zlib.crc32(str(len(content)).encode() + content)


@pytest.mark.parametrize(("place", "seen_in_pieces"), [(0, True), (1, True), (1.2 * MEBIBYTE, False), (100 * MEBIBYTE - 1, True)])
def test_of_a_large_file_pieces_are_read_from_its_first_byte_to_its_last(
    tmp_path: Path, place: float, seen_in_pieces: bool
) -> None:
    file = tmp_path / "file"
    with file.open("wb") as sparse:
        sparse.truncate(100 * MEBIBYTE)
    before = {whole: checksum(file, whole=whole) for whole in (True, False)}
    with file.open("r+b") as damaged:
        damaged.seek(int(place))
        damaged.write(b"\1")
    assert checksum(file, whole=True) != before[True]
    assert (checksum(file, whole=False) != before[False]) == seen_in_pieces
