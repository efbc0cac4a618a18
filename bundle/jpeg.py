"""What a JPEG says before its pixels, and whether they are all there (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from bundle.header_error import HeaderError

MAX_SEGMENTS = 16_384
"""Segments of a file. Pillow walks them in Python, so millions would cost seconds."""

MAX_SCANS = 100
"""Scans of a progressive file. Encoders write about ten; each passes over the whole image."""

END = b"\xff\xd9"
"""The marker after the last scan."""

_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The next marker. In a scan 0xFF is followed by a zero, or is a restart marker (D0 to D7)."""

_ONES = b"\xff\x00" * 8
"""64 one bits, as they stand in a scan. The decoder reads up to 64 bits ahead, so it wants that
many after the last block. No code has ones only: a block that is missing takes 34 of them, and so
the ones never stand in for more than two blocks."""

_NOISE = bytes(1 + i * 89 % 251 for i in range(512))
"""Bits that are read as coefficients where a scan has not ended."""


class JpegHeader(NamedTuple):
    """The frame, and where the first scan begins."""

    width: int
    height: int
    scan: int
    """Where the first scan's blocks begin."""
    one_scan: bool
    """The blocks stand one after another, in one scan, in Huffman codes."""
    several_images: bool
    """Other images follow, as an MPF segment says (CIPA DC-007)."""
    least_bytes: int
    """A file with so many blocks has at least this many bytes."""


def read_jpeg(data: bytes) -> JpegHeader:
    """Walks the segments to the first scan. Raises HeaderError for a file that is damaged."""
    size, marker_of_frame, sampling, several_images = (0, 0), 0, [0], False
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
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker == 0xDA:  # start of scan
            if not marker_of_frame:
                raise HeaderError("a scan before the frame")
            components = data[position + 4]
            sequential = marker_of_frame in (0xC0, 0xC1)
            one_scan = sequential and components == len(sampling)
            # In a block the mean has a code, and so has the end; a progressive file may do without
            # the second. No Huffman code is shorter than one bit.
            bits = {0xC0: 2, 0xC1: 2, 0xC2: 1}.get(marker_of_frame, 0) * _blocks(size, sampling)
            scan = position + 2 + length
            return JpegHeader(*size, scan, one_scan, several_images, scan + bits // 8)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width, components = struct.unpack_from(">HHB", data, position + 5)
            # A file with two frames is judged by the larger one.
            size = max(size, (width, height), key=lambda s: s[0] * s[1])
            marker_of_frame = marker
            sampling = [data[position + 11 + 3 * i] for i in range(components)]
            if marker == 0xC2 and data.count(b"\xff\xda", position) > MAX_SCANS:
                raise HeaderError("too many scans")
        several_images |= marker == 0xE2 and data.startswith(b"MPF\0", position + 4)
        position += 2 + length
    raise HeaderError("too many segments")


def _blocks(size: tuple[int, int], sampling: list[int]) -> int:
    """The blocks of 8 x 8 values of all components; a colour may have fewer than the brightness."""
    across, down = [max(1, s >> 4) for s in sampling], [max(1, s & 15) for s in sampling]
    columns = [-(-size[0] * factor // (8 * max(across))) for factor in across]
    rows = [-(-size[1] * factor // (8 * max(down))) for factor in down]
    return sum(c * r for c, r in zip(columns, rows, strict=True))


def with_end(data: bytes, header: JpegHeader) -> list[bytes]:
    """The file as the decoder is to get it: it then fails where pixels are missing.

    By itself libjpeg paints missing pixels grey as soon as it meets a marker. A file in one scan
    gets no marker after its blocks, but bits that cannot be taken for blocks. The decoder stops
    after the last block, and where blocks are missing it asks for more and fails.

    A file of several scans must have its end marker. Without one, two files are returned. They
    decode to the same pixels only if the last scan is complete.
    """
    if header.one_scan:
        if data.endswith(END) and not header.several_images:  # as nearly all do
            return [data[:-2] + _ONES]
        end = _SCAN_END.search(data, header.scan)
        return [(data[: end.start()] if end else _without_padding(data)) + _ONES]
    if data.rfind(END) > data.rfind(b"\xff\xda"):
        return [data]
    data = _without_padding(data)
    return [data + END, data + _NOISE + END]


def with_noise(data: bytes) -> bytes:
    """A file that ends with its end marker, with noise before it. Of a decoder that paints missing
    pixels it gets the same pixels as the file itself only if none are missing."""
    return data[: -len(END)] + _NOISE + END


def _without_padding(data: bytes) -> bytes:
    """A file that was cut off may end in a disk's zeros, which could be taken for blocks."""
    if not data.endswith(bytes(16)):
        return data
    data = data.rstrip(b"\0")
    return data + b"\0" if data.endswith(b"\xff") else data
