"""A thread that runs blocking functions for the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from serving.batching.worker_thread import WorkerThread
from tests.serving.support.running_server import eventually


async def test_functions_run_in_order_in_one_daemon_thread() -> None:
    worker = WorkerThread("test-order")
    order: list[int] = []
    futures = [
        worker.run(lambda n=n: (order.append(n), threading.current_thread())) for n in range(5)
    ]
    threads = {(await future)[1] for future in futures}
    assert order == list(range(5))
    [thread] = threads
    assert thread.daemon
    assert thread.name == "test-order"
    worker.close()
    assert await eventually(lambda: not thread.is_alive())


async def test_an_exception_is_raised_where_the_future_is_awaited() -> None:
    worker = WorkerThread("test-errors")
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0)
    assert await worker.run(lambda: 7) == 7
    worker.close()


async def test_a_cancelled_future_leaves_the_function_running() -> None:
    worker = WorkerThread("test-cancel")
    gate, ran = threading.Event(), threading.Event()

    def wait() -> None:
        gate.wait(10)
        ran.set()

    future = worker.run(wait)
    future.cancel()
    gate.set()
    assert await worker.run(lambda: ran.is_set())
    worker.close()


def test_a_loop_that_has_closed_ends_the_thread() -> None:
    gate = threading.Event()
    started: list[threading.Thread] = []

    async def submit() -> None:
        worker = WorkerThread("test-closed")
        started.extend(t for t in threading.enumerate() if t.name == "test-closed")
        worker.run(lambda: gate.wait(10))

    asyncio.run(submit())
    gate.set()
    started[0].join(timeout=10)
    assert not started[0].is_alive()
