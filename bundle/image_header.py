"""What an image's first bytes say about it: its format and size, before any decoder sees it."""

from __future__ import annotations

import struct
import zlib
from typing import Literal, NamedTuple

Format = Literal["JPEG", "PNG", "WEBP"]

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
"""Endings of the names of files that hold an image. Only a search through folders looks at them:
a file that is named is read whatever its name is."""

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

MAX_SEGMENTS = 16_384
"""JPEG segments or PNG chunks of a file. Pillow walks them in Python, so millions cost seconds."""

MAX_SCANS = 100
"""Scans of a progressive JPEG. Encoders write about ten; each passes over the whole image."""


class HeaderError(ValueError):
    """Bytes that are no complete header of their format."""


class Header(NamedTuple):
    """Format and stored size; width and height are those before any EXIF rotation."""

    format: Format
    width: int
    height: int


def sniff(data: bytes) -> Format | None:
    """The format by its magic number, or None for everything that is not accepted."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == PNG_MAGIC:
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def read_header(data: bytes, kind: Format) -> Header:
    """Reads the size. Raises HeaderError when the header is cut short or makes no sense."""
    try:
        width, height = {"JPEG": _jpeg_size, "PNG": _png_size, "WEBP": _webp_size}[kind](data)
    except (struct.error, IndexError):
        raise HeaderError("cut short") from None
    if width < 1 or height < 1:
        raise HeaderError("no pixels")
    return Header(kind, width, height)


def check_png_chunks(data: bytes) -> None:
    """Walks the chunks of a PNG to IEND.

    Pillow skips the checksums of the pixels (IDAT), so a flipped bit would pass unseen. Raises
    HeaderError for a wrong CRC, a missing end or too many chunks.
    """
    at = len(PNG_MAGIC)
    for _ in range(MAX_SEGMENTS):
        if at + 12 > len(data):
            raise HeaderError("cut short")
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 12 + length
        if end > len(data):
            raise HeaderError("cut short")
        (crc,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != crc:
            raise HeaderError("wrong checksum")
        if data[at + 4 : at + 8] == b"IEND":
            return
        at = end
    raise HeaderError("too many chunks")


def exif_orientation(exif: bytes) -> int:
    """The orientation (1 to 8) in an EXIF block; 1 where it is absent or damaged.

    Read by hand, because one tag of the first directory is all we want and a damaged block must
    neither fail the image nor cost time. Layout: TIFF 6.0, section 2.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for i in range(entries):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * i)
            if tag == 0x0112:
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
    """The frame header's size (ITU-T T.81, B.2.2), walking the segments up to the first scan."""
    size: tuple[int, int] | None = None
    at = 2
    for _ in range(MAX_SEGMENTS):
        if data[at] != 0xFF:
            raise HeaderError("no marker")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            at += 2
            continue
        if marker == 0xDA:
            if size is None:
                raise HeaderError("a scan before the frame")
            return size
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = max(size or (0, 0), (width, height), key=lambda s: s[0] * s[1])
            if marker == 0xC2 and data.count(b"\xff\xda", at) > MAX_SCANS:
                raise HeaderError("too many scans")
        at += 2 + length
    raise HeaderError("too many segments")


def _webp_size(data: bytes) -> tuple[int, int]:
    """The canvas's size (RFC 9649, section 2.7), and a file as long as it says it is."""
    (riff,) = struct.unpack_from("<I", data, 4)
    if riff + 8 > len(data):
        raise HeaderError("cut short")
    chunk = data[12:16]
    if chunk == b"VP8X":
        flat = data[24:30]
        return 1 + int.from_bytes(flat[:3], "little"), 1 + int.from_bytes(flat[3:6], "little")
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise HeaderError("unknown chunk")
