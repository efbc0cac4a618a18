"""A concept's map over the image, as PNG. S image side."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.manifest import Preprocessing

_SIDE = 336
"""Small images are enlarged to at least so many pixels a side."""

# Anchors of a perceptually even ramp from dark violet over red to light yellow.
_RAMP = np.array([[20, 11, 52], [120, 28, 109], [207, 68, 70], [251, 155, 6], [252, 255, 164]])


def render_overlay(
    pixels: NDArray[np.float32],
    values: NDArray[np.float32],
    grid: tuple[int, int],
    preprocessing: Preprocessing,
) -> bytes:
    """Lays a map (P,) of activations >= 0 over the pixels (3, S, S) that the model saw.

    The strongest patch gets the brightest colour; a map of zeros leaves the image dim.
    """
    mean = np.array(preprocessing.mean, dtype=np.float32)[:, None, None]
    std = np.array(preprocessing.std, dtype=np.float32)[:, None, None]
    image = np.clip((pixels * std + mean) * 255, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    side = max(_SIDE, image.shape[0])
    below = np.asarray(
        Image.fromarray(np.ascontiguousarray(image)).resize((side, side)), dtype=np.float32
    )
    top = float(values.max(initial=0.0))
    scaled = (values / top if top > 0 else values).reshape(grid).astype(np.float32)
    heat_image = Image.fromarray(scaled).resize((side, side), Image.Resampling.BICUBIC)
    heat = np.clip(np.asarray(heat_image, dtype=np.float32), 0, 1)[..., None]
    places = np.linspace(0, 1, len(_RAMP))
    colour = np.concatenate(
        [np.interp(heat, places, _RAMP[:, channel]) for channel in range(3)], axis=-1
    )
    strength = 0.15 + 0.6 * heat
    mixed = (below * (1 - strength) + colour * strength).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(mixed).save(out, format="PNG", compress_level=3)
    return out.getvalue()
