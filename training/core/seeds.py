"""One way to derive the seed of a step, an epoch or a chunk from the seed of a run."""

from __future__ import annotations

STRIDE = 1_000_003
"""A prime above the number of steps of any run, so that runs of different seeds share no seed."""


def derive_seed(seed: int, number: int) -> int:
    """The seed of item `number` (a step, a chunk; negative for epochs) of the run with `seed`.

    It depends on nothing else, so a run that resumes at a step draws what the uninterrupted run
    draws there, and no generator's state has to be saved. Changing the values changes every run.
    """
    return seed * STRIDE + number
