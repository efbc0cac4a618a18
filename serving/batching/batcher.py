"""One dynamic batcher: many callers' items share runs of one graph. B batch."""

from __future__ import annotations

import asyncio
import collections
import functools
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.onnx_graph import GraphName
from serving.batching.admission import AdmissionConfig, ItemAdmission, Permits
from serving.batching.worker_thread import WorkerThread
from serving.core.config import ServerConfig
from serving.core.errors import ErrorKind, ServingError, expired, internal
from serving.core.metrics import BatcherMetrics
from serving.engines.base import EngineError
from serving.engines.outputs import OutputRow

log = logging.getLogger(__name__)

RunBatch = Callable[[NDArray[Any]], list[OutputRow | EngineError]]
"""Runs a batch (B, ...) on the engine; called in one of the batcher's own threads."""


@dataclass(frozen=True, kw_only=True)
class BatcherConfig:
    """Bounds of one batcher."""

    room: AdmissionConfig
    """What is let in."""
    max_batch: int
    """Items in one run."""
    runs: int
    """Runs at the same time."""
    wait_s: float
    """How long an idle engine waits for items that are admitted and not here yet."""


def batcher_config(graph: GraphName, config: ServerConfig, runs: int) -> BatcherConfig:
    """The bounds of a graph's batcher in a server, for an engine of so many runs."""
    limits, batch = config.limits, config.batch
    return BatcherConfig(
        room=AdmissionConfig(
            capacity=limits.queue_texts if graph == "text" else limits.queue_images,
            max_ahead_s=limits.queue_s,
        ),
        max_batch=batch.max_texts if graph == "text" else batch.max_images,
        runs=runs,
        wait_s=batch.wait_ms / 1000,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """An item's checked output, and where its time went."""

    row: OutputRow
    queue_s: float
    inference_s: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _QueuedItem:
    array: NDArray[Any]
    deadline: float
    arrived: float
    future: asyncio.Future[Done]


class Batcher:
    """Runs admitted items in batches and hands each its own result or error.

    An idle engine takes what is there; a busy one lets items gather, and begins a run beside those
    that go on when a batch is full or nothing more is coming.
    """

    def __init__(
        self,
        run: RunBatch,
        config: BatcherConfig,
        metrics: BatcherMetrics,
        outcome: Callable[[bool], None],
    ) -> None:
        self._run = run
        self._config = config
        self._metrics = metrics
        self._outcome = outcome
        self._waiting: dict[int, _QueuedItem] = {}
        self._numbers = itertools.count()
        self._changed = asyncio.Event()
        self.room = ItemAdmission(config.room, metrics.slots, self._changed)
        """Where items get their places, before they are decoded."""
        self._threads = [WorkerThread("engine") for _ in range(config.runs)]
        self._idle = collections.deque(self._threads)
        self._task = asyncio.get_running_loop().create_task(self._loop())

    def submit(self, array: NDArray[Any], deadline: float, places: Permits) -> asyncio.Future[Done]:
        """Queues an item that has a place; cancelling the future takes it out again.

        `deadline` is in the event loop's time. The future raises ServingError.
        """
        loop = asyncio.get_running_loop()
        number = next(self._numbers)
        future: asyncio.Future[Done] = loop.create_future()
        self._waiting[number] = _QueuedItem(
            array=array, deadline=deadline, arrived=loop.time(), future=future
        )
        self._metrics.queued.inc()
        future.add_done_callback(lambda done: self._leave(number, done))
        places.use()
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
                waiting.future.set_exception(
                    ServingError(ErrorKind.UNAVAILABLE, "the model is closed")
                )
        for thread in self._threads:
            thread.close()

    async def _loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._changed.wait()
            if self._waiting:
                await self._gather()
            batch = self._take(loop.time())
            if not batch:
                self._changed.clear()
                continue
            thread = self._idle.pop()
            arrays = [waiting.array for waiting in batch]
            run = thread.run(functools.partial(self._isolated, arrays))
            run.add_done_callback(functools.partial(self._on_run, thread, batch, loop.time()))

    async def _gather(self) -> None:
        """Waits for items that are still being decoded, while a batch has room for them.

        For a moment when nothing runs, else until a run ends.
        """
        idle = len(self._idle)
        moment = self._config.wait_s if idle == self._config.runs else None
        try:
            async with asyncio.timeout(moment):
                while not self._is_full() and len(self._idle) == idle:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self._changed.set()

    def _is_full(self) -> bool:
        """No batch can become larger by waiting."""
        return len(self._waiting) >= self._config.max_batch or not self.room.coming

    def _take(self, now: float) -> list[_QueuedItem]:
        """The next batch: oldest first, without those that are cancelled or too late.

        Empty while every thread is busy. When nothing more is coming, the idle ones share what
        there is.
        """
        size = self._config.max_batch if self._idle else 0
        if self._idle and not self.room.coming:
            size = min(size, -(-len(self._waiting) // len(self._idle)))
        batch: list[_QueuedItem] = []
        while self._waiting and len(batch) < size:
            number = next(iter(self._waiting))
            waiting = self._waiting[number]
            self._forget(number)
            if waiting.future.done():
                continue
            if waiting.deadline <= now:
                waiting.future.set_exception(expired())
            else:
                batch.append(waiting)
        return batch

    def _isolated(self, arrays: list[NDArray[Any]]) -> list[OutputRow | EngineError]:
        """Runs a batch; one that fails is halved until the culprit is alone."""
        try:
            return self._run(np.stack(arrays))
        except Exception as error:
            if len(arrays) == 1:
                return [error if isinstance(error, EngineError) else EngineError(repr(error))]
        middle = len(arrays) // 2
        return self._isolated(arrays[:middle]) + self._isolated(arrays[middle:])

    def _on_run(
        self,
        thread: WorkerThread,
        batch: list[_QueuedItem],
        started: float,
        run: asyncio.Future[list[OutputRow | EngineError]],
    ) -> None:
        self._idle.append(thread)
        self._changed.set()
        seconds = asyncio.get_running_loop().time() - started
        self._metrics.batch.observe(len(batch))
        self._metrics.inference.observe(seconds)
        self.room.observe(seconds, seconds / len(batch) / self._config.runs)
        for waiting, result in zip(batch, run.result(), strict=True):
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
