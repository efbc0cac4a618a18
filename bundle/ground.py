"""The ground that a transparent image is laid on."""

from __future__ import annotations

from PIL import Image

Colour = tuple[int, int, int]


def lay_on_ground(image: Image.Image, background: Colour) -> tuple[Image.Image, int | None]:
    """An image of any mode as RGB, and the colour 0xRRGGBB that was laid under it.

    The colour is None for an image without transparent pixels.
    """
    if not image.has_transparency_data:
        return image.convert("RGB"), None
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    opaque = Image.new("RGB", image.size, background)
    opaque.paste(image, mask=alpha)
    if alpha.getextrema() == (255, 255):
        return opaque, None
    red, green, blue = background
    return opaque, red << 16 | green << 8 | blue
