"""Pixels of PIL images and arrays, and their PNG. H height, W width, C channels.

Images become RGB and RGBA by the rules of the server's decoder, so that an image has one code by
every way in.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import grpc
import numpy as np
from numpy.typing import NDArray

from sparseclip.errors import ItemError
from sparseclip.model_info import ModelInfo
from sparseclip.results import ImageFraming

if TYPE_CHECKING:
    from PIL.Image import Image

_FILE_FORMATS = frozenset({"BMP", "GIF", "JPEG", "MPO", "PNG", "WEBP"})
"""What a server takes as it is, by Pillow's names. MPO is a JPEG of several images."""
_ORIENTATION = 0x0112
_COLOR_TYPES = {1: 0, 3: 2, 4: 6}
"""Of a PNG, by its channels."""


def pillow() -> ModuleType | None:
    """PIL.Image, if the program has imported it. It then may have given us one of its images."""
    return sys.modules.get("PIL.Image")


def pil_file(image: Image, limit: int) -> bytes | None:
    """The bytes of the file that a PIL image was opened from, while the image is still that file.

    That is so as long as nothing has read its pixels: every change in place reads them first. The
    bytes are also opened anew, and must give an image of the same size, mode and metadata: `draft`
    changes these without reading pixels. None when one of this does not hold, for a later frame of
    an animation, and for a file that a server would refuse.
    """
    file: Any = getattr(image, "fp", None)
    state = vars(image)
    unread = "im" in state or "_im" in state
    if (
        file is None
        or getattr(file, "closed", False)
        or not unread
        or (state.get("_im") or state.get("im")) is not None
        or image.format not in _FILE_FORMATS
        or image.tell() != 0
    ):
        return None
    position = file.tell()
    try:
        file.seek(0)
        data: bytes = file.read(limit + 1)
    finally:
        file.seek(position)
    if len(data) > limit:
        return None
    module, exif = pillow(), state.get("_exif")
    assert module is not None
    with module.open(io.BytesIO(data)) as opened:
        same = (
            (opened.format, opened.mode, opened.size) == (image.format, image.mode, image.size)
            and opened.info == image.info
            # `getexif` of the image itself might read its pixels.
            and (exif is None or exif.get(_ORIENTATION) == opened.getexif().get(_ORIENTATION))
        )
    return data if same else None


def pil_pixels(image: Image) -> Image:
    """A PIL image upright, as RGB or RGBA, by the rules of the server's decoder.

    An orientation that its EXIF still names is applied. Raises ItemError for a mode that has no
    colours of its own, and what Pillow raises for a damaged file.
    """
    image.load()
    upright = _upright(image)
    if upright.mode.startswith("I"):
        return _grey_of_16_bits(upright)
    if upright.mode == "F":
        raise _refused("mode F has no fixed range: convert it to L or RGB")
    if upright.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transformed = ImageCms.profileToProfile(upright, lab, srgb, outputMode="RGB")
        assert transformed is not None
        upright = transformed
    if upright.mode == "La":
        upright = upright.convert("LA")
    return upright.convert("RGBA" if upright.has_transparency_data else "RGB")


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF, which its parser lets through in many ways
        return image


def _grey_of_16_bits(image: Image) -> Image:
    """The upper 8 of 16 bits."""
    from PIL import Image as PillowImage

    grey = np.asarray(image)
    if grey.min() < 0 or grey.max() > 0xFFFF or (image.mode == "I" and 0 < grey.max() < 0x100):
        raise _refused(
            f"mode {image.mode} is read as grey of 16 bits, and this one has"
            f" {grey.min()} to {grey.max()}: convert it to L or RGB"
        )
    result = PillowImage.fromarray((grey.astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    key = image.info.get("transparency")
    if isinstance(key, int):
        result.putalpha(PillowImage.fromarray(np.where(grey == key, 0, 255).astype(np.uint8)))
    return result


@dataclass(frozen=True, kw_only=True)
class ModelResize:
    """Resizes an image as the server's preprocessing does.

    The server then finds nothing left to resize. What the model reads differs by a level of 255
    here and there, because the server may resize with another package than Pillow.
    """

    size: int
    """S: the model reads S x S pixels."""
    framing: ImageFraming | None
    """None squashes the image."""
    interpolation: Literal["bicubic", "bilinear"] | None
    """None leaves images as they are."""

    @classmethod
    def of(cls, info: ModelInfo, framing: ImageFraming | None) -> ModelResize:
        """As a model does it under a framing; None is the model's own."""
        own = info.framings[0] if info.framings else None
        return cls(size=info.image_size, framing=framing or own, interpolation=info.interpolation)

    def image(self, image: Image) -> Image:
        """An RGB, RGBA or grey image with no more pixels than the model reads of it."""
        target = self.target(*image.size)
        if self.interpolation is None or target == image.size:
            return image
        from PIL.Image import Resampling

        filters = {"bicubic": Resampling.BICUBIC, "bilinear": Resampling.BILINEAR}
        return image.resize(target, filters[self.interpolation])

    def array(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels (H, W, C) likewise. All of them where Pillow is not installed."""
        height, width, channels = pixels.shape
        if self.interpolation is None or self.target(width, height) == (width, height):
            return pixels
        try:
            from PIL import Image
        except ImportError:
            return pixels
        image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
        return np.asarray(self.image(image)).reshape(-1, self.target(width, height)[0], channels)

    def target(self, width: int, height: int) -> tuple[int, int]:
        """The width and height that an image gets. One that would grow keeps its own."""
        size = self.size
        short, long = sorted((width, height))
        if self.framing == "pad":
            if long <= size:
                return width, height
            ratio = long / size
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        if short <= size:
            return width, height
        if self.framing is None:
            return size, size
        scaled = int(size * long / short)
        return (size, scaled) if width <= height else (scaled, size)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels (H, W, C) as a PNG file, without loss; C is 1 (grey), 3 (RGB) or 4 (RGBA)."""
    height, width, channels = pixels.shape
    row = np.ascontiguousarray(pixels).reshape(height, width * channels)
    # PNG's filter 1 (Sub): each byte less the same channel of the pixel before.
    filtered = np.ones((height, 1 + width * channels), dtype=np.uint8)
    filtered[:, 1:] = row
    filtered[:, 1 + channels :] -= row[:, :-channels]
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 4)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def _refused(problem: str) -> ItemError:
    return ItemError(grpc.StatusCode.INVALID_ARGUMENT, f"image: {problem}")
