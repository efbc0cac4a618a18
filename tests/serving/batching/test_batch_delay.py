"""When an idle engine waits for the next item."""

from __future__ import annotations

from serving.batching.batch_delay import BatchDelay


def delay_of(*, gap_s: float, fixed_s: float, item_s: float = 0.002) -> BatchDelay:
    """Items that came every `gap_s`, and runs that took `fixed_s` beside `item_s` for each item."""
    delay = BatchDelay()
    for number in range(20):
        delay.on_item(number * gap_s, others=True)
    for items in (1, 4, 2, 8):
        delay.on_run(items, fixed_s + items * item_s)
    return delay


def test_it_waits_while_a_shared_run_saves_more_than_the_wait_costs() -> None:
    delay = delay_of(gap_s=0.001, fixed_s=0.005)
    assert [ready for ready in range(1, 9) if delay.pays(ready)] == [1, 2, 3, 4]


def test_it_does_not_wait_for_items_that_come_slowly_or_runs_without_fixed_cost() -> None:
    assert not delay_of(gap_s=0.004, fixed_s=0.005).pays(1)
    assert not delay_of(gap_s=0.001, fixed_s=0.0).pays(1)


def test_a_pause_in_which_nothing_was_expected_is_no_gap() -> None:
    delay = delay_of(gap_s=0.001, fixed_s=0.005)
    delay.on_item(100.0, others=False)
    delay.on_item(200.0, others=True)
    delay.on_item(200.001, others=True)
    assert delay._gap_s is not None
    # One gap of 80 s counted, since others were expected before it; the pause did not.
    assert delay._gap_s < 100 * 0.25


def test_it_waits_as_long_as_it_may_while_nothing_is_known() -> None:
    delay = BatchDelay()
    assert delay.pays(1)
    for number in range(5):
        delay.on_item(number * 1.0, others=True)
        delay.on_run(1, 0.01)
    assert delay.fixed_s is None
    assert delay.pays(1)


def test_noise_does_not_make_the_fixed_cost_negative_or_more_than_a_run() -> None:
    delay = BatchDelay()
    for items, seconds in ((1, 0.001), (2, 0.010), (1, 0.001), (2, 0.012)):
        delay.on_run(items, seconds)
    assert delay.fixed_s == 0.0
    for items, seconds in ((8, 0.004), (1, 0.012)) * 8:
        delay.on_run(items, seconds)
    assert delay.fixed_s is not None
    assert 0.004 <= delay.fixed_s <= 0.012
