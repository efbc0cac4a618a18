"""A bounded window of items in flight: how much a stream reads depends on what its caller reads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from bundle.bounded_log import BoundedLog
from serving.batching.item_results import ItemResult
from serving.core.errors import internal, invalid, shutting_down
from serving.core.requests import EmbedItem


class AnsweredItem(NamedTuple):
    """An item and what became of it."""

    item: EmbedItem
    result: ItemResult


class StreamWindow:
    """Reads items, answers up to `size` of them at once, and gives answers as they finish.

    A slot is free again only when the caller has taken the answer, so a caller who does not read is
    not read from either, and at most `size` items and answers are in memory. When `stop` is set,
    nothing more is read; what was read is still answered.
    """

    # One task reads, one task answers each item, and `answers` (in the caller's task) takes the
    # answers off a queue:
    #
    #     _read --(a slot each)--> _answer_item ... --> _finished --> answers
    #       ^                                                            |
    #       +---------------------- the slot is released <---------------+

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
        self._log = BoundedLog(logging.getLogger(__name__))
        self._slots = asyncio.Semaphore(size)
        self._ids: set[str] = set()
        self._finished: asyncio.Queue[AnsweredItem | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reader: asyncio.Task[None] | None = None

    async def answers(self) -> AsyncGenerator[AnsweredItem, None]:
        """Answers in the order in which they finish.

        Raises ServingError: INVALID for an id that is missing or in flight already, UNAVAILABLE
        after the last answer when `stop` cut the stream short.
        """
        self._reader = reader = asyncio.create_task(self._read())
        reader.add_done_callback(self._wake)
        stopper = asyncio.create_task(self._stop.wait())
        stopper.add_done_callback(lambda _: reader.cancel())
        try:
            while not (reader.done() and not self._tasks and self._finished.empty()):
                answered = await self._finished.get()
                if answered is None:  # something ended: look at the condition again
                    continue
                yield answered
                # Back here, the caller has taken the answer.
                self._ids.discard(answered.item.id)
                self._slots.release()
            if reader.cancelled():
                raise shutting_down()
            await reader  # raises what reading raised
        finally:
            stopper.cancel()
            reader.cancel()
            for task in list(self._tasks):
                task.cancel()
            self._log.close()

    async def _read(self) -> None:
        while True:
            await self._slots.acquire()
            try:
                item = await anext(self._items)
            except StopAsyncIteration:
                return
            if not item.id:
                raise invalid("input.id", "items of a stream need one")
            if item.id in self._ids:
                raise invalid("input.id", "is in flight already")
            self._ids.add(item.id)
            task = asyncio.create_task(self._answer_item(item))
            self._tasks.add(task)
            task.add_done_callback(self._on_answered)

    async def _answer_item(self, item: EmbedItem) -> None:
        try:
            result = await self._answer(item)
        except Exception as error:
            # Every item is answered: without this, its slot would never be free again.
            self._log.write(logging.ERROR, "internal error", error=error)
            result = internal()
        self._finished.put_nowait(AnsweredItem(item, result))

    def _on_answered(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._reader is None or self._reader.done():  # only then may it have been the last one
            self._wake(task)
        elif not task.cancelled():
            task.exception()  # marked as retrieved

    def _wake(self, task: asyncio.Task[None]) -> None:
        """Makes `answers` look again whether all is done."""
        if not task.cancelled():
            task.exception()  # marked as retrieved; `answers` raises the reader's itself
        self._finished.put_nowait(None)
