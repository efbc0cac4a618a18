"""The size and the frames of an image, read from its first bytes before any decoder sees it."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from bundle.header_error import HeaderError, UnsupportedVariantError
from bundle.jpeg import JpegHeader, read_jpeg

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

MAX_CHUNKS = 16_384
"""Chunks of a PNG or WebP file. Pillow walks them in Python, so millions cost seconds."""

MAX_GIF_BLOCKS = 65_536
"""Blocks of a GIF that are walked. 8 MiB have half as many when they are full."""

_DEFLATE_RATIO = 1032
"""No byte of deflate stands for more bytes than this (zlib's technical details)."""

_LZW_RATIO = 4096 * 8 / 12
"""No byte of a GIF's data stands for more pixels: a code of 12 bits for a string of 4,096."""

_SMALL_CANVAS = 2**20
"""Pixels of a GIF's canvas that need no data: its first frame may cover a part of it."""

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


class ImageHeader(NamedTuple):
    """Size in pixels, as stored: before any rotation by EXIF."""

    width: int
    height: int
    frames: int = 1
    """1 for a still image; for a PNG see `check_png_chunks`."""
    least_bytes: int = 0
    """A file with so many pixels has at least this many bytes."""
    jpeg: JpegHeader | None = None


def read_header(data: bytes, format_name: str) -> ImageHeader:
    """Reads size and frames.

    Raises HeaderError when the header is cut short or makes no sense, UnsupportedVariantError for a
    variant that is not decoded.
    """
    read = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "GIF": _gif, "BMP": _bmp}[format_name]
    try:
        header = read(data)
    except (struct.error, IndexError):
        raise HeaderError("cut short") from None
    if header.width < 1 or header.height < 1:
        raise HeaderError("no pixels")
    return header


def check_png_chunks(data: bytes) -> int:
    """Checks the checksums of all chunks of a PNG up to its end (IEND), and counts its frames.

    Pillow does not check those of the pixels (IDAT), so that a flipped bit would pass. A file that
    is cut short passes: the decoder says whether pixels are missing. Raises HeaderError for a wrong
    checksum and for too many chunks.
    """
    start, frames = len(PNG_MAGIC), 0
    for _ in range(MAX_CHUNKS):
        if start + 12 > len(data):
            return max(1, frames)
        (length,) = struct.unpack_from(">I", data, start)
        end = start + 12 + length
        if end > len(data):
            if data.find(b"IEND", start) >= 0:  # a wrong length that swallows the end
                raise HeaderError("wrong length")
            return max(1, frames)
        (crc,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[start + 4 : end - 4]) != crc:
            raise HeaderError("wrong checksum")
        kind = data[start + 4 : start + 8]
        frames += kind == b"fcTL"
        if kind == b"IEND":
            return max(1, frames)
        start = end
    raise HeaderError("too many chunks")


def _jpeg(data: bytes) -> ImageHeader:
    header = read_jpeg(data)
    return ImageHeader(header.width, header.height, 1, header.least_bytes, header)


def _png(data: bytes) -> ImageHeader:
    if data[12:16] != b"IHDR":
        raise HeaderError("no IHDR")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    if colour not in _PNG_CHANNELS:
        raise HeaderError("unknown colour type")
    row_bytes = 1 + width * depth * _PNG_CHANNELS[colour] // 8
    return ImageHeader(width, height, 1, row_bytes * height // _DEFLATE_RATIO)


def _webp(data: bytes) -> ImageHeader:
    """The size of the canvas (RFC 9649, section 2.7) of a file that is as long as it says."""
    (riff_size,) = struct.unpack_from("<I", data, 4)
    if riff_size + 8 > len(data):
        raise HeaderError("cut short")
    chunk = data[12:16]
    if chunk == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return ImageHeader(width, height, _webp_frames(data) if data[20] & 2 else 1)
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ImageHeader(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader(width & 0x3FFF, height & 0x3FFF)
    raise HeaderError("unknown chunk")


def _webp_frames(data: bytes) -> int:
    """The ANMF chunks of an animation."""
    position, frames = 12, 0
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            break
        (length,) = struct.unpack_from("<I", data, position + 4)
        frames += data[position : position + 4] == b"ANMF"
        position += 8 + length + length % 2
    return max(1, frames)


def _gif(data: bytes) -> ImageHeader:
    """The screen, or the first frame where that is larger (GIF89a specification, 18 to 20)."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position, frames, blocks = 13 + _palette_bytes(flags), 0, 0
    while position < len(data) and blocks < MAX_GIF_BLOCKS:
        kind = data[position]
        blocks += 1
        if kind == 0x3B:  # the end
            break
        if kind == 0x2C:  # a frame
            if frames and position + 10 > len(data):
                break
            left, top, columns, rows, flags = struct.unpack_from("<HHHHB", data, position + 1)
            if not frames:
                width, height = max(width, left + columns), max(height, top + rows)
            frames += 1
            position += 11 + _palette_bytes(flags)
        else:  # an extension, or a stray byte, which decoders skip
            position += 2 if kind == 0x21 else 1
        if kind in (0x2C, 0x21):
            while position < len(data) and data[position] and blocks < MAX_GIF_BLOCKS:
                position += 1 + data[position]
                blocks += 1
            position += 1
    if not frames:
        raise HeaderError("no frame")
    pixels = max(0, width * height - _SMALL_CANVAS)
    return ImageHeader(width, height, frames, int(pixels / _LZW_RATIO))


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp(data: bytes) -> ImageHeader:
    """The size in an OS/2 or Windows header. The pixels of a BMP are not compressed."""
    offset, header_bytes = struct.unpack_from("<II", data, 10)
    compression = 0
    if header_bytes == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression in (1, 2):
        raise UnsupportedVariantError("BMP with run-length coding")
    row_bytes = (width * bits + 31) // 32 * 4
    return ImageHeader(width, abs(height), 1, offset + row_bytes * abs(height))
