"""Where the hottest cell of a map is."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.pointing import QUADRANTS, SIDES, Region, hit


def hot(
    rows: int, columns: int, *cells: tuple[int, int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    grid = np.full((rows, columns), 0.5, np.float32)
    for cell in cells:
        grid[cell] = 2.0
    return grid


@pytest.mark.parametrize("region", QUADRANTS)
def test_a_cell_is_in_its_own_quadrant_alone(region: Region) -> None:
    row, column = (0 if region.y < 0 else 3), (1 if region.x < 0 else 2)
    assert [hit(hot(4, 4, (row, column)), other) for other in QUADRANTS] == [
        float(other == region) for other in QUADRANTS
    ]


def test_a_cell_on_the_border_of_two_parts_is_half_in_each() -> None:
    assert [hit(hot(7, 7, (3, 0)), region) for region in QUADRANTS] == [0.5, 0.0, 0.5, 0.0]
    assert [hit(hot(7, 7, (3, 3)), region) for region in QUADRANTS] == [0.25] * 4
    assert [hit(hot(7, 7, (3, 0)), region) for region in SIDES] == [1.0, 0.0]


def test_ties_count_as_their_share() -> None:
    assert hit(hot(4, 4, (0, 0), (0, 3)), Region(-1, -1)) == 0.5
    assert hit(np.ones((4, 4), np.float32), Region(1, 0)) == 0.5


def test_a_map_of_zeros_points_nowhere() -> None:
    assert hit(np.zeros((4, 4), np.float32), Region(1, 0)) == 0.0
