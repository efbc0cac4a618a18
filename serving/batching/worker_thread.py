"""One daemon thread that runs blocking functions for the event loop, one at a time."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_Submission = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class WorkerThread:
    """Unlike an executor's, the thread never holds up the end of the process, even when it hangs.

    It takes a job from a queue and hands the result straight to the loop, which is also less work
    a call than an executor needs.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """The future of a job's result. Cancelling it leaves the job running."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((job, loop, future))
        return future

    def close(self) -> None:
        """Ends the thread after the jobs it has."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (taken := self._jobs.get()) is not None:
            job, loop, future = taken
            result, error = None, None
            try:
                result = job()
            except BaseException as caught:  # handed to whoever waits
                error = caught
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del taken, job, future, result, error  # keep no batch alive while idle


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
