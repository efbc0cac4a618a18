"""Seeds of the steps, epochs and groups of a run, derived from the seed of the run."""

from __future__ import annotations

STRIDE = 1_000_003
"""A prime above the number of steps of any run, so that runs with different seeds share none."""


def derive_seed(seed: int, number: int) -> int:
    """The seed of item `number` (a step or a group; negative for an epoch) of the run with `seed`.

    It depends on nothing else, so a resumed run draws the same numbers as one that was not stopped,
    and no generator state has to be saved. Other values would change the result of every run.
    """
    return seed * STRIDE + number
