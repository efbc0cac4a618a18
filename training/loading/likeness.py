"""Images that look alike: a small fingerprint of each, and all pairs whose fingerprints are near.

N images.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.ground import lay_on_ground

MARGIN = 4
"""Levels by which a cell must be brighter than its left neighbour for its bit. Without a margin the
bits of flat areas are noise: of 2,500 icons, as JPEG of quality 50, 85% are found, and 99.6% with
it."""

MIN_BITS = 8
"""An image with fewer bits has too few edges to be compared: thin lines on white all look alike."""

MAX_BITS_APART = 4
MAX_LEVELS_APART = 24
"""Images are alike when their bits differ in at most so many places and each cell of their colours
by at most so many levels."""

COLOUR_CELLS = 4 * 4 * 3

_BLOCKS = np.array_split(np.arange(64), 6)
"""Of hashes that differ in 4 bits, at least two of six blocks are equal (Manku et al., WWW 2007,
"Detecting Near-Duplicates for Web Crawling")."""

_MAX_NEIGHBOURS = 256
"""In each table an image is compared with at most so many others, those with the nearest hashes:
a thousand frames of one film are linked as a chain."""

_WHITE = (255, 255, 255)


class Likeness(NamedTuple):
    """What is kept of an image to compare it with others."""

    bits: int
    """A difference hash of 64 bits (Krawetz 2013, "Kind of Like That"), each the sign of a step
    between two of 8 x 9 grey cells; 0 for an image with too few edges, which is like no other."""
    colours: bytes
    """The mean red, green and blue of 4 x 4 cells."""


def likeness_of(image: Image.Image) -> Likeness:
    """The fingerprint of a decoded image, whose transparency is laid on its ground."""
    opaque, _ = lay_on_ground(image, _WHITE)
    small = opaque.resize((36, 32), Image.Resampling.BOX, reducing_gap=2.0)
    grey = small.convert("L").resize((9, 8), Image.Resampling.BOX)
    cells = np.asarray(grey, dtype=np.int16)
    steps = (np.diff(cells, axis=1) > MARGIN).ravel()
    bits = int.from_bytes(np.packbits(steps).tobytes()) if steps.sum() >= MIN_BITS else 0
    return Likeness(bits, small.resize((4, 4), Image.Resampling.BOX).tobytes())


def pairs_alike(
    bits: NDArray[np.uint64], colours: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of N images that are alike, as two arrays of their numbers, of equal length.

    `bits` is (N,), `colours` (N, COLOUR_CELLS). The result depends on the order of the images only
    where more than _MAX_NEIGHBOURS of them share blocks. Takes seconds for a million images.
    """
    has_bits = np.flatnonzero(bits)
    bits, colours = bits[has_bits], colours[has_bits]
    first, second = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for blocks in combinations(_BLOCKS, 2):
        mask = np.uint64(sum(1 << int(bit) for block in blocks for bit in block))
        order = np.lexsort((bits, bits & mask))
        keys = bits[order] & mask
        left = np.arange(len(keys))
        for shift in range(1, _MAX_NEIGHBOURS + 1):
            left = left[left < len(keys) - shift]
            left = left[keys[left] == keys[left + shift]]
            if not len(left):
                break
            a, b = order[left], order[left + shift]
            near = np.bitwise_count(bits[a] ^ bits[b]) <= MAX_BITS_APART
            a, b = a[near], b[near]
            apart = np.abs(colours[a].astype(np.int16) - colours[b]).max(axis=1, initial=0)
            first.append(a[apart <= MAX_LEVELS_APART])
            second.append(b[apart <= MAX_LEVELS_APART])
    return has_bits[np.concatenate(first)], has_bits[np.concatenate(second)]
