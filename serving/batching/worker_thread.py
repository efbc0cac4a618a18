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
    """Runs functions in the order of submission.

    Unlike a thread of ThreadPoolExecutor, this one is a daemon: a function that hangs cannot keep
    the process alive. It also hands results straight to the event loop, without the second future
    that `run_in_executor` makes for each call.
    """

    def __init__(self, name: str) -> None:
        self._submissions: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def run(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """The future of a function's result. Cancelling it does not stop the function."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._submissions.put((function, loop, future))
        return future

    def close(self) -> None:
        """Ends the thread once it has run what was submitted before."""
        self._submissions.put(None)

    def _work(self) -> None:
        while (submission := self._submissions.get()) is not None:
            function, loop, future = submission
            result, error = None, None
            try:
                result = function()
            except BaseException as raised:  # raised again where the future is awaited
                error = raised
            try:
                loop.call_soon_threadsafe(_resolve, future, result, error)
            except RuntimeError:  # the event loop is closed: nobody waits any more
                return
            # These locals would keep the last batch in memory while the thread is idle.
            del submission, function, future, result, error


def _resolve(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
