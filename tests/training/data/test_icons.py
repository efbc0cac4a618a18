"""Drawings as square images."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from training.data.icons import render, svg


def test_rendering_keeps_aspect_and_transparency() -> None:
    wide = svg('<rect width="40" height="20" fill="#f00"/>', [0, 0, 40, 20]).encode()
    with Image.open(io.BytesIO(render(wide, 32))) as image:
        assert image.size == (32, 32)
        assert image.getpixel((16, 16)) == (255, 0, 0, 255)
        assert image.getpixel((16, 2)) == (0, 0, 0, 0)


def test_trimming_fills_the_square() -> None:
    page = svg('<rect width="10" height="10" fill="#00f"/>', [0, 0, 100, 100])
    corner = page.replace('"100"', '"100pt"').encode()
    with Image.open(io.BytesIO(render(corner, 32, trim=True))) as image:
        assert image.getpixel((26, 26)) == (0, 0, 255, 255)


def test_an_empty_drawing_is_a_failure() -> None:
    with pytest.raises(ValueError, match="empty drawing"):
        render(b'<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>', 8)
