"""The window of a stream of calls: order, room, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from serving.core.errors import ErrorKind, ServingError, invalid
from serving.rpc.open_inference.ordered_window import OrderedWindow
from tests.serving.support.running_server import eventually


class Calls:
    """Messages, which are their sizes, and answers that a test releases by their places."""

    def __init__(self, *sizes: int, error: Exception | None = None, stays_open: bool = False):
        self._sizes, self._error, self._stays_open = sizes, error, stays_open
        self.read = 0
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self.gates = [asyncio.Event() for _ in sizes]

    async def messages(self) -> AsyncIterator[tuple[int, int]]:
        for place, size in enumerate(self._sizes):
            self.read += 1
            yield place, size
        if self._error:
            raise self._error
        if self._stays_open:
            await asyncio.Event().wait()

    async def answer(self, message: tuple[int, int]) -> int:
        self.started.append(message[0])
        try:
            await self.gates[message[0]].wait()
        except asyncio.CancelledError:
            self.cancelled.append(message[0])
            raise
        return message[0]

    def window(self, size: int, stop: asyncio.Event | None = None) -> OrderedWindow:  # type: ignore[type-arg]
        return OrderedWindow(
            self.messages(),
            self.answer,
            lambda message: message[1],
            size=size,
            stop=stop or asyncio.Event(),
        )


async def test_replies_keep_the_order_of_their_messages() -> None:
    calls = Calls(1, 1, 1)
    async with aclosing(calls.window(3).replies()) as replies:
        first = asyncio.ensure_future(anext(replies))
        assert await eventually(lambda: calls.started == [0, 1, 2])
        calls.gates[2].set()
        calls.gates[1].set()
        await asyncio.sleep(0.01)
        assert not first.done()
        calls.gates[0].set()
        assert [await first, await anext(replies), await anext(replies)] == [0, 1, 2]
        with pytest.raises(StopAsyncIteration):
            await anext(replies)


async def test_a_message_waits_until_all_of_it_has_room() -> None:
    calls = Calls(2, 2, 1)
    async with aclosing(calls.window(3).replies()) as replies:
        first = asyncio.ensure_future(anext(replies))
        assert await eventually(lambda: calls.read == 2)
        await asyncio.sleep(0.01)
        assert (calls.started, calls.read) == ([0], 2)
        calls.gates[0].set()
        assert await first == 0
        await asyncio.sleep(0.01)
        assert calls.started == [0]  # the reply was given, and is not yet taken
        second = asyncio.ensure_future(anext(replies))
        assert await eventually(lambda: calls.started == [0, 1, 2])
        calls.gates[1].set()
        assert await second == 1


async def test_a_message_larger_than_the_window_goes_alone() -> None:
    calls = Calls(1, 9, 1)
    for gate in calls.gates:
        gate.set()
    assert [reply async for reply in calls.window(3).replies()] == [0, 1, 2]


async def test_what_was_read_before_a_stop_is_answered() -> None:
    calls = Calls(2, 3, 1)
    stop = asyncio.Event()
    async with aclosing(calls.window(4, stop).replies()) as replies:
        first = asyncio.ensure_future(anext(replies))
        assert await eventually(lambda: calls.read == 2)  # the second one waits for room
        stop.set()
        for gate in calls.gates:
            gate.set()
        assert [await first, await anext(replies)] == [0, 1]
        with pytest.raises(ServingError) as caught:
            await anext(replies)
        assert caught.value.kind is ErrorKind.UNAVAILABLE
        assert calls.read == 2


async def test_an_error_of_the_messages_comes_after_the_replies_before_it() -> None:
    calls = Calls(1, 1, error=invalid("inputs", "no"))
    for gate in calls.gates:
        gate.set()
    replies = calls.window(4).replies()
    assert [await anext(replies), await anext(replies)] == [0, 1]
    with pytest.raises(ServingError, match="inputs: no"):
        await anext(replies)


async def test_a_caller_who_leaves_ends_every_answer() -> None:
    calls = Calls(1, 1, 5, stays_open=True)
    async with aclosing(calls.window(4).replies()) as replies:
        first = asyncio.ensure_future(anext(replies))
        assert await eventually(lambda: calls.started == [0, 1])
        calls.gates[0].set()
        assert await first == 0
    assert await eventually(lambda: calls.cancelled == [1])
    await asyncio.sleep(0.01)
    assert calls.started == [0, 1]
