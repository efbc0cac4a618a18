# Written by protos/generate_sync.py from _transport_aio.py: edit that file.
"""Operations and bulk streams over a channel, with deadlines and retries: without gRPC's types."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import TypeVar

from google.protobuf.message import Message

from sparseclip._channel import Channel, StreamBrokenError, StreamCall
from sparseclip._connection import Connection, bounded_timeout
from sparseclip._image_files import ImageInput
from sparseclip._item_window import ItemWindow
from sparseclip._items import Item
from sparseclip._methods import MethodCall, Operation
from sparseclip._retry import RetryPolicy
from sparseclip.errors import CallError
from sparseclip.model_info import ModelInfo
from sparseclip.results import Embedding
from sparseclip.v1 import types_pb2

T = TypeVar("T")


class Transport:
    """One connection to one port of a server. Threads may share it."""

    def __init__(self, connection: Connection, timeout: float, retry: RetryPolicy) -> None:
        self._channel = Channel(connection)
        self._timeout = bounded_timeout(timeout)
        self._retry = retry
        self._rng = random.Random()

    def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        self._channel.close()

    def run(self, operation: Operation[T], timeout: float | None = None) -> T:
        """Drives an operation; each of its calls has `timeout` seconds, retries included."""
        seconds = self._timeout if timeout is None else bounded_timeout(timeout)
        try:
            call = next(operation)
            while True:
                call = operation.send(self._send(call, seconds))
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _send(self, call: MethodCall, timeout: float) -> Message:
        deadline = time.monotonic() + timeout
        for attempt in itertools.count(1):
            try:
                return self._channel.send(call, max(0.0, deadline - time.monotonic()))
            except CallError as error:
                remaining = deadline - time.monotonic()
                self._wait_or_raise(error, attempt=attempt, remaining=remaining)
        raise AssertionError("unreachable")

    def _wait_or_raise(self, error: CallError, *, attempt: int, remaining: float) -> None:
        """Sleeps until the next attempt; raises the error when there is to be none."""
        delay = self._retry.delay(error, attempt=attempt, remaining=remaining, rng=self._rng)
        if delay is None:
            raise error from None
        time.sleep(delay)

    def replies(self, call: MethodCall, timeout: float) -> Generator[Message]:
        """The many replies of a call, which is retried only until the first of them.

        Closing the generator cancels the call.
        """
        deadline = time.monotonic() + bounded_timeout(timeout)
        for attempt in itertools.count(1):
            remaining = max(0.0, deadline - time.monotonic())
            begun = False
            try:
                with closing(self._channel.replies(call, remaining)) as replies:
                    for reply in replies:
                        begun = True
                        yield reply
                return
            except CallError as error:
                if begun:
                    raise
                remaining = deadline - time.monotonic()
                self._wait_or_raise(error, attempt=attempt, remaining=remaining)

    def stream(
        self,
        items: Iterable[ImageInput | Item],
        window: ItemWindow,
        info_for: Callable[[types_pb2.ModelVersion], Operation[ModelInfo]],
    ) -> Generator[Embedding]:
        """Sends items over as many streams as it takes; gives the answers in the items' order.

        Items are taken as answers are asked for, and no more of them are held than the window
        allows. When a stream fails with a retryable error, the unanswered items are sent again on
        the next one.
        """
        source = iter(items)
        exhausted, failures = False, 0
        while not exhausted or window.has_unanswered:
            call = self._open_stream(window)
            if exhausted:
                call.close_requests()
            try:
                while True:
                    while window.has_room and not exhausted:
                        try:
                            request = window.add(next(source))
                        except StopIteration:
                            exhausted = True
                            call.close_requests()
                            break
                        if request is not None:
                            call.send(request)
                        for embedding in window.pop_ready():
                            yield embedding
                    if not window.has_unanswered:
                        break
                    response = call.receive()
                    failures = 0
                    window.record(response, self.run(info_for(response.model)))
                    for embedding in window.pop_ready():
                        yield embedding
                call.close_requests()
                call.wait_for_end()
            except StreamBrokenError as broken:
                failures += 1
                error = window.excuse_deadline(broken.error)
                self._wait_or_raise(error, attempt=failures, remaining=window.deadline)
            finally:
                call.cancel()

    def _open_stream(self, window: ItemWindow) -> StreamCall:
        call = self._channel.open_stream(window.deadline)
        for request in window.first_requests():
            call.send(request)
        return call
