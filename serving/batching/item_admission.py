"""Admission control of one batcher: a bounded number of slots, held until a call is answered."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from serving.batching.service_times import ServiceTimes
from serving.core.errors import ErrorKind, ServingError
from serving.core.loop_metrics import Level
from serving.core.priority_queue import BULK_TURN, WorkPriority

BULK_SHARE = 0.5
"""The share of a queue that bulk work may fill, which streams are. The rest is kept for calls whose
callers wait for the answer."""


@dataclass(frozen=True, kw_only=True)
class AdmissionConfig:
    """Bounds of what is in flight in one batcher."""

    slots: int
    """Items admitted and not yet answered."""
    max_ahead_s: float
    """A new call is refused when more than this many seconds of work are ahead of it."""


class Permits:
    """The slots of one call, one for each item. A permit is used when its item is queued."""

    def __init__(self, count: int, priority: WorkPriority, on_use: Callable[[], None]) -> None:
        self._on_use = on_use
        self.priority = priority
        """That of the call."""
        self.unused = count
        """Items that are still being decoded."""

    def use(self) -> None:
        """Uses one permit: its item is in the queue, or failed before it got there."""
        self.unused -= 1
        self._on_use()


class ItemAdmission:
    """Counts the items that are admitted and not yet answered, decoded or not.

    Items count before they are decoded, so that the memory of waiting calls is bounded too.
    `changed` is set whenever a permit is used or a call gives its slots back.
    """

    def __init__(self, config: AdmissionConfig, slots: Level, changed: asyncio.Event) -> None:
        self._config = config
        self._slots = slots
        self._changed = changed
        self._waiting_streams: collections.deque[asyncio.Future[None]] = collections.deque()
        self.times = ServiceTimes()
        """What work has taken so far."""
        self.admitted = 0
        """Items admitted and not yet answered: slots in use."""
        self._admitted_bulk = 0
        """Those of them that are bulk work."""
        self.expected = 0
        """Items admitted and still being decoded; they will be queued soon."""

    @contextmanager
    def admit(
        self, count: int, deadline: float, priority: WorkPriority = "interactive"
    ) -> Iterator[Permits]:
        """Holds slots for `count` items until the block ends.

        `deadline` is in the event loop's time. Raises ServingError at once when the slots are
        taken, too much work is ahead, or the deadline could not be met.
        """
        self.check(count, deadline, priority)
        with self._hold(count, priority) as permits:
            yield permits

    def check(self, count: int, deadline: float, priority: WorkPriority = "interactive") -> None:
        """Raises ServingError when `count` items would not be admitted now.

        Work that is finished late only delays work that could be on time.
        """
        if count and not (
            self._has_capacity(count, priority) and self._can_meet(deadline, count, priority)
        ):
            seconds = round(max(0.1, min(self._seconds_of(self.admitted), 5.0)), 2)
            raise ServingError(ErrorKind.EXHAUSTED, "the queue is full", retry_after=seconds)

    @asynccontextmanager
    async def admit_when_free(self, priority: WorkPriority = "bulk") -> AsyncIterator[Permits]:
        """Waits for a slot that streams may use, and holds it for one item."""
        while not self._has_capacity(1, "bulk"):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting_streams.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                # `_wake_stream` may have chosen this waiter already: pass the slot on.
                self._wake_stream()
                raise
        with self._hold(1, priority) as permits:
            self._wake_stream()  # a call that leaves may free slots for more than one
            yield permits

    @contextmanager
    def _hold(self, count: int, priority: WorkPriority) -> Iterator[Permits]:
        permits = Permits(count, priority, self._on_use)
        self.expected += count
        self._count(count, priority)
        try:
            yield permits
        finally:
            self.expected -= permits.unused  # nobody waits for their items
            self._count(-count, priority)
            self._changed.set()
            self._wake_stream()

    def _on_use(self) -> None:
        self.expected -= 1
        self._changed.set()

    def _has_capacity(self, count: int, priority: WorkPriority) -> bool:
        share = BULK_SHARE if priority == "bulk" else 1.0
        # With a share of less than one slot, one item is still admitted.
        if self.admitted + count > max(1.0, share * self._config.slots):
            return False
        ahead_s = self._seconds_of(self._before(0, priority))
        return ahead_s <= share * self._config.max_ahead_s

    def _can_meet(self, deadline: float, count: int, priority: WorkPriority) -> bool:
        """Whether the last of `count` items is likely to be answered by the deadline."""
        if not self.admitted:
            # Nothing is ahead. The measured times may be those of a stall that is over, and only a
            # new run can correct them, so an idle engine always takes the call.
            return True
        # The items ahead and those of this call leave the queue at one per `item_s`. The last one
        # then waits for its own run to end, which takes `run_s` whatever its batch size.
        ahead_s = self._seconds_of(self._before(count, priority)) + self.times.run_s
        return ahead_s <= deadline - asyncio.get_running_loop().time()

    def _before(self, count: int, priority: WorkPriority) -> float:
        """Items that leave the queue until the last of `count` new ones does, these included."""
        if priority == "bulk":
            return self.admitted + count
        interactive = self.admitted - self._admitted_bulk + count
        return interactive + min(self._admitted_bulk, interactive / (BULK_TURN - 1))

    def _seconds_of(self, items: float) -> float:
        """Seconds that the engine needs for so many items; 0 before the first run."""
        now = asyncio.get_running_loop().time()
        return items * self.times.item_s(self.admitted, now)

    def _count(self, change: int, priority: WorkPriority) -> None:
        self.admitted += change
        self._slots.inc(change)
        if priority == "bulk":
            self._admitted_bulk += change

    def _wake_stream(self) -> None:
        """Lets the stream item that has waited longest look for a slot again; it wakes the next."""
        while self._waiting_streams and self._has_capacity(1, "bulk"):
            turn = self._waiting_streams.popleft()
            if not turn.done():
                turn.set_result(None)
                return
