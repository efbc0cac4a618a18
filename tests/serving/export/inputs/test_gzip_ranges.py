"""Bytes of a gzip file, from any place and in any order."""

from __future__ import annotations

import contextlib
import gzip
import random
import zlib
from pathlib import Path

import pytest

from serving.export.inputs import _gzip_ranges
from serving.export.inputs._gzip_ranges import GzipRanges
from serving.storage.location import Location


def test_ranges_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gzip_ranges, "CHUNK_BYTES", 512)
    monkeypatch.setattr(_gzip_ranges, "CHECKPOINT_BYTES", 4096)
    rng = random.Random(0)
    data = rng.randbytes(30_000) + bytes(50_000) + rng.randbytes(5_000)
    file = tmp_path / "x.gz"
    file.write_bytes(gzip.compress(data[:20_000]) + gzip.compress(data[20_000:]))  # two in one file
    ranges = GzipRanges(Location.parse(str(file)))
    for _ in range(60):
        start = rng.randrange(len(data))
        end = min(len(data), start + rng.randrange(3000))
        assert ranges.read(start, end) == data[start:end]
    assert ranges.read(len(data) - 5, len(data) + 5) == data[-5:]
    assert len(ranges._checkpoints) > 5


def test_a_damaged_file_gives_what_is_before_the_damage(tmp_path: Path) -> None:
    data = random.Random(0).randbytes(100_000)
    packed = bytearray(gzip.compress(data))
    packed[60_000:] = b"\xff" * 100
    (tmp_path / "x.gz").write_bytes(packed)
    ranges = GzipRanges(Location.parse(str(tmp_path / "x.gz")))
    assert ranges.read(100, 200) == data[100:200]
    with contextlib.suppress(zlib.error):
        assert len(ranges.read(90_000, 90_100)) < 100
