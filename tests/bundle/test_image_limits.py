"""Images that are too large, or only cost time, are refused before they are decoded."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable

import pytest
from PIL import Image

from bundle.image import ImageError, ImageLimits, decode_image
from bundle.image_header import MAX_CHUNKS
from bundle.jpeg import MAX_SCANS, MAX_SEGMENTS
from tests.bundle.encoded_images import (
    RGB,
    chunk,
    encode,
    huge_jpeg,
    huge_png,
    huge_webp,
    noise,
    png,
)

LIMITS = ImageLimits()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (huge_png(65535, 65535), "65535 x 65535 pixels is over the limit of 16384 per side"),
        (huge_jpeg(65535, 65535), "65535 x 65535 pixels is over the limit of 16384 per side"),
        (huge_webp(2**24, 2**8), "16777216 x 256 pixels is over the limit of 16384 per side"),
        (huge_png(1, 100_000), "1 x 100000 pixels is over the limit of 16384 per side"),
        (huge_png(2**31 - 1, 1), "2147483647 x 1 pixels is over the limit of 16384 per side"),
        (huge_jpeg(8000, 5001), "8000 x 5001 pixels is over the limit of 40000000 in all"),
        (huge_webp(16000, 16000), "16000 x 16000 pixels is over the limit of 40000000 in all"),
    ],
)
def test_size_is_refused_from_the_header(
    data: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda *a, **k: opened.append(a) or real(*a, **k))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        with pytest.raises(ImageError, match=f"^image: {re.escape(message)}$"):
            decode_image(data, LIMITS)
        times.append(time.perf_counter() - start)
    assert not opened
    assert min(times) < 0.005


def test_limits_are_inclusive() -> None:
    data = encode(noise(20, 10), "PNG")
    assert decode_image(data, ImageLimits(bytes=len(data), pixels=200, side=20)).size == (20, 10)
    for limits, words in (
        (ImageLimits(bytes=len(data) - 1), "bytes is over"),
        (ImageLimits(pixels=199), "199 in all"),
        (ImageLimits(side=19), "19 per side"),
    ):
        with pytest.raises(ImageError, match=words):
            decode_image(data, limits)


def test_the_size_that_the_decoder_finds_counts_too() -> None:
    # the canvas says 8 x 8, the frame inside is larger
    frame = encode(noise(64, 64), "WEBP", lossless=True)[12:]
    parts = huge_webp(8, 8)[8:] + frame
    data = b"RIFF" + struct.pack("<I", len(parts)) + parts
    with pytest.raises(ImageError):
        decode_image(data, LIMITS)


def _many_chunks() -> bytes:
    return png(1, 1, depth=8, colour=RGB, rows=[b"abc"], extra=chunk(b"teSt", b"") * MAX_CHUNKS)


def _many_segments() -> bytes:
    data = encode(noise(8, 8), "JPEG")
    return data[:2] + b"\xff\xfe\x00\x02" * MAX_SEGMENTS + data[2:]


def _many_scans() -> bytes:
    data = encode(noise(8, 8), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * (MAX_SCANS + 1) + data[-2:]


@pytest.mark.parametrize("make", [_many_chunks, _many_segments, _many_scans])
def test_files_that_only_cost_time_are_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(ImageError, match="truncated or corrupt"):
        decode_image(make(), LIMITS)
