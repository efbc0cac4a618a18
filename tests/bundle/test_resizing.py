"""Resized parts of images, beside Pillow."""

from __future__ import annotations

import importlib.util

import numpy as np
import PIL
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bundle import resizing
from bundle.resizing import Interpolation, resize, resizer
from tests.bundle.encoded_images import noise, smooth

FILTERS: dict[Interpolation, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}
SIDES = st.one_of(st.integers(1, 9), st.integers(10, 700))


def by_pillow(
    image: Image.Image,
    size: tuple[int, int],
    interpolation: Interpolation,
    box: tuple[float, float, float, float],
) -> Image.Image:
    """Rows first, then columns."""
    left, top, right, bottom = box
    filter_ = FILTERS[interpolation]
    rows = image.resize((size[0], image.height), filter_, box=(left, 0, right, image.height))
    return rows.resize(size, filter_, box=(0, top, size[0], bottom))


@pytest.mark.parametrize("interpolation", FILTERS)
@given(width=SIDES, height=SIDES, size=st.tuples(SIDES, SIDES), data=st.data())
def test_any_part_is_resized_as_pillow_does_it(
    interpolation: Interpolation,
    width: int,
    height: int,
    size: tuple[int, int],
    data: st.DataObject,
) -> None:
    image = data.draw(st.sampled_from((noise, smooth)))(width, height)
    left = data.draw(st.floats(0, width - 0.5))
    top = data.draw(st.floats(0, height - 0.5))
    right = data.draw(st.floats(left + 0.5, width))
    bottom = data.draw(st.floats(top + 0.5, height))
    box = (left, top, right, bottom)
    resized = resize(image, size, interpolation, box)
    assert resized.size == size
    assert resized.mode == "RGB"
    expected = by_pillow(image, size, interpolation, box)
    difference = np.abs(np.asarray(resized, np.int16) - np.asarray(expected, np.int16))
    assert difference.max() <= 2
    assert (difference > 1).mean() <= max(2e-3, 3 / difference.size)


def test_a_rounding_error_does_not_lead_beyond_the_image() -> None:
    stop = 0.1 + (100 - 0.1)
    for side in range(80, 130):
        for start in np.linspace(0.1, 70, 40):
            assert start + resizing._extent(start, side, side) <= side
    assert resizing._extent(0.1, stop, 100) == pytest.approx(99.9)


def test_the_resizer_is_the_fast_one_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    image, box = noise(50, 40), (0.0, 0.0, 50.0, 40.0)
    if importlib.util.find_spec("cykooz_resizer"):
        assert resizer().startswith("cykooz-resizer 4.")
    monkeypatch.setattr(resizing, "_fast", None)
    assert resizer() == f"pillow {PIL.__version__}"
    expected = image.resize((24, 24), Image.Resampling.BICUBIC, box=box)
    assert resize(image, (24, 24), "bicubic", box).tobytes() == expected.tobytes()
