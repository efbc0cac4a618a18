"""How many examples a test of hypothesis takes, in `make test` and in `make test-explore`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

HOUSE, EXPLORE = 100, 2_000
"""Examples of a test that names no number of its own."""


def register_profiles() -> None:
    """`house` takes the same examples on every run, so that no run fails by chance. `explore` takes
    other ones each time, and more."""
    # How fast examples come is the machine's affair: in a fresh clone the first ones wait for
    # hypothesis to build its tables of characters. Fixtures that no example changes are shared.
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    shared = settings(deadline=None, suppress_health_check=checks)
    settings.register_profile("house", shared, max_examples=HOUSE, derandomize=True)
    settings.register_profile("explore", shared, max_examples=EXPLORE, print_blob=True)


def examples(number: int) -> settings:
    """For a test whose examples are dear: `number` of them in `make test`, in `make test-explore`
    as many times that as other tests take."""
    return settings(max_examples=number * settings.default.max_examples // HOUSE)
