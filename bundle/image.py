"""Bytes to an image, the same in training and in serving."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bundle.header_error import HeaderError, UnsupportedVariantError
from bundle.image_formats import sniff
from bundle.image_header import check_png_chunks, read_header
from bundle.jpeg import END, with_end
from bundle.orientation import Box, upright


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


class DecodedImage(NamedTuple):
    """The first frame of a file, upright."""

    image: Image.Image
    """RGB, or RGBA where the file has transparency."""
    frames: int
    """How many frames the file has: 1 for a still image."""
    box: Box | None = None
    """The part of `image` that has the file's pixels; None where all of it has. The last column or
    row of a reduced image may stand for fewer pixels than the others."""


Reduction = Callable[[int, int], int]
"""How many times smaller than it is stored an image of (width, height) pixels may be decoded: 1, 2,
4 or 8."""


def decode_image(data: bytes, limits: ImageLimits) -> Image.Image:
    """The image of `decode_frame`, for callers that do not count frames."""
    return decode_frame(data, limits).image


def plain_jpeg_pixels(data: bytes, limits: ImageLimits) -> int:
    """Width times height of a file that may be given to a decoder of JPEGs other than Pillow: it is
    within the limits, and has one image that ends with its end marker. 0 for any other file."""
    image_format = sniff(data)
    if image_format is None or image_format.name != "JPEG" or len(data) > limits.bytes:
        return 0
    try:
        header = read_header(data, "JPEG")
        _check_size(header.width, header.height, limits)
    except (HeaderError, UnsupportedVariantError, ImageError):
        return 0
    several = header.jpeg is None or header.jpeg.several_images
    is_plain = data.endswith(END) and not several and header.least_bytes <= len(data)
    return header.width * header.height if is_plain else 0


def decode_frame(
    data: bytes,
    limits: ImageLimits,
    reduction: Reduction | None = None,
    pixels: NDArray[np.uint8] | None = None,
) -> DecodedImage:
    """Decodes a file of a format that IMAGE_FORMATS says is decoded, to RGB or RGBA.

    Takes the first frame of an animation, and turns the image upright by its EXIF or XMP
    orientation. CMYK and palettes are converted, of 16 bits the upper 8 are kept, and colour
    profiles are ignored. A file whose end is missing is decoded if all its pixels are there. Raises
    ImageError for another format, a damaged file, missing pixels, and a file beyond the limits.

    Of a JPEG, `reduction` says how much smaller it may be decoded, which is faster: its blocks of
    8 x 8 pixels become 4 x 4, 2 x 2 or one. Other formats are decoded whole. `pixels` are those of
    a plain JPEG that another decoder has decoded whole, RGB (H, W, 3), not turned upright.
    """
    if len(data) > limits.bytes:
        raise ImageError(f"image: {len(data)} bytes is over the limit of {limits.bytes}")
    image_format = sniff(data)
    if image_format is None:
        raise ImageError("unsupported image")
    if not image_format.decoded:
        raise ImageError(f"unsupported image: {image_format.name}")
    name = image_format.name
    try:
        header = read_header(data, name)
        _check_size(header.width, header.height, limits)
        if header.least_bytes > len(data):
            raise HeaderError("fewer bytes than its pixels take")
        frames = check_png_chunks(data) if name == "PNG" else header.frames
    except HeaderError:
        raise ImageError(_CORRUPT) from None
    except UnsupportedVariantError as error:
        raise ImageError(f"unsupported image: {error}") from None
    if pixels is not None and pixels.shape != (header.height, header.width, 3):
        pixels = None  # of another image than the header's: Pillow decides
    files = with_end(data, header.jpeg) if header.jpeg and pixels is None else [data]
    if len(files) > 1 or name != "JPEG":  # what is compared below may be too fine for fewer pixels
        reduction = None
    first, *others = (
        _decode(file, name, limits, reduction=reduction, pixels=pixels) for file in files
    )
    image = first.image
    if name == "PNG" and _ends_unpainted(image):
        others = [_decode(data, name, limits, _OTHER_CANVAS)]
    if any(image.tobytes() != other.image.tobytes() for other in others):
        raise ImageError(_CORRUPT)
    try:
        turned = upright(_convert(image), image.info, first.box or (0, 0, *image.size))
        return DecodedImage(turned.image, frames, turned.box)
    except _DECODER_ERRORS:
        raise ImageError(_CORRUPT) from None


_CANVAS, _OTHER_CANVAS = 0x9D13A75B, 0x45E6C92F
"""Colours that are on the canvas before a PNG's pixels are: Pillow takes a PNG for whole whose data
end after any row. Where the first one is left, another canvas shows whether it was painted."""


def _decode(
    data: bytes,
    format_name: str,
    limits: ImageLimits,
    canvas: int = _CANVAS,
    reduction: Reduction | None = None,
    pixels: NDArray[np.uint8] | None = None,
) -> DecodedImage:
    try:
        with Image.open(io.BytesIO(data), formats=[format_name]) as image:
            _check_size(*image.size, limits)  # the decoder may read another header than we did
            if pixels is not None:
                if pixels.shape[:2] != (image.height, image.width):
                    raise ImageError(_CORRUPT)  # three readers of one file see two sizes
                decoded = Image.fromarray(pixels)
                decoded.info = image.info  # it has the orientation
                return DecodedImage(decoded, 1)
            if format_name == "PNG":
                image.im = Image.new(image.mode, image.size, _colour(image.mode, canvas)).im
            box = None if reduction is None else _reduce(image, reduction(*image.size))
            image.load()
            return DecodedImage(image, 1, box)
    except ImageError:
        raise
    except _DECODER_ERRORS:
        raise ImageError(_CORRUPT) from None


def _reduce(image: Image.Image, factor: int) -> Box | None:
    """Makes the decoder give at most `factor` times fewer pixels per side, and says which part of
    the image they are."""
    width, height = image.size
    if factor == 1:
        return None
    drafted = image.draft("RGB", (max(1, width // factor), max(1, height // factor)))
    return drafted[1] if drafted else None


def _ends_unpainted(image: Image.Image) -> bool:
    """Whether the first pixel of one of the last two rows is that of the canvas. Of an interlaced
    image the odd rows come last."""
    colour = _colour(image.mode, _CANVAS)
    canvas = Image.new(image.mode, (1, 1), colour).getpixel((0, 0))
    return any(image.getpixel((0, y)) == canvas for y in range(image.height)[-2:])


def _colour(mode: str, canvas: int) -> int | tuple[int, ...]:
    """The canvas's colour in a mode of PNGs."""
    channels = tuple(canvas >> shift & 255 for shift in (0, 8, 16, 24))
    bands = {"LA": 2, "RGB": 3, "RGBA": 4}.get(mode)
    if bands:
        return channels[:bands]
    return canvas & 1 if mode == "1" else channels[0]


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
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)
