"""One dynamic batcher: many callers' items share runs of one graph. B batch."""

from __future__ import annotations

import asyncio
import collections
import functools
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines.base import EngineError
from serving.engines.rows import Row
from serving.errors import Kind, ServingError, expired, internal
from serving.metrics import BatcherMetrics
from serving.worker_thread import WorkerThread

log = logging.getLogger(__name__)

Run = Callable[[NDArray[Any]], list[Row | EngineError]]
"""Runs a batch (B, ...) on the engine; called in the batcher's own thread."""

BULK_SHARE = 0.5
"""Streams fill so much of a queue and no more; the rest is left to callers who wait."""


@dataclass(frozen=True, kw_only=True)
class BatcherConfig:
    """Bounds of one batcher."""

    max_batch: int
    """Items in one run."""
    capacity: int
    """Items admitted and not answered yet."""
    max_ahead_s: float
    """Work ahead of a new call, in seconds, beyond which it is refused."""
    wait_s: float
    """How long an idle engine waits for items that are admitted and not here yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """An item's checked output, and where its time went."""

    row: Row
    queue_s: float
    inference_s: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Waiting:
    array: NDArray[Any]
    deadline: float
    arrived: float
    future: asyncio.Future[Done]


class Places:
    """Room for some items in a batcher; each is submitted at most once."""

    def __init__(self, batcher: Batcher, count: int) -> None:
        self._batcher = batcher
        self.left = count
        """Items that are still being decoded."""

    def submit(self, array: NDArray[Any], deadline: float) -> asyncio.Future[Done]:
        """Queues an item; cancelling the future takes it out again.

        `deadline` is in the event loop's time. The future raises ServingError.
        """
        self.left -= 1
        return self._batcher._submit(array, deadline)


