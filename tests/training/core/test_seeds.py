"""Seeds that every recorded run depends on: these values, and no two alike."""

from __future__ import annotations

from training.core.seeds import derive_seed


def test_the_values_stay_as_they_are() -> None:
    assert derive_seed(0, 7) == 7
    assert derive_seed(3, 7) == 3_000_016
    assert derive_seed(2, -1) == 2_000_005  # the order of an epoch


def test_steps_and_epochs_of_different_seeds_share_none() -> None:
    numbers = [*range(-50, 0), *range(999_000)]
    first, second = ({derive_seed(seed, number) for number in numbers} for seed in (0, 1))
    assert len(first) == len(second) == len(numbers)
    assert first.isdisjoint(second)
