"""A concept's map drawn over the image, as PNG. S image side, P patches."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bundle.manifest import Preprocessing

_MIN_SIDE = 336
"""Smaller images are enlarged to this many pixels per side, so that the map can be seen."""

MAX_OVERLAY_BYTES = 3 * 2**20 + 2**19
"""All overlays of one reply. Stock gRPC clients refuse a message of more than 4 MiB."""

SOFTWARE = "sparseclip explain"
"""What drew an overlay, as a text chunk of each file."""
HEAD_BYTES = 1024
"""The start of an overlay, which holds that chunk."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# RGB anchors of a perceptually even color ramp, from dark violet over red to light yellow.
_COLORS = np.array([[20, 11, 52], [120, 28, 109], [207, 68, 70], [251, 155, 6], [252, 255, 164]])


def render_overlay(
    pixels: NDArray[np.float32],
    values: NDArray[np.float32],
    grid: tuple[int, int],
    preprocessing: Preprocessing,
    max_bytes: int = MAX_OVERLAY_BYTES,
) -> bytes:
    """Draws a map (P,) of activations >= 0 over the pixels (3, S, S) that the model saw.

    `grid` is rows and columns of patches. The strongest patch gets the brightest color; a map of
    zeros leaves the image dim. A drawing of more than `max_bytes` gets fewer colors, and then fewer
    pixels.
    """
    mean = np.array(preprocessing.mean, dtype=np.float32)[:, None, None]
    std = np.array(preprocessing.std, dtype=np.float32)[:, None, None]
    image = np.clip((pixels * std + mean) * 255, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    side = max(_MIN_SIDE, image.shape[0])
    base = np.asarray(
        Image.fromarray(np.ascontiguousarray(image)).resize((side, side)), dtype=np.float32
    )
    peak = float(values.max(initial=0.0))
    scaled = (values / peak if peak > 0 else values).reshape(grid).astype(np.float32)
    # Interpolation between patches may overshoot, hence the clip.
    heat_image = Image.fromarray(scaled).resize((side, side), Image.Resampling.BICUBIC)
    heat = np.clip(np.asarray(heat_image, dtype=np.float32), 0, 1)[..., None]
    anchors = np.linspace(0, 1, len(_COLORS))
    color = np.concatenate(
        [np.interp(heat, anchors, _COLORS[:, channel]) for channel in range(3)], axis=-1
    )
    # A weak map keeps most of the image; the peak keeps a quarter of it.
    strength = 0.15 + 0.6 * heat
    mixed = (base * (1 - strength) + color * strength).astype(np.uint8)
    drawing = Image.fromarray(mixed)
    data = _png(drawing)
    while len(data) > max_bytes and side > 1:
        data = _png(drawing.resize((side, side), Image.Resampling.BOX).quantize(256))
        side = side * 3 // 4
    return data


def _png(image: Image.Image) -> bytes:
    out, mark = io.BytesIO(), PngInfo()
    mark.add_text("Software", SOFTWARE)
    image.save(out, format="PNG", compress_level=3, pnginfo=mark)
    return out.getvalue()


def is_overlay(start: bytes) -> bool:
    """Whether a file that starts so was drawn here."""
    return start.startswith(_SIGNATURE) and b"tEXtSoftware\0" + SOFTWARE.encode() in start
