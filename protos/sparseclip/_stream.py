"""The state of a bulk stream, without its I/O: what to send next, and what to give back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

import grpc

from sparseclip import _convert as convert
from sparseclip._items import ImageInput, Item, Prepared, image_item, prepare_one
from sparseclip._operations import unsent
from sparseclip.errors import CallError
from sparseclip.results import Embedding, ModelInfo
from sparseclip.v1 import embedding_pb2, types_pb2


class StreamBrokenError(Exception):
    """A stream ended before all of its items were answered."""

    def __init__(self, error: CallError) -> None:
        super().__init__(str(error))
        self.error = error

    @classmethod
    def early(cls) -> StreamBrokenError:
        """The server closed the stream in good order, too soon; another try may do."""
        return cls(CallError(grpc.StatusCode.UNAVAILABLE, "the stream ended early"))


class Flight:
    """A bounded window of items that were taken but not yet given back, in their order.

    One stream lives only as long as a server's longest deadline. `lifetime` seconds after a
    stream began it takes no more items; when all of its items are answered, the next one begins.
    """

    def __init__(
        self,
        *,
        selector: types_pb2.ModelSelector,
        outputs: convert.Outputs,
        info: ModelInfo,
        window: int,
    ) -> None:
        if window < 1:
            raise ValueError("window: must be at least 1")
        self._start = embedding_pb2.EmbedStreamStart(model=selector, outputs=outputs.to_proto())
        self._info = info
        self._window = window
        self._taken = 0
        self._order: deque[int] = deque()
        self._waiting: dict[str, Prepared] = {}
        self._answers: dict[int, Embedding] = {}
        self._began = 0.0
        self._answered = False
        self.deadline = float(info.limits.max_deadline_seconds or 120)
        """Seconds that one stream may last."""
        self.lifetime = self.deadline / 2

    @property
    def waiting(self) -> bool:
        """Some items were sent and not answered yet."""
        return bool(self._waiting)

    @property
    def takes(self) -> bool:
        """There is room for another item on this stream."""
        return len(self._order) < self._window and (time.monotonic() - self._began < self.lifetime)

    def begin(self) -> Iterator[embedding_pb2.EmbedStreamRequest]:
        """A new stream's first messages: the start, and every item that is still unanswered."""
        self._began = time.monotonic()
        self._answered = False
        yield embedding_pb2.EmbedStreamRequest(start=self._start)
        for prepared in self._waiting.values():
            yield embedding_pb2.EmbedStreamRequest(input=prepared.message)

    def take(self, item: ImageInput | Item) -> embedding_pb2.EmbedStreamRequest | None:
        """Takes an item in; gives its message, or None when it failed before being sent."""
        prepared = prepare_one(image_item(item, self._taken), self._info.limits, self._taken)
        self._taken += 1
        self._order.append(prepared.position)
        if prepared.message is None:
            self._answers[prepared.position] = unsent(prepared)
            return None
        self._waiting[prepared.message.id] = prepared
        return embedding_pb2.EmbedStreamRequest(input=prepared.message)

    def settle(self, response: embedding_pb2.EmbedStreamResponse, info: ModelInfo) -> None:
        """Notes an answer. `info` describes the model that gave it."""
        prepared = self._waiting.pop(response.result.id, None)
        if prepared is None:
            raise CallError(grpc.StatusCode.INTERNAL, "the server answered an item twice")
        self._answered = True
        self._answers[prepared.position] = convert.embedding(
            response.result, source=prepared.item.source, info=info
        )

    def excuse(self, error: CallError) -> CallError:
        """A stream that answered and then met its deadline had a caller who paused: go on."""
        if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and self._answered:
            return CallError(grpc.StatusCode.UNAVAILABLE, error.message)
        return error

    def ready(self) -> Iterator[Embedding]:
        """Gives back the answers whose turn it is."""
        while self._order and self._order[0] in self._answers:
            yield self._answers.pop(self._order.popleft())
