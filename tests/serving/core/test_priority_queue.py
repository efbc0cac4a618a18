"""The order in which interactive and bulk work is taken."""

from __future__ import annotations

import pytest

from serving.core.priority_queue import PriorityQueue


def test_interactive_entries_come_first_and_every_fourth_is_bulk() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    for number in range(5):
        queue.push(f"bulk {number}", "bulk")
    for number in range(7):
        queue.push(f"now {number}", "interactive")
    taken = [queue.pop() for _ in range(len(queue))]
    assert taken == [
        *("now 0", "now 1", "now 2", "bulk 0"),
        *("now 3", "now 4", "now 5", "bulk 1"),
        *("now 6", "bulk 2", "bulk 3", "bulk 4"),
    ]
    with pytest.raises(KeyError):
        queue.pop()


def test_bulk_work_that_did_not_wait_takes_no_turn() -> None:
    queue: PriorityQueue[int] = PriorityQueue()
    for number in range(6):
        queue.push(number, "interactive")
    assert [queue.pop() for _ in range(6)] == list(range(6))
    queue.push(6, "bulk")
    queue.push(7, "interactive")
    assert [queue.pop(), queue.pop()] == [7, 6]


def test_an_entry_that_is_removed_is_not_taken() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    first = queue.push("first", "bulk")
    second = queue.push("second", "interactive")
    assert queue.remove(first)
    assert not queue.remove(first)
    assert len(queue) == 1
    assert queue.pop() == "second"
    assert not queue.remove(second)
