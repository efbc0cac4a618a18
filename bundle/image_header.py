"""The format and size of an image, read from its first bytes before any decoder sees it."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

MAX_SEGMENTS = 16_384
"""JPEG segments or PNG chunks of a file. Pillow walks them in Python, so millions cost seconds."""

MAX_SCANS = 100
"""Scans of a progressive JPEG. Encoders write about ten; each passes over the whole image."""


class HeaderError(ValueError):
    """Bytes that are no complete header of their format."""


class ImageHeader(NamedTuple):
    """The size in pixels, as stored: before any rotation by EXIF."""

    width: int
    height: int
    frames: int = 1


def read_header(data: bytes, format_name: str) -> ImageHeader:
    """Reads the size. Raises HeaderError when the header is cut short or makes no sense."""
    read_size = {"JPEG": _jpeg_size, "PNG": _png_size, "WEBP": _webp_size}[format_name]
    try:
        width, height = read_size(data)
    except (struct.error, IndexError):
        raise HeaderError("cut short") from None
    if width < 1 or height < 1:
        raise HeaderError("no pixels")
    return ImageHeader(width, height)


def check_png_chunks(data: bytes) -> None:
    """Checks the checksums of all chunks of a PNG, up to its end (IEND).

    Pillow does not check those of the pixels (IDAT), so that a flipped bit would pass. Raises
    HeaderError for a wrong checksum, a missing end or too many chunks.
    """
    start = len(PNG_MAGIC)
    for _ in range(MAX_SEGMENTS):
        if start + 12 > len(data):
            raise HeaderError("cut short")
        (length,) = struct.unpack_from(">I", data, start)
        end = start + 12 + length
        if end > len(data):
            raise HeaderError("cut short")
        (crc,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[start + 4 : end - 4]) != crc:
            raise HeaderError("wrong checksum")
        if data[start + 4 : start + 8] == b"IEND":
            return
        start = end
    raise HeaderError("too many chunks")


def exif_orientation(exif: bytes) -> int:
    """The orientation (1 to 8) in an EXIF block; 1 where it is absent or damaged.

    It is read by hand: only one tag of the first directory is needed, and a damaged block must
    neither fail the image nor cost time. The layout is that of TIFF 6.0, section 2.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    byte_order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if byte_order is None:
        return 1
    try:
        (start,) = struct.unpack_from(byte_order + "I", tiff, 4)
        (entries,) = struct.unpack_from(byte_order + "H", tiff, start)
        for i in range(entries):
            entry = start + 2 + 12 * i
            tag, kind, count, value = struct.unpack_from(byte_order + "HHIH", tiff, entry)
            if tag == 0x0112:  # Orientation, one value of type 3 (SHORT)
                return value if kind == 3 and count == 1 and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise HeaderError("no IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """The size in the frame header (ITU-T T.81, B.2.2), found by walking the segments to a scan."""
    size: tuple[int, int] | None = None
    position = 2
    for _ in range(MAX_SEGMENTS):
        if data[position] != 0xFF:
            raise HeaderError("no marker")
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            position += 2
            continue
        if marker == 0xDA:  # start of scan
            if size is None:
                raise HeaderError("a scan before the frame")
            return size
        (length,) = struct.unpack_from(">H", data, position + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack_from(">HH", data, position + 5)
            # A file with two frames is judged by the larger one.
            size = max(size or (0, 0), (width, height), key=lambda s: s[0] * s[1])
            if marker == 0xC2 and data.count(b"\xff\xda", position) > MAX_SCANS:
                raise HeaderError("too many scans")
        position += 2 + length
    raise HeaderError("too many segments")


def _webp_size(data: bytes) -> tuple[int, int]:
    """The size of the canvas (RFC 9649, section 2.7) of a file that is as long as it says."""
    (riff_size,) = struct.unpack_from("<I", data, 4)
    if riff_size + 8 > len(data):
        raise HeaderError("cut short")
    chunk = data[12:16]
    if chunk == b"VP8X":
        width, height = data[24:27], data[27:30]
        return 1 + int.from_bytes(width, "little"), 1 + int.from_bytes(height, "little")
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise HeaderError("unknown chunk")
