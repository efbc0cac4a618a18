"""Blocking calls: drives operations and bulk streams over a channel, with deadlines and retries."""

from __future__ import annotations

import contextlib
import itertools
import queue
import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol, TypeVar, cast

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
_Requests = queue.SimpleQueue["embedding_pb2.EmbedStreamRequest | None"]


class _Responses(Protocol):
    """The answering half of a stream."""

    def __next__(self) -> embedding_pb2.EmbedStreamResponse: ...
    def __iter__(self) -> Iterator[embedding_pb2.EmbedStreamResponse]: ...
    def cancel(self) -> bool: ...


class _Replies(Protocol):
    """The replies of a call that answers with many."""

    def __iter__(self) -> Iterator[Message]: ...
    def cancel(self) -> bool: ...


class Transport:
    """One channel to one port of a server. Threads may share it."""

    def __init__(self, connection: Connection, timeout: float, retry: RetryPolicy) -> None:
        self._channel = connection.open()
        self._metadata = connection.metadata()
        self._timeout = timeout
        self._retry = retry
        self._rng = random.Random()

    def close(self) -> None:
        """Closes the channel; calls in flight are cancelled."""
        self._channel.close()

    def run(self, operation: Operation[T], timeout: float | None = None) -> T:
        """Drives an operation; each of its calls has `timeout` seconds, retries included."""
        seconds = self._timeout if timeout is None else timeout
        try:
            call = next(operation)
            while True:
                call = operation.send(self._send(call, seconds))
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _send(self, call: Call, timeout: float) -> Message:
        send = self._channel.unary_unary(
            call.method.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.method.reply.FromString,
        )
        deadline = time.monotonic() + timeout
        for attempt in itertools.count(1):
            remaining = max(0.0, deadline - time.monotonic())
            try:
                reply: Message = send(call.request, timeout=remaining, metadata=self._metadata)
                return reply
            except grpc.RpcError as failure:
                error = CallError.from_rpc(failure)
                remaining = deadline - time.monotonic()
                self._wait(error, attempt=attempt, remaining=remaining)
        raise AssertionError("unreachable")

    def _wait(self, error: CallError, *, attempt: int, remaining: float) -> None:
        """Sleeps until the next attempt, or raises the error when there is to be none."""
        delay = self._retry.delay(error, attempt=attempt, remaining=remaining, rng=self._rng)
        if delay is None:
            raise error from None
        time.sleep(delay)

    def watch(self, call: Call, timeout: float) -> Generator[Message]:
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
            sent = send(call.request, timeout=remaining, metadata=self._metadata)
            replies = cast(_Replies, sent)
            begun = False
            try:
                for reply in replies:
                    begun = True
                    yield reply
                return
            except grpc.RpcError as failure:
                error = CallError.from_rpc(failure)
            finally:
                replies.cancel()
            if begun:
                raise error
            self._wait(error, attempt=attempt, remaining=deadline - time.monotonic())

    def stream(
        self,
        items: Iterable[ImageInput | Item],
        flight: Flight,
        info_of: Callable[[types_pb2.ModelVersion], Operation[ModelInfo]],
    ) -> Iterator[Embedding]:
        """Sends items through as many streams as it takes; gives answers in the items' order.

        Items are taken in the caller's thread, and no more than the flight's window are held. When
        a stream breaks with a retryable error, the unanswered items go out again on the next.
        """
        source = iter(items)
        exhausted, failures = False, 0
        while not exhausted or flight.waiting:
            outbox: _Requests = queue.SimpleQueue()
            call = self._open_stream(outbox, flight)
            if exhausted:
                outbox.put(None)
            try:
                while True:
                    while flight.takes and not exhausted:
                        try:
                            taken = flight.take(next(source))
                        except StopIteration:
                            exhausted = True
                            outbox.put(None)
                            break
                        if taken is not None:
                            outbox.put(taken)
                        yield from flight.ready()
                    if not flight.waiting:
                        break
                    response = receive(call)
                    failures = 0
                    flight.settle(response, self.run(info_of(response.model)))
                    yield from flight.ready()
                outbox.put(None)
                finish(call)
            except StreamBrokenError as broken:
                failures += 1
                error = flight.excuse(broken.error)
                self._wait(error, attempt=failures, remaining=flight.deadline)
            finally:
                outbox.put(None)
                call.cancel()

    def _open_stream(self, outbox: _Requests, flight: Flight) -> _Responses:
        for request in flight.begin():
            outbox.put(request)
        opened = self._channel.stream_stream(
            EMBED_STREAM.path,
            request_serializer=embedding_pb2.EmbedStreamRequest.SerializeToString,
            response_deserializer=embedding_pb2.EmbedStreamResponse.FromString,
        )
        call = opened(iter(outbox.get, None), timeout=flight.deadline, metadata=self._metadata)
        return cast(_Responses, call)


def receive(call: _Responses) -> embedding_pb2.EmbedStreamResponse:
    """The next response. Raises StreamBrokenError when there is none."""
    try:
        response = next(call, None)
    except grpc.RpcError as failure:
        raise StreamBrokenError(CallError.from_rpc(failure)) from None
    if response is None:
        raise StreamBrokenError.early()
    return response


def finish(call: _Responses) -> None:
    """Waits for a stream's end. How it ends no longer matters: all of its items are answered."""
    with contextlib.suppress(grpc.RpcError):
        next(call, None)