class Batcher:
    """Admits items, runs them in batches and hands each its own result or error.

    An idle engine takes what is there; a busy one lets items gather. Admission counts every item
    that was let in and not answered yet, decoded or not, so what waits is bounded in memory too.
    """

    def __init__(
        self,
        run: Run,
        config: BatcherConfig,
        metrics: BatcherMetrics,
        outcome: Callable[[bool], None],
    ) -> None:
        self._run = run
        self._config = config
        self._metrics = metrics
        self._outcome = outcome
        self._thread = WorkerThread("engine")
        self._waiting: dict[int, _Waiting] = {}
        self._numbers = itertools.count()
        self._arrival = asyncio.Event()
        self._places: set[Places] = set()
        self._admitted = 0
        self._for_room: collections.deque[asyncio.Future[None]] = collections.deque()
        self._recent: collections.deque[float] = collections.deque(maxlen=16)
        self._task = asyncio.get_running_loop().create_task(self._loop())

    @property
    def admitted(self) -> int:
        """Items let in and not answered yet."""
        return self._admitted

    @contextmanager
    def admit(self, count: int) -> Iterator[Places]:
        """Holds places for `count` items.

        Raises ServingError at once when there is no room, or too much work is ahead.
        """
        if count and not self._has_room(count):
            seconds = max(0.1, min(self._admitted * self._item_s, 5.0))
            raise ServingError(Kind.EXHAUSTED, "the queue is full", retry_after=seconds)
        places = Places(self, count)
        self._places.add(places)
        self._count(count)
        try:
            yield places
        finally:
            self._places.remove(places)
            self._count(-count)
            self._wake()

    @asynccontextmanager
    async def admit_when_free(self) -> AsyncIterator[Places]:
        """Holds a place for one item of a stream, after waiting until streams may have one."""
        while not self._has_room(1, BULK_SHARE):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._for_room.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake()  # the turn may have been given to us already
                raise
        with self.admit(1) as places:
            yield places

    @property
    def _item_s(self) -> float:
        """Seconds that an item costs the engine, when it is busy.

        The lower quartile of the last runs: small batches and a stalled machine make an item look
        dearer than it is, and refusing calls for that would do harm where a deadline does none.
        """
        return sorted(self._recent)[len(self._recent) // 4] if self._recent else 0.0

    def _has_room(self, count: int, share: float = 1.0) -> bool:
        if self._admitted + count > max(1.0, share * self._config.capacity):
            return False
        return self._admitted * self._item_s <= share * self._config.max_ahead_s

    def _count(self, change: int) -> None:
        self._admitted += change
        self._metrics.slots.inc(change)

    def _wake(self) -> None:
        while self._for_room and self._has_room(1, BULK_SHARE):
            turn = self._for_room.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _submit(self, array: NDArray[Any], deadline: float) -> asyncio.Future[Done]:
        loop = asyncio.get_running_loop()
        number = next(self._numbers)
        future: asyncio.Future[Done] = loop.create_future()
        self._waiting[number] = _Waiting(
            array=array, deadline=deadline, arrived=loop.time(), future=future
        )
        self._metrics.queued.inc()
        future.add_done_callback(lambda done: self._leave(number, done))
        self._arrival.set()
        return future

    def _leave(self, number: int, future: asyncio.Future[Done]) -> None:
        self._forget(number)
        if not future.cancelled():
            future.exception()  # a caller that left does not want it

    def _forget(self, number: int) -> None:
        if self._waiting.pop(number, None) is not None:
            self._metrics.queued.dec()

    async def close(self) -> None:
        """Ends the loop; what still waits fails as unavailable."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for waiting in list(self._waiting.values()):
            if not waiting.future.done():
                waiting.future.set_exception(ServingError(Kind.UNAVAILABLE, "the model is closed"))
        self._thread.close()

    async def _loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrival.wait()
            await self._gather()
            batch = self._take(loop.time())
            if not batch:
                continue
            started = loop.time()
            arrays = [waiting.array for waiting in batch]
            results = await self._thread.run(functools.partial(self._isolated, arrays))
            self._settle(batch, results, started, loop.time() - started)

    async def _gather(self) -> None:
        """Waits a moment for items that are still being decoded, while a batch has room."""
        if self._is_full() or self._config.wait_s <= 0:
            return
        try:
            async with asyncio.timeout(self._config.wait_s):
                while not self._is_full():
                    self._arrival.clear()
                    await self._arrival.wait()
        except TimeoutError:
            self._arrival.set()

    def _is_full(self) -> bool:
        """No batch can become larger by waiting."""
        coming = sum(places.left for places in self._places)
        return coming == 0 or len(self._waiting) >= self._config.max_batch

    def _take(self, now: float) -> list[_Waiting]:
        """The next batch: oldest first, without those that are cancelled or too late."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._config.max_batch:
            number = next(iter(self._waiting))
            waiting = self._waiting[number]
            self._forget(number)
            if waiting.future.done():
                continue
            if waiting.deadline <= now:
                waiting.future.set_exception(expired())
            else:
                batch.append(waiting)
        if not self._waiting:
            self._arrival.clear()
        return batch

    def _isolated(self, arrays: list[NDArray[Any]]) -> list[Row | EngineError]:
        """Runs a batch; one that fails is halved until the culprit is alone."""
        try:
            return self._run(np.stack(arrays))
        except Exception as error:
            if len(arrays) == 1:
                return [error if isinstance(error, EngineError) else EngineError(repr(error))]
        middle = len(arrays) // 2
        return self._isolated(arrays[:middle]) + self._isolated(arrays[middle:])

    def _settle(
        self,
        batch: list[_Waiting],
        results: list[Row | EngineError],
        started: float,
        seconds: float,
    ) -> None:
        self._metrics.batch.observe(len(batch))
        self._metrics.inference.observe(seconds)
        self._recent.append(seconds / len(batch))
        for waiting, result in zip(batch, results, strict=True):
            queued = started - waiting.arrived
            self._metrics.queue.observe(queued)
            failed = isinstance(result, EngineError)
            self._outcome(not failed)
            if failed:
                log.error("engine: %s", result)
            if waiting.future.done():
                continue
            if isinstance(result, EngineError):
                waiting.future.set_exception(internal())
            else:
                done = Done(row=result, queue_s=queued, inference_s=seconds)
                waiting.future.set_result(done)
