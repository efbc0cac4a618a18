"""What waits, interactive work before bulk work."""

from __future__ import annotations

import itertools
from typing import Generic, Literal, TypeVar

WorkPriority = Literal["interactive", "bulk"]
"""A caller waits for interactive work; bulk work is a collection that nobody watches."""
PRIORITIES: tuple[WorkPriority, ...] = ("interactive", "bulk")

BULK_TURN = 4
"""While both wait, every fourth entry that is taken is bulk: it is slower then, and never stops."""

T = TypeVar("T")


class PriorityQueue(Generic[T]):
    """Entries of both priorities, each priority in the order of arrival."""

    def __init__(self) -> None:
        # Dicts by arrival number: an entry that is no longer wanted leaves in O(1).
        self._interactive: dict[int, T] = {}
        self._bulk: dict[int, T] = {}
        self._numbers = itertools.count()
        self._passed = 0
        """Interactive entries that were taken while bulk ones waited, since the last bulk one."""

    def __len__(self) -> int:
        return len(self._interactive) + len(self._bulk)

    def push(self, entry: T, priority: WorkPriority) -> int:
        """Adds an entry. Its number is what `remove` takes."""
        number = next(self._numbers)
        (self._bulk if priority == "bulk" else self._interactive)[number] = entry
        return number

    def remove(self, number: int) -> bool:
        """Takes an entry out, and says whether it still waited."""
        entries = self._interactive if number in self._interactive else self._bulk
        return entries.pop(number, None) is not None

    def pop(self) -> T:
        """Takes the next entry. Raises KeyError when none waits."""
        entries = self._interactive or self._bulk
        if self._bulk and self._interactive:
            self._passed += 1
            if self._passed == BULK_TURN:
                entries = self._bulk
        if entries is self._bulk:
            self._passed = 0
        return entries.pop(next(iter(entries), -1))
