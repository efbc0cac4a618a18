"""Colours for drawings of one colour: a figure that stands out from its ground, picked by name."""

from __future__ import annotations

import colorsys
import hashlib
import random
from dataclasses import dataclass

TRANSPARENT, WHITE = 0.3, 0.2
"""Shares of drawings without a ground and on white; the others have a ground of some colour."""

PLAIN = 0.2
"""Share of figures in near-black, or in white where the ground is dark enough."""

MIN_CONTRAST = 3.0
"""Least contrast of figure and ground, by the formula of WCAG 2: what it asks of icons."""

MARGIN = 0.15
"""Ground around a figure, as a fraction of the figure's longer side, on either side."""

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Colours:
    """Figure and ground as `#rrggbb`; no ground is a transparent one."""

    figure: str
    ground: str | None


def pick_colours(name: str) -> Colours:
    """The colours of the drawing `name`: always the same ones for the same name."""
    # Python promises the same numbers of random() for a seed in all its versions, and of nothing
    # else that a generator draws.
    seed = hashlib.sha256(name.encode()).digest()
    draw = random.Random(int.from_bytes(seed, "big")).random
    kind = draw()
    # A transparent drawing is laid on white in training and in serving.
    ground = (255, 255, 255) if kind < TRANSPARENT + WHITE else _colour(draw(), draw(), draw())
    figure = (255, 255, 255) if draw() < 0.5 else (32, 32, 32)
    if draw() >= PLAIN or contrast(figure, ground) < MIN_CONTRAST:
        figure = _colour(draw(), draw(), draw())
        while contrast(figure, ground) < MIN_CONTRAST:
            figure = _colour(draw(), draw(), draw())
    return Colours(_hex(figure), None if kind < TRANSPARENT else _hex(ground))


def paint(body: str, box: list[float], name: str) -> tuple[str, list[float]]:
    """The body of an SVG that is drawn in `currentColor`, in the colours of `name`, and its box."""
    colours = pick_colours(name)
    body = body.replace("currentColor", colours.figure)
    if colours.ground is None:
        return f'<g fill="{colours.figure}">{body}</g>', box
    left, top, width, height = box
    side = round(max(width, height) * (1 + 2 * MARGIN), 3)
    corner = [round(left + (width - side) / 2, 3), round(top + (height - side) / 2, 3)]
    ground = f'<rect x="{corner[0]}" y="{corner[1]}" width="{side}" height="{side}"'
    body = f'{ground} fill="{colours.ground}"/><g fill="{colours.figure}">{body}</g>'
    return body, [*corner, side, side]


def contrast(one: Rgb, other: Rgb) -> float:
    """Contrast ratio of two colours, 1 to 21, as WCAG 2 defines it."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Rgb) -> float:
    red, green, blue = (
        c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _colour(hue: float, saturation: float, lightness: float) -> Rgb:
    """A colour from three numbers in [0, 1): any hue, never near black, white or grey."""
    rgb = colorsys.hls_to_rgb(hue, 0.2 + 0.65 * lightness, 0.35 + 0.65 * saturation)
    red, green, blue = (round(255 * c) for c in rgb)
    return red, green, blue


def _hex(colour: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
