"""Conversations that break, are left, not read or cut short: F-23, F-25, F-27, F-28, F-42."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from sparseclip.v1 import chat_pb2_grpc
from tests.serving.support.chat_requests import (
    SET,
    Edit,
    chat,
    chat_serves,
    chats_in_flight,
    question,
    replies,
    stepping,
    without_times,
)
from tests.serving.support.running_server import (
    PNG,
    Running,
    blocked,
    encoded_image,
    eventually,
    refused,
    serving,
    survives,
    unharmed,
)
from tests.serving.support.server_process import Process

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOG = Edit(phrase="dog", op=SET)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chatty(chat_bundle: Path) -> AsyncIterator[Running]:
    async with serving(chat_bundle) as running:
        yield running


@pytest.mark.parametrize("point", ["prompt", "queue", "vision", "decode", "wait"])
async def test_f27_who_leaves_frees_the_place(chat_bundle: Path, point: str) -> None:
    async with serving(chat_bundle, chat_batch=2) as running, unharmed(running):
        alone = without_times(await replies(running, question(DOG)))
        for number in range(3):
            with stepping(running) as steps:
                if point == "vision":
                    with blocked(running):
                        leaving = chat(running, question(data=encoded_image(100 + number)))
                        assert await eventually(running.engine.entered.is_set)
                        leaving.cancel()
                elif point == "prompt":
                    leaving = chat(running, question())
                    await asyncio.sleep(0)
                    leaving.cancel()
                else:
                    neighbour = asyncio.ensure_future(replies(running, question(DOG)))
                    others = [chat(running, question()) for _ in range(3 if point == "wait" else 1)]
                    for other in others:
                        await other.read()
                    if point == "decode":
                        steps.free.release(5)
                        await others[0].read()
                    for other in others:
                        other.cancel()
                    assert await eventually(lambda: chats_in_flight(running) == 1)
                    steps.free.release(100_000)
                    assert without_times(await neighbour) == alone
                assert await eventually(lambda: chats_in_flight(running) == 0)
            assert max(steps.batches, default=0) <= 2
        assert without_times(await replies(running, question(DOG))) == alone


async def test_f27_leaving_leaves_nothing_behind(chatty: Running) -> None:
    async def fault() -> None:
        call = chat(chatty, question(DOG, max_tokens=100, data=PNG))
        await call.read()
        await call.read()
        call.cancel()
        assert await eventually(lambda: chats_in_flight(chatty) == 0)

    await survives(chatty, fault, repeats=50)


async def test_an_engine_that_ended_costs_the_chat_alone(chat_bundle: Path) -> None:
    async with serving(chat_bundle) as running:
        assert await chat_serves(running)
        await running.server.registry.models[0].chat._model.engine.close()
        for _ in range(2):
            error = await refused(replies(running, question()))
            assert error.code is grpc.StatusCode.UNAVAILABLE
            assert "has ended" in str(error)
        assert await eventually(lambda: not_serving(running))
        await running.golden()


async def not_serving(running: Running) -> bool:
    """Whether chat is not served while embeddings are."""
    return await running.serving() and not await chat_serves(running)


async def test_f25_the_deadline_ends_the_answer(chat_bundle: Path) -> None:
    limits = {"chat_default_deadline_s": 0.6, "default_deadline_s": 30.0}
    async with serving(chat_bundle, limits=limits) as running, unharmed(running):
        with stepping(running) as steps:
            steps.free.release(3)
            call = chat(running, question(), timeout=None)
            events = []
            with pytest.raises(grpc.RpcError) as ended:
                events.extend([event async for event in call])
            assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert chats_in_flight(running) == 0
            steps.free.release(100_000)
            await replies(running, question(max_tokens=1))
        # A step that had begun was finished; then the place was free.
        assert len(steps.batches) <= 5


async def test_f28_a_reader_that_never_reads(
    chat_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mllm_adapter.chat_model import ChatModel, TextDelta

    given, closed = 0, asyncio.Event()

    async def talkative(self: ChatModel, *_: Any) -> AsyncGenerator[TextDelta]:
        nonlocal given
        try:
            while True:
                given += 1
                yield TextDelta(text="word " * 10_000, tokens=1)
        finally:
            closed.set()

    async with serving(chat_bundle, limits={"stream_stall_s": 0.5}) as running, unharmed(running):
        monkeypatch.setattr(ChatModel, "answer", talkative)
        call = chat(running, question())
        await call.read()
        async with asyncio.timeout(20):
            await closed.wait()
        assert given < 1000
        assert await eventually(lambda: chats_in_flight(running) == 0)
        call.cancel()


async def test_f23_beyond_the_bound_is_refused(chat_bundle: Path) -> None:
    async with serving(chat_bundle, limits={"chats_in_flight": 2}) as running, unharmed(running):
        with stepping(running) as steps:
            inside = [asyncio.ensure_future(replies(running, question())) for _ in range(2)]
            assert await eventually(lambda: chats_in_flight(running) == 2)
            error = await refused(replies(running, question()))
            assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error.retry_after is not None
            steps.free.release(100_000)
            await asyncio.gather(*inside)


async def test_a_failing_engine_is_sanitised_and_goes_on(chatty: Running) -> None:
    expected = without_times(await replies(chatty, question()))
    async with unharmed(chatty):
        with stepping(chatty) as steps:
            steps.error = RuntimeError("/secret/path at 0x7fff5fbff8c0")
            steps.free.release(1)
            error = await refused(replies(chatty, question()))
            assert (error.code, error.message) == (grpc.StatusCode.INTERNAL, "internal error")
            steps.error = None
            steps.free.release(100_000)
            assert without_times(await replies(chatty, question())) == expected


async def test_a_failing_vision_model_is_sanitised(chatty: Running) -> None:
    async with unharmed(chatty):
        chatty.engine.poison = lambda row: True
        try:
            error = await refused(replies(chatty, question(data=encoded_image(901))))
        finally:
            chatty.engine.poison = lambda row: False
        assert (error.code, error.message) == (grpc.StatusCode.INTERNAL, "internal error")


async def test_f42_answers_in_flight_end_before_the_server_does(chat_bundle: Path) -> None:
    async with serving(chat_bundle) as running:
        expected = without_times(await replies(running, question()))
        with stepping(running) as steps:
            inside = asyncio.ensure_future(replies(running, question()))
            assert await eventually(lambda: chats_in_flight(running) == 1)
            draining = asyncio.ensure_future(running.server.drain())
            assert await eventually(lambda: not running.server.admission.is_open)
            error = await refused(replies(running, question()))
            assert error.code is grpc.StatusCode.UNAVAILABLE
            assert not draining.done()
            steps.free.release(100_000)
            assert without_times(await inside) == expected
            assert await draining


async def test_f42_the_drain_is_bounded(chat_bundle: Path) -> None:
    async with serving(chat_bundle, limits={"drain_s": 0.3}) as running:
        with stepping(running):
            inside = asyncio.ensure_future(replies(running, question()))
            assert await eventually(lambda: chats_in_flight(running) == 1)
            assert not await running.server.drain()
            closing = asyncio.ensure_future(running.server.close())
            with pytest.raises(grpc.RpcError):
                await inside
        await closing
        assert chats_in_flight(running) == 0


async def test_f42_sigterm_lets_answers_end(chat_bundle: Path) -> None:
    process = Process(chat_bundle)
    try:
        stub: Any = chat_pb2_grpc.ChatServiceStub(process.channel)  # type: ignore[no-untyped-call]
        request = question(max_tokens=150)
        expected = without_times(list(stub.Chat(request, timeout=60)))
        calls = [stub.Chat(request, timeout=60) for _ in range(4)]
        begun = [next(call) for call in calls]
        process.process.send_signal(signal.SIGTERM)
        for first, call in zip(begun, calls, strict=True):
            assert without_times([first, *call]) == expected
        assert process.ended(30) == 0
    finally:
        process.close()
