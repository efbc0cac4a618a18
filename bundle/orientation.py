"""How an image file says that it is turned, read as Pillow's `ImageOps.exif_transpose` reads it.

It is read by hand: one tag of the first directory is enough, and a damaged block must neither fail
the image nor cost time. The layout of EXIF is that of TIFF 6.0, section 2.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from PIL import Image

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_ORIENTATION = 0x0112

_NUMBERS = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 13: "I"}
"""TIFF types of numbers that fit into an entry, as codes of `struct`. SHORT (3) is the right one,
and LONG (4) the usual wrong one."""

_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of an image, in its pixels."""


class UprightImage(NamedTuple):
    """An image as it is to be looked at, and the part of it that is asked for."""

    image: Image.Image
    box: Box


def upright(image: Image.Image, info: Mapping[Any, Any], box: Box) -> UprightImage:
    """Turns an image, and a part of it. `info` is what Pillow read beside the pixels."""
    orientation = _orientation(info)
    if orientation == 1:
        return UprightImage(image, box)
    (width, height), (left, top, right, bottom) = image.size, box
    if orientation >= 5:  # these swap the sides, and may turn the result over
        width, height, left, top, right, bottom = height, width, top, left, bottom, right
    if orientation in (2, 3, 6, 7):
        left, right = width - right, width - left
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    turned = image.transpose(_TRANSPOSE[orientation])
    return UprightImage(turned, (left, top, right, bottom))


def _orientation(info: Mapping[Any, Any]) -> int:
    """The orientation, 1 to 8, of EXIF or else of XMP; 1 where both are absent or damaged."""
    exif = info.get("exif")
    if exif is None:
        exif = _raw_profile(info.get("Raw profile type exif"))
    orientation = exif_orientation(exif) if isinstance(exif, bytes) else None
    if orientation is None:
        xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
        match = _XMP.search(xmp.encode() if isinstance(xmp, str) else xmp)
        orientation = int(match[1]) if match else 1
    return orientation


def exif_orientation(exif: bytes) -> int | None:
    """The orientation in an EXIF block; None where it is absent or the block is damaged."""
    tiff = exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")
    byte_order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if byte_order is None:
        return None
    try:
        (start,) = struct.unpack_from(byte_order + "I", tiff, 4)
        (entries,) = struct.unpack_from(byte_order + "H", tiff, start)
        for i in range(entries):
            entry = start + 2 + 12 * i
            tag, kind, count = struct.unpack_from(byte_order + "HHI", tiff, entry)
            if tag == _ORIENTATION:
                if kind not in _NUMBERS or count != 1:
                    return 1
                (value,) = struct.unpack_from(byte_order + _NUMBERS[kind], tiff, entry + 8)
                return int(value) if value in range(1, 9) else 1
    except struct.error:
        return None
    return None


def _raw_profile(text: object) -> bytes | None:
    """The EXIF block that ImageMagick writes into a PNG as lines of hexadecimal digits."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:])) if isinstance(text, str) else None
    except ValueError:
        return None
