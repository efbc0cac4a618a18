"""An image to the model's pixels, the same in training and in serving. S image side."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.ground import Colour, lay_on_ground
from bundle.image import DecodedImage, ImageError, ImageLimits, decode_frame
from bundle.manifest import Framing, Preprocessing, Resize
from bundle.orientation import Box
from bundle.resizing import resize

MIN_REDUCED = 4
"""How many times S the side of a reduced image that becomes S must have at least. The shipped
model's codes then have a cosine of at least 0.999 with those of the whole image, of photographs and
of mosaics with more detail (benchmarks/decoding.py). With 2.5 it is 0.998."""

_OTHER_FRAMING: dict[Resize, Resize] = {
    "shortest_crop": "longest_pad",
    "longest_pad": "shortest_crop",
}


@dataclass(frozen=True, kw_only=True)
class ImageCoverage:
    """What the model read of an image, and what it did not."""

    framing: Framing | None
    """How the image was made square; None where the model squashes it."""
    image_share: float
    """The share of the image's area that the model read, in (0, 1]."""
    ground: int | None
    """The colour under a transparent image, 0xRRGGBB. None for an opaque one."""
    frames: int
    """The frames of an animation, of which the first is read; 1 for a still image."""


class ImagePixels(NamedTuple):
    """An image as the model reads it."""

    pixels: NDArray[np.float32]
    """(3, S, S), normalised."""
    coverage: ImageCoverage


@dataclass(frozen=True)
class Preprocessor:
    """Images to pixels, as open_clip's `image_transform(..., is_train=False)` does it.

    There are two differences. A transparent image is laid over the background first, where
    open_clip drops its alpha. And only the part that the crop keeps is resized, by `resize`, which
    says how near that is to Pillow.
    """

    preprocessing: Preprocessing

    def __call__(self, image: Image.Image | DecodedImage) -> NDArray[np.float32]:
        """An image of any mode to normalised pixels: (3, S, S) float32, C-contiguous."""
        decoded = image if isinstance(image, DecodedImage) else DecodedImage(image, 1)
        return self.prepare(decoded).pixels

    def decode(
        self,
        data: bytes,
        limits: ImageLimits,
        framing: Framing | None = None,
        out: NDArray[np.float32] | None = None,
        pixels: NDArray[np.uint8] | None = None,
    ) -> ImagePixels:
        """The pixels of an encoded image, and what they cover.

        `framing` is one of the preprocessing's `framings`; None takes the model's own. The pixels
        are written to `out`, (3, S, S), where it is given. `pixels` are those that another decoder
        than Pillow gave; see decode_frame. Raises ImageError for an image that is not accepted, and
        for another framing.
        """
        reduction = functools.partial(self.reduction, framing=framing)
        return self.prepare(decode_frame(data, limits, reduction, pixels), framing, out)

    def reduction(self, width: int, height: int, framing: Framing | None = None) -> int:
        """How many times smaller than it is stored a JPEG is decoded: 1, 2, 4 or 8.

        The side that becomes S keeps at least 4 S pixels, so that the resizing that follows still
        does most of the smoothing.
        """
        longest = self._resize(framing) == "longest_pad"
        side = max(width, height) if longest else min(width, height)
        needed = MIN_REDUCED * self.preprocessing.size
        return next((factor for factor in (8, 4, 2) if side >= factor * needed), 1)

    def prepare(
        self,
        decoded: DecodedImage,
        framing: Framing | None = None,
        out: NDArray[np.float32] | None = None,
    ) -> ImagePixels:
        """The pixels of a decoded image, and what they cover. See `decode`."""
        p = self.preprocessing
        opaque, ground = lay_on_ground(decoded.image, p.background)
        box = decoded.box or (0, 0, *opaque.size)
        square, share = self._square(opaque, box, self._resize(framing))
        coverage = ImageCoverage(
            framing=framing or next(iter(p.framings), None),
            image_share=share,
            ground=ground,
            frames=decoded.frames,
        )
        pixels = np.empty((3, p.size, p.size), np.float32) if out is None else out
        levels = np.asarray(square)
        for channel, values in enumerate(_normalised_levels(p.mean, p.std)):
            np.take(values, levels[..., channel], out=pixels[channel], mode="clip")
        return ImagePixels(pixels, coverage)

    def _resize(self, framing: Framing | None) -> Resize:
        """Raises ImageError for a framing that the model does not offer."""
        p = self.preprocessing
        if framing is not None and framing not in p.framings:
            raise ImageError(f"framing: must be one of {', '.join(p.framings) or 'none'}")
        return p.resize if framing in (None, *p.framings[:1]) else _OTHER_FRAMING[p.resize]

    def _square(self, image: Image.Image, box: Box, mode: Resize) -> tuple[Image.Image, float]:
        """A part of the image as S x S pixels, and the share of its area that they show."""
        size, (left, top, right, bottom) = self.preprocessing.size, box
        width, height = right - left, bottom - top
        interpolation = self.preprocessing.interpolation
        if mode == "squash":
            return resize(image, (size, size), interpolation, box), 1.0
        if mode == "longest_pad":
            ratio = max(width, height) / size
            inner = (max(1, round(width / ratio)), max(1, round(height / ratio)))
            inner_image = resize(image, inner, interpolation, box)
            canvas = Image.new("RGB", (size, size), self._padding(inner_image))
            canvas.paste(inner_image, ((size - inner[0]) // 2, (size - inner[1]) // 2))
            return canvas, 1.0
        # The shorter side becomes S and the longer one `scaled`. The crop keeps its middle.
        short, long = sorted((width, height))
        scaled = int(size * long / short)
        half = (scaled - size) / 2.0
        first = int(half) if self.preprocessing.crop == "floor" else round(half)
        start, stop = first * long / scaled, (first + size) * long / scaled
        if width <= height:
            middle = (left, top + start, right, top + stop)
        else:
            middle = (left + start, top, left + stop, bottom)
        return resize(image, (size, size), interpolation, middle), size / scaled

    def _padding(self, image: Image.Image) -> Colour:
        """Black, as open_clip pads, where the model was trained with it; else the border's colour.

        The border's median keeps codes nearer to those of the subject alone than white, black,
        grey or the border's mean.
        """
        if self.preprocessing.resize == "longest_pad":
            return (0, 0, 0)
        pixels = np.asarray(image)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        red, green, blue = np.median(border, axis=0).astype(int).tolist()
        return red, green, blue


@functools.lru_cache(maxsize=16)
def _normalised_levels(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """What each level of each channel becomes, (3, 256). Looking it up gives the same bits as the
    division, in a tenth of the time."""
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    means, stds = (np.asarray(rgb, dtype=np.float32) for rgb in (mean, std))
    return np.ascontiguousarray(((levels[:, None] - means) / stds).T)
