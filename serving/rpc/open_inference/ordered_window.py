"""A bounded window of messages in flight, answered in their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

from serving.core.errors import shutting_down

Message = TypeVar("Message")
Reply = TypeVar("Reply")


class OrderedWindow(Generic[Message, Reply]):
    """Reads messages, answers several at once, and gives the replies in the order of the messages.

    The messages in flight, and those whose reply was not taken yet, hold at most `size` items
    together; one that has more than that is alone. So a caller who does not read is not read from
    either. When `stop` is set, nothing more is read; what was read is still answered.
    """

    # One task reads, and starts a task for each message. `replies`, in the caller's task, awaits
    # these tasks in turn, and frees the slots of a message when its reply has been taken.

    def __init__(
        self,
        messages: AsyncIterator[Message],
        answer: Callable[[Message], Awaitable[Reply]],
        items: Callable[[Message], int],
        *,
        size: int,
        stop: asyncio.Event,
    ) -> None:
        """`items` says how many items a message has, at least 1."""
        self._messages = messages
        self._answer = answer
        self._items = items
        self._size = size
        self._stop = stop
        self._held = 0
        self._freed = asyncio.Event()
        self._answers: asyncio.Queue[tuple[asyncio.Task[Reply], int] | None] = asyncio.Queue()

    async def replies(self) -> AsyncGenerator[Reply, None]:
        """The reply to each message.

        Raises what `answer` and the messages raise, after the replies before; and ServingError,
        UNAVAILABLE, after the last reply when `stop` cut the stream short.
        """
        reader = asyncio.create_task(self._read())
        reader.add_done_callback(self._on_read)
        stopper = asyncio.create_task(self._stop.wait())
        stopper.add_done_callback(lambda _: reader.cancel())
        try:
            while (entry := await self._answers.get()) is not None:
                answer, items = entry
                yield await answer
                # Back here, the caller has taken the reply.
                self._held -= items
                self._freed.set()
            if reader.cancelled():
                raise shutting_down()
            await reader  # raises what reading raised
        finally:
            stopper.cancel()
            reader.cancel()
            while not self._answers.empty():
                if (entry := self._answers.get_nowait()) is not None:
                    entry[0].cancel()

    async def _read(self) -> None:
        while True:
            await self._hold(1)  # before reading: a message takes memory
            try:
                message = await anext(self._messages)
            except StopAsyncIteration:
                return
            items = min(self._items(message), self._size)
            begun = asyncio.Event()
            answer = asyncio.create_task(self._answer_when_free(message, items - 1, begun))
            self._answers.put_nowait((answer, items))
            await begun.wait()  # or messages after it would take the slots that it waits for

    async def _answer_when_free(self, message: Message, more: int, begun: asyncio.Event) -> Reply:
        await self._hold(more)
        begun.set()
        return await self._answer(message)

    async def _hold(self, items: int) -> None:
        while self._held + items > self._size:
            self._freed.clear()
            await self._freed.wait()
        self._held += items

    def _on_read(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled():
            reader.exception()  # marked as retrieved; `replies` raises it itself
        self._answers.put_nowait(None)
