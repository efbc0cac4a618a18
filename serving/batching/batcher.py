"""One dynamic batcher: items of many calls share the runs of one graph. B batch."""

from __future__ import annotations

import asyncio
import collections
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.bounded_log import BoundedLog
from bundle.onnx_graph import GraphName
from serving.batching.batch_delay import BatchDelay
from serving.batching.item_admission import AdmissionConfig, ItemAdmission, Permits
from serving.batching.item_results import EmbeddedItem, StageTimes
from serving.batching.work_done import WorkDone
from serving.batching.worker_thread import WorkerThread
from serving.core.call_trace import CallTrace, current_trace, record_item
from serving.core.config import ServerConfig
from serving.core.coverage import NO_COVERAGE, ItemCoverage
from serving.core.errors import ErrorKind, ServingError, expired, internal
from serving.core.metrics import BatcherMetrics
from serving.core.priority_queue import PriorityQueue, WorkPriority
from serving.engines.base import EngineError, EngineLostError
from serving.engines.outputs import OutputRow

_LOST_RETRY_S = 1.0
"""When to try again what was lost with the engine's process. It begins again in a second or two."""

RunBatch = Callable[[NDArray[Any]], list[OutputRow | EngineError]]
"""Runs a batch (B, ...) on the engine, in one of the batcher's threads; B results, in order."""


@dataclass(frozen=True, kw_only=True)
class BatcherConfig:
    """Bounds of one batcher."""

    graph: GraphName
    """The graph that it runs."""
    admission: AdmissionConfig
    """Which calls are admitted."""
    max_batch: int
    """Maximum number of items in one run."""
    runs: int
    """Concurrent runs."""
    wait_s: float
    """The longest that an idle engine waits for items that are still being decoded."""


