"""The image formats that are known, their magic numbers and file endings; which are decoded."""

from __future__ import annotations

import re
from typing import NamedTuple

_SNIFFED_BYTES = 1024
"""How much of a file is looked at. Every magic number is in the first bytes; only an SVG may have
comments before its first element."""


class ImageFormat(NamedTuple):
    """One format. A file's format is told by its magic number, never by its name."""

    name: str
    """Pillow's name of a format that is decoded; for others the name that an error gives."""
    magic: str
    """A regular expression over the first bytes, read as Latin-1."""
    suffixes: tuple[str, ...]
    """Endings of file names, in lower case. Only a search through folders looks at them."""
    decoded: bool = False

    def matches(self, start: str) -> bool:
        """Whether a file that begins with `start` has this format."""
        return re.match(self.magic, start, re.DOTALL) is not None


IMAGE_FORMATS = (
    ImageFormat("JPEG", r"\xff\xd8\xff", (".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg"), True),
    ImageFormat("PNG", r"\x89PNG\r\n\x1a\n", (".png", ".apng"), True),
    ImageFormat("WEBP", r"RIFF.{4}WEBP", (".webp",), True),
    ImageFormat("GIF", r"GIF8[79]a", (".gif",), True),
    ImageFormat("BMP", r"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", (".bmp", ".dib"), True),
    ImageFormat("TIFF", r"II[*+]\0|MM\0[*+]", (".tif", ".tiff")),
    ImageFormat("AVIF", r".{4}ftypavi[fs]", (".avif", ".avifs")),
    ImageFormat("HEIC", r".{4}ftyp(he[iv][cmsx]|mif1|msf1)", (".heic", ".heif", ".hif")),
    ImageFormat("JPEG XL", r"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", (".jxl",)),
    ImageFormat(
        "JPEG 2000",
        r"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
        (".jp2", ".j2k", ".jpf", ".jpx"),
    ),
    ImageFormat("SVG", r"(\xef\xbb\xbf)?\s*(<[?!][^>]*>\s*)*<svg[\s>]", (".svg", ".svgz")),
    ImageFormat("PDF", r"%PDF-", ()),
    ImageFormat("ICO", r"\0\0[\x01\x02]\0", (".ico", ".cur")),
    ImageFormat("PSD", r"8BPS\0", (".psd", ".psb")),
    ImageFormat("PNM", r"P[1-7][\s#]", (".pbm", ".pgm", ".ppm", ".pnm", ".pam")),
    ImageFormat("OpenEXR", r"v/1\x01", (".exr",)),
    ImageFormat("FITS", r"SIMPLE  =", (".fits",)),
    ImageFormat("QOI", r"qoif", (".qoi",)),
    ImageFormat("TGA", r"(?!)", (".tga",)),  # it has no magic number
    ImageFormat(
        "camera raw",  # most are TIFF files within
        r"FUJIFILMCCD-RAW|IIRO|IIU\0|.{4}ftypcrx ",
        (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),
    ),
)

IMAGE_SUFFIXES = tuple(s for f in IMAGE_FORMATS if f.decoded for s in f.suffixes)
"""Endings of the names of files that decode. A file that is named is read whatever its name is."""

UNSUPPORTED_IMAGE_SUFFIXES = tuple(s for f in IMAGE_FORMATS if not f.decoded for s in f.suffixes)
"""Endings of the names of images that are known and not decoded. A search through a folder must
name them: an image that is left out without a word is lost."""


def sniff(data: bytes) -> ImageFormat | None:
    """The format by its magic number; None for bytes that are no image that is known."""
    start = data[:_SNIFFED_BYTES].decode("latin-1")
    return next((f for f in IMAGE_FORMATS if f.matches(start)), None)
