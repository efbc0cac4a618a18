"""One attempt at one call over gRPC: for threads (Channel) and for asyncio (AsyncChannel).

Only here do the two clients differ. What stands on it is written for asyncio and generated for
threads, by protos/generate_sync.py. All methods raise CallError when a call fails, and each bounds
its call by `timeout` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from sparseclip._connection import Connection
from sparseclip._methods import EMBED_STREAM, MethodCall
from sparseclip.errors import CallError
from sparseclip.v1.embedding_pb2 import EmbedStreamRequest, EmbedStreamResponse

T = TypeVar("T")

# A server that closes a stream in good order, but too soon: another attempt may succeed.
_ENDED_EARLY = CallError(grpc.StatusCode.UNAVAILABLE, "the stream ended early")


class StreamBrokenError(Exception):
    """A stream ended before all of its items were answered."""

    def __init__(self, error: CallError) -> None:
        super().__init__(str(error))
        self.error = error


class Channel:
    """A connection whose calls block. Threads may share it."""

    def __init__(self, connection: Connection) -> None:
        self._channel = connection.open()
        self._metadata = connection.metadata()

    def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        self._channel.close()

    def send(self, call: MethodCall, timeout: float) -> Message:
        """The one reply of a call."""
        send = self._channel.unary_unary(call.method.path, *_serializers(call))
        try:
            reply: Message = send(
                call.request, timeout=timeout, metadata=self._metadata + call.headers
            )
            return reply
        except grpc.RpcError as error:
            raise CallError.from_rpc(error) from None

    def replies(self, call: MethodCall, timeout: float) -> Generator[Message]:
        """The many replies of a call. Closing the generator cancels the call."""
        send = self._channel.unary_stream(call.method.path, *_serializers(call))
        # Any: the stubs of grpc leave out that a call can be cancelled.
        replies: Any = send(call.request, timeout=timeout, metadata=self._metadata + call.headers)
        try:
            yield from replies
        except grpc.RpcError as error:
            raise CallError.from_rpc(error) from None
        finally:
            replies.cancel()

    def open_stream(self, timeout: float) -> StreamCall:
        """A call with many requests and many replies."""
        return StreamCall(self._channel, timeout, self._metadata)


class StreamCall:
    """A call of EmbedStream: requests are sent as they come, replies are read one by one."""

    def __init__(
        self, channel: grpc.Channel, timeout: float, metadata: tuple[tuple[str, str], ...]
    ) -> None:
        self._requests: queue.SimpleQueue[EmbedStreamRequest | None] = queue.SimpleQueue()
        start = channel.stream_stream(EMBED_STREAM.path, *_STREAM_SERIALIZERS)
        # gRPC takes the requests in a thread of its own, which ends at None.
        requests = iter(self._requests.get, None)
        self._call: Any = start(requests, timeout=timeout, metadata=metadata)

    def send(self, request: EmbedStreamRequest) -> None:
        """Queues a request."""
        self._requests.put(request)

    def close_requests(self) -> None:
        """Says that no more requests will come."""
        self._requests.put(None)

    def receive(self) -> EmbedStreamResponse:
        """The next response. Raises StreamBrokenError when there is none."""
        try:
            response = next(self._call, None)
        except grpc.RpcError as error:
            raise StreamBrokenError(CallError.from_rpc(error)) from None
        if not isinstance(response, EmbedStreamResponse):
            raise StreamBrokenError(_ENDED_EARLY)
        return response

    def wait_for_end(self) -> None:
        """Waits until the server has ended the stream, however it does."""
        with contextlib.suppress(grpc.RpcError):
            next(self._call, None)

    def cancel(self) -> None:
        """Ends the call, unless it has ended."""
        self.close_requests()
        self._call.cancel()


class AsyncChannel:
    """A connection whose calls are awaited. Bound to the running event loop."""

    def __init__(self, connection: Connection) -> None:
        self._channel = connection.open_aio()
        self._metadata = connection.metadata()

    async def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        await self._channel.close(None)

    async def send(self, call: MethodCall, timeout: float) -> Message:
        """The one reply of a call."""
        send = self._channel.unary_unary(call.method.path, *_serializers(call))
        try:
            reply: Message = await send(
                call.request, timeout=timeout, metadata=self._metadata + call.headers
            )
            return reply
        except grpc.RpcError as error:
            raise CallError.from_rpc(error) from None

    async def replies(self, call: MethodCall, timeout: float) -> AsyncGenerator[Message]:
        """The many replies of a call. Closing the generator cancels the call."""
        send = self._channel.unary_stream(call.method.path, *_serializers(call))
        replies = send(call.request, timeout=timeout, metadata=self._metadata + call.headers)
        try:
            async for reply in replies:
                yield reply
        except grpc.RpcError as error:
            raise CallError.from_rpc(error) from None
        finally:
            replies.cancel()

    def open_stream(self, timeout: float) -> AsyncStreamCall:
        """A call with many requests and many replies."""
        return AsyncStreamCall(self._channel, timeout, self._metadata)


class AsyncStreamCall:
    """A call of EmbedStream: requests are sent as they come, replies are read one by one."""

    def __init__(
        self, channel: grpc.aio.Channel, timeout: float, metadata: tuple[tuple[str, str], ...]
    ) -> None:
        self._requests: asyncio.Queue[EmbedStreamRequest | None] = asyncio.Queue()
        start = channel.stream_stream(EMBED_STREAM.path, *_STREAM_SERIALIZERS)
        self._call: grpc.aio.StreamStreamCall[EmbedStreamRequest, EmbedStreamResponse]
        self._call = start(_drain(self._requests), timeout=timeout, metadata=metadata)

    def send(self, request: EmbedStreamRequest) -> None:
        """Queues a request."""
        self._requests.put_nowait(request)

    def close_requests(self) -> None:
        """Says that no more requests will come."""
        self._requests.put_nowait(None)

    async def receive(self) -> EmbedStreamResponse:
        """The next response. Raises StreamBrokenError when there is none."""
        try:
            response = await self._call.read()
        except grpc.RpcError as error:
            raise StreamBrokenError(CallError.from_rpc(error)) from None
        if not isinstance(response, EmbedStreamResponse):
            raise StreamBrokenError(_ENDED_EARLY)
        return response

    async def wait_for_end(self) -> None:
        """Waits until the server has ended the stream, however it does."""
        with contextlib.suppress(grpc.RpcError):
            await self._call.read()

    def cancel(self) -> None:
        """Ends the call, unless it has ended."""
        self.close_requests()
        self._call.cancel()


async def iterate_async(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """Items of either kind of iterable, for code that awaits them."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _drain(
    requests: asyncio.Queue[EmbedStreamRequest | None],
) -> AsyncIterator[EmbedStreamRequest]:
    while (request := await requests.get()) is not None:
        yield request


def _serializers(call: MethodCall) -> tuple[Any, Any]:
    return type(call.request).SerializeToString, call.method.reply.FromString


_STREAM_SERIALIZERS = (EmbedStreamRequest.SerializeToString, EmbedStreamResponse.FromString)