def batcher_config(graph: GraphName, config: ServerConfig, runs: int) -> BatcherConfig:
    """The bounds of a graph's batcher in a server whose engine takes `runs` concurrent runs."""
    limits, batch = config.limits, config.batch
    return BatcherConfig(
        graph=graph,
        admission=AdmissionConfig(
            slots=limits.queue_texts if graph == "text" else limits.queue_images,
            max_ahead_s=limits.queue_s,
        ),
        max_batch=batch.max_texts if graph == "text" else batch.max_images,
        runs=runs,
        wait_s=batch.wait_ms / 1000,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _QueuedItem:
    array: NDArray[Any]
    """One decoded item, without the batch dimension."""
    deadline: float
    arrived: float
    priority: WorkPriority
    decode_s: float
    coverage: ItemCoverage
    future: asyncio.Future[EmbeddedItem]
    trace: CallTrace | None


class Batcher:
    """Runs admitted items in batches, and gives each item its own result or error.

    An idle engine takes what is there, and waits for what is being decoded only where BatchDelay
    says that it pays. A busy one waits for a full batch, or for the last item that is being
    decoded, before it starts a concurrent run.
    """

    def __init__(
        self,
        run: RunBatch,
        config: BatcherConfig,
        metrics: BatcherMetrics,
        on_outcome: Callable[[bool], None],
    ) -> None:
        """`on_outcome` is called with each item's success or failure, in the event loop."""
        self._run = run
        self._config = config
        self._metrics = metrics
        self._on_outcome = on_outcome
        self._log = BoundedLog(logging.getLogger(__name__))
        self.work = WorkDone()
        self._queue: PriorityQueue[_QueuedItem] = PriorityQueue()
        self._delay = BatchDelay()
        self._changed = asyncio.Event()
        self.admission = ItemAdmission(config.admission, metrics.slots, self._changed)
        """Where calls get permits for their items, before these are decoded."""
        self._threads = [WorkerThread("engine") for _ in range(config.runs)]
        self._idle = collections.deque(self._threads)
        self._task = asyncio.get_running_loop().create_task(self._loop())

    def submit(
        self,
        array: NDArray[Any],
        deadline: float,
        permits: Permits,
        decode_s: float = 0.0,
        coverage: ItemCoverage = NO_COVERAGE,
    ) -> asyncio.Future[EmbeddedItem]:
        """Queues an admitted item; cancelling the future takes it out of the queue.

        `deadline` is in the event loop's time; `decode_s` and `coverage` go into the result. The
        future raises ServingError.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        future: asyncio.Future[EmbeddedItem] = loop.create_future()
        item = _QueuedItem(
            array=array,
            deadline=deadline,
            arrived=now,
            priority=permits.priority,
            decode_s=decode_s,
            coverage=coverage,
            future=future,
            trace=current_trace(),
        )
        number = self._queue.push(item, permits.priority)
        self._metrics.queued.inc()
        future.add_done_callback(functools.partial(self._on_result, number))
        permits.use()
        self._delay.on_item(now, others=self.admission.expected > 0)
        return future

    def _on_result(self, number: int, future: asyncio.Future[EmbeddedItem]) -> None:
        if self._queue.remove(number):
            self._metrics.queued.inc(-1)
        if not future.cancelled():
            future.exception()  # marked as retrieved: a caller that left never asks for it

    async def close(self) -> None:
        """Ends the loop; items that are still queued fail as UNAVAILABLE."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        while self._queue:
            item = self._pop()
            if not item.future.done():
                error = ServingError(ErrorKind.UNAVAILABLE, "the model is closed")
                item.future.set_exception(error)
        for thread in self._threads:
            thread.close()
        self._log.close()

    async def _loop(self) -> None:
        """Starts runs. It never waits for one to end: `_on_run` takes the results."""
        loop = asyncio.get_running_loop()
        while True:
            await self._changed.wait()
            if self._queue:
                await self._gather()
            batch = self._next_batch(loop.time())
            if not batch:
                # No item is left, or no thread is idle. Only here is the event cleared for good:
                # after a run was started the loop looks again, as items may be left over.
                self._changed.clear()
                continue
            thread = self._idle.pop()
            arrays = [item.array for item in batch]
            run = thread.run(functools.partial(self._run_isolating, arrays))
            run.add_done_callback(functools.partial(self._on_run, thread, batch, loop.time()))

    async def _gather(self) -> None:
        """Waits for items that are still being decoded, while the next batch has room for them.

        An idle engine waits while that pays, and at most `wait_s`, because its time is lost
        meanwhile. A busy one waits until a run ends: items that gather in the meantime share one
        run.
        """
        if self._is_complete():
            return
        idle = len(self._idle)
        is_busy = idle < self._config.runs
        try:
            async with asyncio.timeout(None if is_busy else self._config.wait_s):
                while not self._is_complete() and len(self._idle) == idle:
                    if not is_busy and not self._delay.pays(len(self._queue)):
                        break
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self._changed.set()  # cleared above; the loop must run what is there

    def _is_complete(self) -> bool:
        """Whether waiting cannot make the next batch larger."""
        return len(self._queue) >= self._config.max_batch or not self.admission.expected

    def _next_batch(self, now: float) -> list[_QueuedItem]:
        """Takes the next items off the queue, without those that are cancelled or too late.

        Empty while every thread is busy.
        """
        size = self._config.max_batch if self._idle else 0
        if self._idle and not self.admission.expected:
            # Nothing more is coming, so the idle threads divide the queue evenly (rounded up).
            size = min(size, -(-len(self._queue) // len(self._idle)))
        batch: list[_QueuedItem] = []
        while self._queue and len(batch) < size:
            item = self._pop()
            if item.future.done():
                continue
            if item.deadline <= now:
                item.future.set_exception(expired())
            else:
                batch.append(item)
        return batch

    def _pop(self) -> _QueuedItem:
        self._metrics.queued.inc(-1)
        return self._queue.pop()

    def _run_isolating(self, arrays: list[NDArray[Any]]) -> list[OutputRow | EngineError]:
        """Runs a batch. A batch that fails is halved until the item at fault is alone."""
        try:
            return self._run(arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays))
        except EngineLostError as error:
            return [error] * len(arrays)
        except Exception as error:
            if len(arrays) == 1:
                return [error if isinstance(error, EngineError) else EngineError(repr(error))]
        middle = len(arrays) // 2
        return self._run_isolating(arrays[:middle]) + self._run_isolating(arrays[middle:])

    def _on_run(
        self,
        thread: WorkerThread,
        batch: list[_QueuedItem],
        started: float,
        run: asyncio.Future[list[OutputRow | EngineError]],
    ) -> None:
        self._idle.append(thread)
        self._changed.set()
        now = asyncio.get_running_loop().time()
        seconds = now - started
        self.work.count(len(batch))
        self._metrics.batch.observe(len(batch))
        self._metrics.fill.observe(len(batch) / self._config.max_batch)
        self._metrics.inference.observe(seconds)
        if not any(isinstance(result, EngineLostError) for result in run.result()):
            self._delay.on_run(len(batch), seconds)
            self.admission.times.observe(
                seconds,
                len(batch),
                runs=self._config.runs,
                admitted=self.admission.admitted,
                now=now,
            )
        for item, result in zip(batch, run.result(), strict=True):
            queue_s = started - item.arrived
            self._metrics.queue.observe(queue_s)
            self._metrics.queue_by_priority[item.priority].observe(queue_s)
            if item.trace is not None:
                spent = (item.arrived - item.decode_s, item.arrived, started, now)
                record_item(item.trace, self._config.graph, spent, len(batch))
            failed = isinstance(result, EngineError)
            self._on_outcome(not failed)
            if failed:
                self._log.error("engine: %s", result)
            if item.future.done():  # the caller left while the batch ran
                continue
            if isinstance(result, EngineLostError):
                item.future.set_exception(_lost())
            elif isinstance(result, EngineError):
                item.future.set_exception(internal())
            else:
                if item.coverage is not NO_COVERAGE:
                    for what in item.coverage.shortfalls(result.active):
                        self._metrics.shortfalls.labels(what).inc()
                times = StageTimes(decode_s=item.decode_s, queue_s=queue_s, inference_s=seconds)
                item.future.set_result(
                    EmbeddedItem(row=result, times=times, coverage=item.coverage)
                )


def _lost() -> ServingError:
    """The error for an item whose run ended with the engine's process: another try may succeed."""
    message = "the engine has ended, and begins again"
    return ServingError(ErrorKind.UNAVAILABLE, message, retry_after=_LOST_RETRY_S)
