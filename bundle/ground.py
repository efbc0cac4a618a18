"""The ground that a transparent image is laid on, the same in training and in serving."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Colour = tuple[int, int, int]

NEAR_LEVELS = 16
"""A channel that differs from the background by no more than this does not contrast with it."""

MIN_CONTRAST = 0.03
"""An image of which a smaller share of what is visible contrasts with the background gets another
ground. Of 25,700 icons and emoji of the demo's data three do, which are white; the next has 0.069.
"""

_DARK, _LIGHT = (64, 64, 64), (192, 192, 192)
"""The other grounds. White icons on this dark grey get codes nearer to the same icons in black on
white (cosine 0.77) than on black (0.74), a lighter grey (0.75) or colours (0.49 to 0.72)."""

_SIDE = 48


def lay_on_ground(image: Image.Image, background: Colour) -> tuple[Image.Image, int | None]:
    """An image of any mode as RGB, and the colour 0xRRGGBB that was laid under it.

    The colour is None for an image without transparent pixels.
    """
    # Converting makes a copy even where nothing changes.
    if not image.has_transparency_data:
        return (image if image.mode == "RGB" else image.convert("RGB")), None
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = image.getchannel("A")
    sample = _sample(image)
    if sample[3::4].min() == 255 and alpha.getextrema() == (255, 255):
        return image.convert("RGB"), None
    red, green, blue = ground = _ground(sample, background)
    opaque = Image.new("RGB", image.size, ground)
    opaque.paste(image, mask=alpha)
    return opaque, red << 16 | green << 8 | blue


def ground_of(image: Image.Image, background: Colour) -> Colour:
    """The background, or a grey that contrasts where next to nothing would be seen on it.

    48 x 48 pixels spread over the RGBA image decide, each as far as it is opaque. The grey is dark
    for a light background and light for a dark one. An image that is wholly transparent has the
    background.
    """
    return _ground(_sample(image), background)


def _sample(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.NEAREST)).reshape(-1)


def _ground(sample: NDArray[np.uint8], background: Colour) -> Colour:
    lowest, highest = _near(background)
    # A pixel contrasts if any of its bytes does: its four bytes are compared as one number.
    contrasts = ((sample < lowest) | (sample > highest)).view(np.uint32) != 0
    opacity = sample[3::4].astype(np.int64)
    if opacity[contrasts].sum() >= MIN_CONTRAST * opacity.sum():
        return background
    return _DARK if sum(background) >= 3 * 128 else _LIGHT


@functools.cache
def _near(background: Colour) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The range of each byte of a sample whose RGBA pixels do not contrast."""
    lowest = [*(max(0, level - NEAR_LEVELS) for level in background), 0]
    highest = [*(min(255, level + NEAR_LEVELS) for level in background), 255]
    low, high = (np.tile(np.array(edge, np.uint8), _SIDE**2) for edge in (lowest, highest))
    return low, high
