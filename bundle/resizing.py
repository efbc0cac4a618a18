"""Resizes a part of an image with Pillow's filters, faster than Pillow.

cykooz-resizer, the Python package of the Rust library fast_image_resize, does it with vector
instructions. It has no wheels for some platforms, such as Linux on ARM. There Pillow resizes.
"""

from __future__ import annotations

import importlib.metadata
import math
from typing import Any, Literal, NamedTuple

import PIL
from PIL import Image

from bundle.orientation import Box

try:
    import cykooz_resizer
except ImportError:
    _fast: Any = None
else:
    _fast = cykooz_resizer

Interpolation = Literal["bicubic", "bilinear"]


class _Filter(NamedTuple):
    pillow: Image.Resampling
    fast: str
    """Its name in cykooz_resizer.FilterType."""
    support: int
    """How many source pixels on each side a pixel is made of. Where an image shrinks, this is
    multiplied by how many times it does."""


_FILTERS: dict[Interpolation, _Filter] = {
    # Catmull-Rom is the cubic with a = -0.5, as Pillow's is.
    "bicubic": _Filter(Image.Resampling.BICUBIC, "catmull_rom", 2),
    "bilinear": _Filter(Image.Resampling.BILINEAR, "bilinear", 1),
}


def resizer() -> str:
    """The package that resizes here, and its version."""
    if _fast is None:
        return f"pillow {PIL.__version__}"
    return f"cykooz-resizer {importlib.metadata.version('cykooz-resizer')}"


def resize(
    image: Image.Image, size: tuple[int, int], interpolation: Interpolation, box: Box
) -> Image.Image:
    """The part `box` of an RGB image as an RGB image of `size`, (width, height).

    As in Pillow, pixels beside the box count at its edges. Rows are resized first, then columns.
    The values in between are cut to 0 to 255, so the order shows at hard edges. Pillow up to
    version 12 has this order; version 13 at times has the other one. In the same order some values
    differ from Pillow's by one level, and few by two; the test has the bounds.
    """
    filter_ = _FILTERS[interpolation]
    if _fast is None:
        return image.resize(size, filter_.pillow, box=box)
    left, top, right, bottom = box
    width, height = size
    reach = filter_.support * max(1.0, (bottom - top) / height) + 1
    first, last = max(0, int(top - reach)), min(image.height, math.ceil(bottom + reach))
    rows = _resized(image, (width, last - first), filter_, (left, first, right, last))
    return _resized(rows, size, filter_, (0, top - first, width, bottom - first))


def _resized(image: Image.Image, size: tuple[int, int], filter_: _Filter, box: Box) -> Image.Image:
    left, top, right, bottom = box
    width, height = _extent(left, right, image.width), _extent(top, bottom, image.height)
    options = _fast.ResizeOptions(
        resize_alg=_fast.ResizeAlg.convolution(_fast.FilterType[filter_.fast]),
        crop_box=_fast.CropBox(left, top, width, height),
    )
    result = Image.new("RGB", size, None)  # all of it is written
    # A new Resizer costs nothing. Threads would wait for one that they share.
    _fast.Resizer().resize_pil(image, result, options)
    return result


def _extent(start: float, stop: float, side: int) -> float:
    """The length from `start` to `stop`, less a rounding error that leads beyond the image."""
    extent = stop - start
    while start + extent > side:
        extent = math.nextafter(extent, 0)
    return extent
