"""Awaited calls: the same as transport.py for asyncio, over grpc.aio."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from sparseclip._connection import Connection
from sparseclip._items import ImageInput, Item
from sparseclip._operations import EMBED_STREAM, Call, Operation
from sparseclip._retry import RetryPolicy
from sparseclip._stream import Flight, StreamBrokenError
from sparseclip.errors import CallError
from sparseclip.results import Embedding, ModelInfo
from sparseclip.v1 import embedding_pb2, types_pb2

T = TypeVar("T")
_Requests = asyncio.Queue["embedding_pb2.EmbedStreamRequest | None"]
_Stream = grpc.aio.StreamStreamCall[
    embedding_pb2.EmbedStreamRequest, embedding_pb2.EmbedStreamResponse
]


class AsyncTransport:
    """One channel to one port of a server, bound to the running event loop."""

    def __init__(self, connection: Connection, timeout: float, retry: RetryPolicy) -> None:
        self._channel = connection.open_aio()
        self._metadata = connection.metadata()
        self._timeout = timeout
        self._retry = retry
        self._rng = random.Random()

    async def close(self) -> None:
        """Closes the channel; calls in flight are cancelled."""
        await self._channel.close(None)

    async def run(self, operation: Operation[T], timeout: float | None = None) -> T:
        """Drives an operation; each of its calls has `timeout` seconds, retries included."""
        seconds = self._timeout if timeout is None else timeout
        try:
            call = next(operation)
            while True:
                call = operation.send(await self._send(call, seconds))
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _send(self, call: Call, timeout: float) -> Message:
        send = self._channel.unary_unary(
            call.method.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.method.reply.FromString,
        )
        deadline = time.monotonic() + timeout
        for attempt in itertools.count(1):
            remaining = max(0.0, deadline - time.monotonic())
            try:
                reply: Message = await send(
                    call.request, timeout=remaining, metadata=self._metadata
                )
                return reply
            except grpc.RpcError as failure:
                error = CallError.from_rpc(failure)
                remaining = deadline - time.monotonic()
                await self._wait(error, attempt=attempt, remaining=remaining)
        raise AssertionError("unreachable")

    async def _wait(self, error: CallError, *, attempt: int, remaining: float) -> None:
        """Sleeps until the next attempt, or raises the error when there is to be none."""
        delay = self._retry.delay(error, attempt=attempt, remaining=remaining, rng=self._rng)
        if delay is None:
            raise error from None
        await asyncio.sleep(delay)

    async def watch(self, call: Call, timeout: float) -> AsyncGenerator[Message]:
        """The replies of a call that answers with many; it is sent again only before the first.

        Closing the generator cancels the call.
        """
        send = self._channel.unary_stream(
            call.method.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.method.reply.FromString,
        )
        deadline = time.monotonic() + timeout
        for attempt in itertools.count(1):
            remaining = max(0.0, deadline - time.monotonic())
            replies = send(call.request, timeout=remaining, metadata=self._metadata)
            begun = False
            try:
                async for reply in replies:
                    begun = True
                    yield reply
                return
            except grpc.RpcError as failure:
                error = _unmasked(CallError.from_rpc(failure))
            finally:
                replies.cancel()
            if begun:
                raise error
            await self._wait(error, attempt=attempt, remaining=deadline - time.monotonic())

    async def stream(
        self,
        items: Iterable[ImageInput | Item] | AsyncIterable[ImageInput | Item],
        flight: Flight,
        info_of: Callable[[types_pb2.ModelVersion], Operation[ModelInfo]],
    ) -> AsyncIterator[Embedding]:
        """Sends items through as many streams as it takes; gives answers in the items' order."""
        source = aiter(items) if isinstance(items, AsyncIterable) else _asynchronous(items)
        exhausted, failures = False, 0
        while not exhausted or flight.waiting:
            outbox: _Requests = asyncio.Queue()
            call = self._open_stream(outbox, flight)
            if exhausted:
                outbox.put_nowait(None)
            try:
                while True:
                    while flight.takes and not exhausted:
                        try:
                            taken = flight.take(await anext(source))
                        except StopAsyncIteration:
                            exhausted = True
                            outbox.put_nowait(None)
                            break
                        if taken is not None:
                            outbox.put_nowait(taken)
                        for embedding in flight.ready():
                            yield embedding
                    if not flight.waiting:
                        break
                    response = await receive(call)
                    failures = 0
                    flight.settle(response, await self.run(info_of(response.model)))
                    for embedding in flight.ready():
                        yield embedding
                outbox.put_nowait(None)
                await finish(call)
            except StreamBrokenError as broken:
                failures += 1
                error = flight.excuse(broken.error)
                await self._wait(error, attempt=failures, remaining=flight.deadline)
            finally:
                outbox.put_nowait(None)
                call.cancel()

    def _open_stream(self, outbox: _Requests, flight: Flight) -> _Stream:
        for request in flight.begin():
            outbox.put_nowait(request)
        opened = self._channel.stream_stream(
            EMBED_STREAM.path,
            request_serializer=embedding_pb2.EmbedStreamRequest.SerializeToString,
            response_deserializer=embedding_pb2.EmbedStreamResponse.FromString,
        )
        return opened(_drain(outbox), timeout=flight.deadline, metadata=self._metadata)


async def _asynchronous(
    items: Iterable[ImageInput | Item],
) -> AsyncIterator[ImageInput | Item]:
    for item in items:
        yield item


async def _drain(outbox: _Requests) -> AsyncIterator[embedding_pb2.EmbedStreamRequest]:
    while (request := await outbox.get()) is not None:
        yield request


async def receive(call: _Stream) -> embedding_pb2.EmbedStreamResponse:
    """The next response. Raises StreamBrokenError when there is none."""
    try:
        response = await call.read()
    except grpc.RpcError as failure:
        raise StreamBrokenError(_unmasked(CallError.from_rpc(failure))) from None
    if not isinstance(response, embedding_pb2.EmbedStreamResponse):
        raise StreamBrokenError.early()
    return response


def _unmasked(error: CallError) -> CallError:
    """grpc.aio replaces a server's status when it had more to write (grpc issue 36066).

    What the status was is lost. Most often the server went away, so another try is right; where
    it was not, that try fails as well, and the tries are bounded.
    """
    if error.code is grpc.StatusCode.INTERNAL and error.message == "Internal error from Core":
        return CallError(grpc.StatusCode.UNAVAILABLE, "the server ended the stream")
    return error


async def finish(call: _Stream) -> None:
    """Waits for a stream's end. How it ends no longer matters: all of its items are answered."""
    with contextlib.suppress(grpc.RpcError):
        await call.read()
