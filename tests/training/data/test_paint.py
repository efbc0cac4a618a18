"""Colours of a drawing follow from its name alone, and its figure can be seen."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from training.data.icons import render, svg
from training.data.paint import Colours, contrast, paint, pick_colours

NAMES = [f"set/name-{i}" for i in range(600)]
SQUARE = '<path fill="currentColor" d="M0 0h16v16H0z"/>'


def rgb(colour: str | None) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex((colour or "#ffffff")[1:])
    return red, green, blue


def test_the_same_name_has_the_same_colours_on_every_machine() -> None:
    assert pick_colours("game-icons/anvil") == Colours("#501b2d", "#ffffff")
    assert pick_colours("tabler/anvil") == Colours("#fae291", "#1081b2")


def test_every_figure_stands_out_from_its_ground() -> None:
    for name in NAMES:
        colours = pick_colours(name)
        assert contrast(rgb(colours.figure), rgb(colours.ground)) >= 3, name


def test_grounds_are_transparent_white_or_coloured() -> None:
    grounds = [pick_colours(name).ground for name in NAMES]
    assert grounds.count(None) == pytest.approx(0.3 * len(NAMES), abs=40)
    assert grounds.count("#ffffff") == pytest.approx(0.2 * len(NAMES), abs=40)
    assert len(set(grounds)) > 0.4 * len(NAMES)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


def test_a_painted_drawing_shows_its_figure_on_its_ground() -> None:
    wanted = {True, False}
    for name in NAMES:
        colours = pick_colours(name)
        if (colours.ground is None) not in wanted:
            continue
        wanted.discard(colours.ground is None)
        body, box = paint(SQUARE, [0, 0, 16, 8], name)
        png = render(svg(body, box).encode(), 64)
        with Image.open(io.BytesIO(png)) as image:
            assert image.getpixel((32, 30)) == (*rgb(colours.figure), 255)
            corner = (0, 0, 0, 0) if colours.ground is None else (*rgb(colours.ground), 255)
            assert image.getpixel((1, 1)) == corner
    assert not wanted
