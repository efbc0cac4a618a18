"""Bytes to an image, and an image to the model's pixels. S image side."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bundle.image_formats import sniff
from bundle.image_header import HeaderError, check_png_chunks, exif_orientation, read_header
from bundle.manifest import Preprocessing


class ImageError(ValueError):
    """An image that is not accepted; the message may be shown to the caller."""


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """The largest image that is decoded. It is compared with these before a decoder runs."""

    bytes: int = 8 * 2**20
    """Size of the encoded file."""
    pixels: int = 40_000_000
    """Width times height."""
    side: int = 16_384
    """The longer of width and height, in pixels."""


_CORRUPT = "image: truncated or corrupt"

_MAX_RATIO_RESIZED_WHOLE = 16
"""Up to this ratio of its sides an image is resized whole before the crop, as open_clip does it and
with the same bits. Of a longer one only the part that the crop keeps is resized."""

_EXIF_TRANSPOSE = {
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
"""What Pillow raises on damaged files: its plug-ins let errors of their parsers through."""


def decode_image(data: bytes, limits: ImageLimits) -> Image.Image:
    """Decodes a JPEG, PNG or WebP file to RGB, or to RGBA where it has transparency.

    Takes the first frame of an animation, and turns the image upright by its EXIF orientation. CMYK
    and palettes are converted, of 16 bits the upper 8 are kept, and colour profiles are ignored.
    Raises ImageError for another format, a damaged file, and one beyond the limits.
    """
    if len(data) > limits.bytes:
        raise ImageError(f"image: {len(data)} bytes is over the limit of {limits.bytes}")
    image_format = sniff(data)
    if image_format is None:
        raise ImageError("unsupported image")
    if not image_format.decoded:
        raise ImageError(f"unsupported image: {image_format.name}")
    try:
        header = read_header(data, image_format.name)
    except HeaderError:
        raise ImageError(_CORRUPT) from None
    _check_size(header.width, header.height, limits)
    try:
        if image_format.name == "PNG":
            check_png_chunks(data)
        with Image.open(io.BytesIO(data), formats=[image_format.name]) as image:
            _check_size(*image.size, limits)  # the decoder may read another header than we did
            image.load()
            exif = image.info.get("exif")
            converted = _convert(image)
    except ImageError:
        raise
    except _DECODER_ERRORS:
        raise ImageError(_CORRUPT) from None
    method = _EXIF_TRANSPOSE.get(exif_orientation(exif)) if isinstance(exif, bytes) else None
    return converted if method is None else converted.transpose(method)


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if max(width, height) > limits.side:
        raise ImageError(
            f"image: {width} x {height} pixels is over the limit of {limits.side} per side"
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

    There are two differences. A transparent image is laid over the background first, where
    open_clip drops its alpha. And of a very long or tall image only the part that the crop keeps
    is resized, so that 1 x 16,384 pixels cost no more than others; Pillow may round differently
    then.
    """

    preprocessing: Preprocessing

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        """An image of any mode to normalised pixels: (3, S, S) float32, C-contiguous."""
        p = self.preprocessing
        square = self._resize(self._opaque(image))
        pixels = np.asarray(square, dtype=np.float32) / np.float32(255)
        mean, std = (np.asarray(rgb, dtype=np.float32) for rgb in (p.mean, p.std))
        return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))

    def _opaque(self, image: Image.Image) -> Image.Image:
        if not image.has_transparency_data:
            return image.convert("RGB")
        image = image.convert("RGBA")
        opaque = Image.new("RGB", image.size, self.preprocessing.background)
        opaque.paste(image, mask=image.getchannel("A"))
        return opaque

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
        # The shorter side becomes S and the longer one `scaled`. The crop keeps its middle.
        short, long = sorted((width, height))
        scaled = int(size * long / short)
        first = round((scaled - size) / 2.0)
        if long <= _MAX_RATIO_RESIZED_WHOLE * short:
            whole = (size, scaled) if width <= height else (scaled, size)
            corner = (0, first) if width <= height else (first, 0)
            square = (*corner, corner[0] + size, corner[1] + size)
            return image.resize(whole, filter_).crop(square)
        start, stop = first * long / scaled, (first + size) * long / scaled
        box = (0, start, width, stop) if width <= height else (start, 0, stop, height)
        return image.resize((size, size), filter_, box=box)
