"""The window of a stream: what is read, what is answered, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from serving.batching.item_results import ItemResult
from serving.core.errors import ErrorKind, ServingError, invalid
from serving.core.requests import EmbedItem, TextItem
from serving.rpc.stream_window import StreamWindow
from tests.serving.support.running_server import eventually

REFUSAL = invalid("text", "not today")


def items(*ids: str) -> list[EmbedItem]:
    return [TextItem(id=name, text=name) for name in ids]


class Source:
    """A stream of items that counts how many were read, and ends or stays open."""

    def __init__(self, entries: list[EmbedItem], *, stays_open: bool = False) -> None:
        self._entries, self._stays_open = entries, stays_open
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[EmbedItem]:
        for entry in self._entries:
            self.read += 1
            yield entry
        if self._stays_open:
            await asyncio.Event().wait()


class Answers:
    """Answers items when a test says so."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    async def __call__(self, item: EmbedItem) -> ItemResult:
        self.started.append(item.id)
        try:
            await self.gates.setdefault(item.id, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cancelled.append(item.id)
            raise
        return REFUSAL

    def finish(self, *ids: str) -> None:
        for name in ids:
            self.gates.setdefault(name, asyncio.Event()).set()


async def immediately(item: EmbedItem) -> ItemResult:
    return REFUSAL


def window(
    source: Source, answer: object, size: int = 2, stop: asyncio.Event | None = None
) -> StreamWindow:
    return StreamWindow(
        aiter(source),
        answer,
        size=size,
        stop=stop or asyncio.Event(),  # type: ignore[arg-type]
    )


async def test_answers_come_as_they_finish() -> None:
    answers = Answers()
    answers.finish("b")
    async with aclosing(window(Source(items("a", "b")), answers).answers()) as stream:
        assert (await anext(stream)).item.id == "b"
        answers.finish("a")
        assert [answered.item.id async for answered in stream] == ["a"]


async def test_no_more_is_read_than_the_caller_takes() -> None:
    source = Source(items(*"abcdef"))
    async with aclosing(window(source, immediately, size=2).answers()) as stream:
        await anext(stream)
        await asyncio.sleep(0.01)
        assert source.read == 2  # both are answered, and one of them is not taken yet
        await anext(stream)
        await asyncio.sleep(0.01)
        assert source.read == 3
        assert len([answered async for answered in stream]) == 4


@pytest.mark.parametrize(
    ("ids", "answered", "problem"),
    [(("a", "a"), ["a"], "in flight"), (("a", ""), ["a"], "need one"), (("",), [], "need one")],
)
async def test_an_id_that_is_missing_or_in_flight_ends_the_stream(
    ids: tuple[str, ...], answered: list[str], problem: str
) -> None:
    stream = window(Source(items(*ids)), immediately).answers()
    # What was read before is still answered.
    assert [(await anext(stream)).item.id for _ in answered] == answered
    with pytest.raises(ServingError, match=problem) as caught:
        await anext(stream)
    assert (caught.value.kind, caught.value.field) == (ErrorKind.INVALID, "input.id")


async def test_an_id_is_free_again_when_its_answer_is_taken() -> None:
    stream = window(Source(items("a", "a", "a")), immediately, size=1).answers()
    assert len([answered async for answered in stream]) == 3


async def test_an_item_whose_answer_fails_is_answered_with_an_internal_error() -> None:
    async def fails(item: EmbedItem) -> ItemResult:
        if item.id == "b":
            raise ZeroDivisionError("/secret/path")
        return REFUSAL

    stream = window(Source(items("a", "b", "c")), fails, size=1).answers()
    results = {answered.item.id: answered.result async for answered in stream}
    assert results["a"] is results["c"] is REFUSAL
    failed = results["b"]
    assert isinstance(failed, ServingError)
    assert (failed.kind, failed.message) == (ErrorKind.INTERNAL, "internal error")


async def test_stop_answers_what_was_read_and_then_ends() -> None:
    stop, answers = asyncio.Event(), Answers()
    source = Source(items("a", "b"), stays_open=True)
    async with aclosing(window(source, answers, size=8, stop=stop).answers()) as stream:
        answers.finish("a")
        await anext(stream)
        stop.set()
        answers.finish("b")
        assert (await anext(stream)).item.id == "b"
        with pytest.raises(ServingError) as caught:
            await anext(stream)
    assert caught.value.kind is ErrorKind.UNAVAILABLE


async def test_a_caller_who_leaves_cancels_what_is_in_flight() -> None:
    answers = Answers()
    stream = window(Source(items("a", "b"), stays_open=True), answers).answers()
    answers.finish("a")
    await anext(stream)
    assert await eventually(lambda: answers.started == ["a", "b"])
    await stream.aclose()
    assert await eventually(lambda: answers.cancelled == ["b"])
