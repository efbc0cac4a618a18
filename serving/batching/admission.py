"""How much a batcher lets in: places for items, held until their call is answered."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from prometheus_client import Gauge

from serving.core.errors import ErrorKind, ServingError

BULK_SHARE = 0.5
"""Streams fill so much of a queue and no more; the rest is left to callers who wait."""


@dataclass(frozen=True, kw_only=True)
class AdmissionConfig:
    """Bounds of what is in work."""

    capacity: int
    """Items admitted and not answered yet."""
    max_ahead_s: float
    """Work ahead of a new call, in seconds, beyond which it is refused."""


class Permits:
    """Room for the items of one call."""

    def __init__(self, count: int, changed: asyncio.Event) -> None:
        self._changed = changed
        self.left = count
        """Items that are still being decoded."""

    def use(self) -> None:
        """An item is decoded, or will never be."""
        self.left -= 1
        self._changed.set()


class ItemAdmission:
    """Counts every item that was let in and not answered yet, decoded or not.

    So what waits is bounded in memory too. `changed` is set whenever something leaves.
    """

    def __init__(self, config: AdmissionConfig, slots: Gauge, changed: asyncio.Event) -> None:
        self._config = config
        self._slots = slots
        self._changed = changed
        self._places: set[Permits] = set()
        self._turns: collections.deque[asyncio.Future[None]] = collections.deque()
        self._item_times: collections.deque[float] = collections.deque(maxlen=16)
        self._run_times: collections.deque[float] = collections.deque(maxlen=16)
        self.admitted = 0
        """Items let in and not answered yet."""

    @property
    def coming(self) -> int:
        """Items let in that are still being decoded."""
        return sum(places.left for places in self._places)

    def observe(self, run_s: float, item_s: float) -> None:
        """Learns from a run what it took, and what of that each of its items cost the engine."""
        self._run_times.append(run_s)
        self._item_times.append(item_s)

    @contextmanager
    def admit(self, count: int, deadline: float) -> Iterator[Permits]:
        """Holds places for `count` items that are wanted by `deadline`, in the event loop's time.

        Raises ServingError at once when there is no room, too much work is ahead, or so much that
        the deadline would pass: what is answered too late takes the time of what is not.
        """
        if count and not (self._has_room(count) and self._in_time(count, deadline)):
            seconds = max(0.1, min(self.admitted * _usual(self._item_times), 5.0))
            raise ServingError(ErrorKind.EXHAUSTED, "the queue is full", retry_after=seconds)
        with self._holding(count) as places:
            yield places

    @asynccontextmanager
    async def admit_when_free(self) -> AsyncIterator[Permits]:
        """Holds a place for one item of a stream, after waiting until streams may have one."""
        while not self._has_room(1, BULK_SHARE):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._turns.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake()  # the turn may have been given to us already
                raise
        with self._holding(1) as places:
            yield places

    @contextmanager
    def _holding(self, count: int) -> Iterator[Permits]:
        places = Permits(count, self._changed)
        self._places.add(places)
        self._count(count)
        try:
            yield places
        finally:
            self._places.remove(places)
            self._count(-count)
            self._changed.set()
            self._wake()

    def _has_room(self, count: int, share: float = 1.0) -> bool:
        if self.admitted + count > max(1.0, share * self._config.capacity):
            return False
        return self.admitted * _usual(self._item_times) <= share * self._config.max_ahead_s

    def _in_time(self, count: int, deadline: float) -> bool:
        """Whether the last of `count` items would be answered by then, as far as one can tell."""
        if not self.admitted:
            return True
        left = deadline - asyncio.get_running_loop().time()
        work = (self.admitted + count) * _usual(self._item_times)
        return work + _usual(self._run_times) <= left

    def _count(self, change: int) -> None:
        self.admitted += change
        self._slots.inc(change)

    def _wake(self) -> None:
        while self._turns and self._has_room(1, BULK_SHARE):
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return


def _usual(times: collections.deque[float]) -> float:
    """The lower quartile of the last times in seconds; 0 where there are none.

    Small batches and a stalled machine make work look dearer than it is, and refusing calls for
    that would do harm where a deadline does none.
    """
    return sorted(times)[len(times) // 4] if times else 0.0
