"""A bounded window of items in work: what a stream reads depends on what its caller has read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from serving.core.errors import ErrorKind, ServingError, invalid
from serving.core.requests import EmbedItem, ItemResult


class AnsweredItem(NamedTuple):
    """An item and what became of it."""

    item: EmbedItem
    result: ItemResult


class StreamWindow:
    """Reads items, answers up to `size` of them at once and gives answers as they finish.

    A place in the window is free again only after the answer was taken, so a caller who does not
    read stops being read. When `stop` is set nothing more is read; what was read is answered.
    """

    def __init__(
        self,
        items: AsyncIterator[EmbedItem],
        answer: Callable[[EmbedItem], Awaitable[ItemResult]],
        *,
        size: int,
        stop: asyncio.Event,
    ) -> None:
        self._items = items
        self._answer = answer
        self._stop = stop
        self._places = asyncio.Semaphore(size)
        self._ids: set[str] = set()
        self._finished: asyncio.Queue[AnsweredItem | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def answers(self) -> AsyncGenerator[AnsweredItem, None]:
        """Answers in the order in which they finish.

        Raises ServingError: for an id that is missing or in work already, or UNAVAILABLE after
        the last answer when `stop` cut the stream short.
        """
        reader = asyncio.create_task(self._read())
        reader.add_done_callback(self._finish_up)
        stopper = asyncio.create_task(self._stop.wait())
        stopper.add_done_callback(lambda _: reader.cancel())
        try:
            while not (reader.done() and not self._tasks and self._finished.empty()):
                answer = await self._finished.get()
                if answer is None:
                    continue
                yield answer
                self._ids.discard(answer.item.id)
                self._places.release()
            if reader.cancelled():
                raise ServingError(ErrorKind.UNAVAILABLE, "the server is shutting down")
            await reader  # raises what reading raised
        finally:
            stopper.cancel()
            reader.cancel()
            for task in list(self._tasks):
                task.cancel()

    async def _read(self) -> None:
        while True:
            await self._places.acquire()
            try:
                item = await anext(self._items)
            except StopAsyncIteration:
                return
            if not item.id:
                raise invalid("input.id", "items of a stream need one")
            if item.id in self._ids:
                raise invalid("input.id", "is in work already")
            self._ids.add(item.id)
            task = asyncio.create_task(self._work(item))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    async def _work(self, item: EmbedItem) -> None:
        self._finished.put_nowait(AnsweredItem(item, await self._answer(item)))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._finish_up(task)

    def _finish_up(self, task: asyncio.Task[None]) -> None:
        """Wakes the loop above, which looks whether all is done."""
        if not task.cancelled():
            task.exception()
        self._finished.put_nowait(None)
