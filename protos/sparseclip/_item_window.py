"""The items of a bulk stream that are under way: what to send next, and what to give back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

import grpc

from sparseclip._convert import embedding_from_proto
from sparseclip._image_files import ImageInput
from sparseclip._items import Item, PreparedItem, image_item, prepare_item
from sparseclip.errors import CallError
from sparseclip.model_info import ModelInfo
from sparseclip.results import Embedding, ImageFraming
from sparseclip.v1 import embedding_pb2

# Seconds that a stream may last when the server names no limit.
_DEFAULT_DEADLINE = 120.0


class ItemWindow:
    """At most `size` items that were taken from the caller and not given back yet, in their order.

    A stream lasts no longer than the server's longest deadline, so a long job needs several. After
    half of that time a stream takes no more items. Once all of its items are answered, the next
    stream begins.
    """

    def __init__(
        self,
        *,
        start: embedding_pb2.EmbedStreamStart,
        info: ModelInfo,
        size: int,
        framing: ImageFraming | None = None,
    ) -> None:
        """`start` is every stream's first message; `framing` is the one that it names."""
        self._start = start
        self._info = info
        self._size = size
        self._framing = framing
        self._added = 0
        self._positions: deque[int] = deque()
        self._unanswered: dict[str, PreparedItem] = {}
        self._answers: dict[int, Embedding] = {}
        self._stream_began = 0.0
        self._stream_answered = False
        self.deadline = float(info.limits.max_deadline_seconds) or _DEFAULT_DEADLINE
        """Seconds that one stream may last."""

    @property
    def has_unanswered(self) -> bool:
        """Some items were sent and are not answered yet."""
        return bool(self._unanswered)

    @property
    def has_room(self) -> bool:
        """The current stream can take another item."""
        age = time.monotonic() - self._stream_began
        return len(self._positions) < self._size and age < self.deadline / 2

    def first_requests(self) -> Iterator[embedding_pb2.EmbedStreamRequest]:
        """A new stream's first messages: its start, then every item that is still unanswered."""
        self._stream_began = time.monotonic()
        self._stream_answered = False
        yield embedding_pb2.EmbedStreamRequest(start=self._start)
        for item in self._unanswered.values():
            yield embedding_pb2.EmbedStreamRequest(input=item.message)

    def add(self, item: ImageInput | Item) -> embedding_pb2.EmbedStreamRequest | None:
        """Takes an item. Returns its message, or None when the item cannot be sent."""
        prepared = prepare_item(
            image_item(item, self._added), self._info, self._framing, self._added
        )
        self._added += 1
        self._positions.append(prepared.position)
        if prepared.message is None:
            self._answers[prepared.position] = prepared.failure()
            return None
        self._unanswered[prepared.message.id] = prepared
        return embedding_pb2.EmbedStreamRequest(input=prepared.message)

    def record(self, response: embedding_pb2.EmbedStreamResponse, info: ModelInfo) -> None:
        """Keeps an answer until its turn. `info` describes the model that gave it.

        Raises CallError when no item waits for this answer.
        """
        prepared = self._unanswered.pop(response.result.id, None)
        if prepared is None:
            raise CallError(grpc.StatusCode.INTERNAL, "the server answered an item twice")
        self._stream_answered = True
        self._answers[prepared.position] = embedding_from_proto(
            response.result, source=prepared.item.source, info=info
        )

    def pop_ready(self) -> Iterator[Embedding]:
        """Gives back the answers whose turn has come."""
        while self._positions and self._positions[0] in self._answers:
            yield self._answers.pop(self._positions.popleft())

    def excuse_deadline(self, error: CallError) -> CallError:
        """Makes a missed deadline retryable if the stream has answered: its caller was slow."""
        if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and self._stream_answered:
            return CallError(grpc.StatusCode.UNAVAILABLE, error.message)
        return error
