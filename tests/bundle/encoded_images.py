"""Encoded images for the tests, also those that no encoder would write."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
"""PNG colour types."""


def chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, *, depth: int, colour: int, rows: list[bytes], extra: bytes = b""
) -> bytes:
    """A PNG of unfiltered rows; `extra` are chunks that go before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    magic = b"\x89PNG\r\n\x1a\n"
    parts = (chunk(b"IHDR", header), extra, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return magic + b"".join(parts)


def huge_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no such pixels."""
    return png(width, height, depth=8, colour=RGB, rows=[b"\0\0\0"])


def huge_jpeg(width: int, height: int) -> bytes:
    """A JPEG whose frame header claims a size."""
    data = bytearray(encode(noise(16, 16), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def huge_webp(width: int, height: int) -> bytes:
    """A WebP whose canvas claims a size."""
    body = b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    parts = b"WEBPVP8X" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(parts)) + parts


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Random pixels of a mode with 1, 2, 3 or 4 bytes a pixel."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (height, width) if bands == 1 else (height, width, bands)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def smooth(width: int, height: int) -> Image.Image:
    """A colour gradient, which lossy formats keep to within a few levels."""
    y, x = np.mgrid[0:height, 0:width]
    bands = (255 * x / max(1, width - 1), 255 * y / max(1, height - 1), 128 + 0 * x)
    return Image.fromarray(np.stack(bands, axis=-1).astype(np.uint8))


def exif(orientation: int) -> Image.Exif:
    """An EXIF block of one tag."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block
