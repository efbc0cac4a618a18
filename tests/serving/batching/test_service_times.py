"""What the work ahead will take, by what work has taken so far."""

from __future__ import annotations

import pytest

from serving.batching.service_times import BUSY_ITEMS, ServiceTimes


def test_before_the_first_run_nothing_is_known() -> None:
    times = ServiceTimes()
    assert (times.run_s, times.item_s(1, 0.0)) == (0.0, 0.0)


def test_an_idle_server_counts_its_runs_alone() -> None:
    times = ServiceTimes()
    for n in range(8):
        times.observe(0.4, 4, runs=2, admitted=4, now=float(n))
    assert times.run_s == 0.4
    assert times.item_s(100, 8.0) == pytest.approx(0.05)


def busy(stall_s: float = 0.0) -> ServiceTimes:
    """A server whose runs of 4 take 0.04 s, but of which one ends every 0.1 s: it decodes, too."""
    times, now = ServiceTimes(), 0.0
    for n in range(10):
        now += 0.1 + (stall_s if n == 5 else 0.0)
        times.observe(0.04, 4, runs=1, admitted=BUSY_ITEMS + 4, now=now)
    return times


def test_a_busy_server_counts_how_fast_items_leave() -> None:
    assert busy().item_s(100, 1.0) == pytest.approx(1.1 * 0.025)
    assert busy().item_s(BUSY_ITEMS - 1, 1.0) == pytest.approx(0.01)  # it is not busy any more
    assert busy().item_s(100, 100.0) == pytest.approx(0.01)  # it is long ago


def test_a_stall_that_is_over_does_not_count() -> None:
    assert busy(stall_s=5.0).item_s(100, 6.0) == pytest.approx(1.1 * 0.025)


def test_a_pause_between_two_busy_times_does_not_count() -> None:
    times = busy()
    times.observe(0.04, 4, runs=1, admitted=4, now=1.1)
    for n in range(5):
        times.observe(0.04, 4, runs=1, admitted=BUSY_ITEMS + 4, now=50.0 + n / 10)
    assert times.item_s(100, 51.0) == pytest.approx(1.1 * 0.025)
