"""Bytes to an image, and an image to pixels. S image side; pixels are float32 (3, S, S)."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bundle.image_header import (
    HeaderError,
    check_png_chunks,
    exif_orientation,
    read_header,
    sniff,
)
from bundle.manifest import Preprocessing


class ImageError(ValueError):
    """An image that is not accepted; the message is fit for the caller's eyes."""


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What an image may weigh. All of it is checked before a decoder runs."""

    bytes: int = 8 * 2**20
    """The encoded file."""
    pixels: int = 40_000_000
    """Width times height."""
    side: int = 16_384
    """The longer of width and height."""


_CORRUPT = "image: truncated or corrupt"

_SLENDER = 16
"""Ratio of sides up to which an image is resized whole before the crop, to the bit as open_clip
does it."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    UnidentifiedImageError,
    Image.DecompressionBombError,
)
"""What Pillow raises on damaged files: its plugins let errors of their parsing through."""


def decode_image(data: bytes, limits: ImageLimits) -> Image.Image:
    """Decodes a JPEG, PNG or WebP file to RGB, or to RGBA where it has transparency.

    The first frame of an animation, turned upright by its EXIF orientation. CMYK and palettes are
    converted, 16 bits are cut to the upper 8, colour profiles are ignored. Raises ImageError.
    """
    if len(data) > limits.bytes:
        raise ImageError(f"image: {len(data)} bytes is over the limit of {limits.bytes}")
    kind = sniff(data)
    if kind is None:
        raise ImageError("unsupported image")
    try:
        header = read_header(data, kind)
    except HeaderError:
        raise ImageError(_CORRUPT) from None
    _check_size(header.width, header.height, limits)
    try:
        if kind == "PNG":
            check_png_chunks(data)
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            _check_size(*image.size, limits)  # of the header that the decoder believes
            image.load()
            exif = image.info.get("exif")
            upright = _convert(image)
    except ImageError:
        raise
    except _DECODER_ERRORS:
        raise ImageError(_CORRUPT) from None
    turn = _TURNS.get(exif_orientation(exif)) if isinstance(exif, bytes) else None
    return upright if turn is None else upright.transpose(turn)


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if max(width, height) > limits.side:
        raise ImageError(
            f"image: {width} x {height} pixels is over the limit of {limits.side} a side"
        )
    if width * height > limits.pixels:
        raise ImageError(
            f"image: {width} x {height} pixels is over the limit of {limits.pixels} in all"
        )


def _convert(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversions would clip it
        grey = np.asarray(image).astype(np.uint16)
        rgb = Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
        key = image.info.get("transparency")
        if isinstance(key, int):
            rgb.putalpha(Image.fromarray(np.where(grey == key, 0, 255).astype(np.uint8)))
        return rgb
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


@dataclass(frozen=True)
class Preprocessor:
    """Images to pixels, as open_clip's `image_transform(..., is_train=False)` does it.

    With two differences. Alpha is laid over the background first, where open_clip drops it. And of
    very slender images only the part that survives the crop is resized, so that 1 x 16,384
    pixels cost what any others do; Pillow may then round differently.
    """

    preprocessing: Preprocessing

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        """An image of any mode to float32 (3, S, S), C-contiguous and normalised."""
        p = self.preprocessing
        square = self._resize(self._opaque(image))
        pixels = np.asarray(square, dtype=np.float32) / np.float32(255)
        mean, std = (np.asarray(rgb, dtype=np.float32) for rgb in (p.mean, p.std))
        return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))

    def _opaque(self, image: Image.Image) -> Image.Image:
        if not image.has_transparency_data:
            return image.convert("RGB")
        image = image.convert("RGBA")
        ground = Image.new("RGB", image.size, self.preprocessing.background)
        ground.paste(image, mask=image.getchannel("A"))
        return ground

    def _resize(self, image: Image.Image) -> Image.Image:
        size, (width, height) = self.preprocessing.size, image.size
        filter_ = {
            "bicubic": Image.Resampling.BICUBIC,
            "bilinear": Image.Resampling.BILINEAR,
        }[self.preprocessing.interpolation]
        if self.preprocessing.resize == "squash":
            return image.resize((size, size), filter_)
        if self.preprocessing.resize == "longest_pad":
            ratio = max(width, height) / size
            inner = (max(1, round(width / ratio)), max(1, round(height / ratio)))
            canvas = Image.new("RGB", (size, size))  # open_clip pads with black
            canvas.paste(
                image.resize(inner, filter_), ((size - inner[0]) // 2, (size - inner[1]) // 2)
            )
            return canvas
        # The shorter side becomes S and the longer one `scaled`, of which the middle S stay.
        short, long = sorted((width, height))
        scaled = int(size * long / short)
        first = round((scaled - size) / 2.0)
        if long <= _SLENDER * short:
            whole = (size, scaled) if width <= height else (scaled, size)
            corner = (0, first) if width <= height else (first, 0)
            square = (*corner, corner[0] + size, corner[1] + size)
            return image.resize(whole, filter_).crop(square)
        start, stop = first * long / scaled, (first + size) * long / scaled
        box = (0, start, width, stop) if width <= height else (start, 0, stop, height)
        return image.resize((size, size), filter_, box=box)
