"""Images from their bytes to their answers: decoded, queued, run. S image side."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence

from bundle.preprocessor import ImagePixels
from bundle.text import EMPTY
from serving.batching.batcher import Batcher
from serving.batching.item_admission import Permits
from serving.batching.item_results import EmbeddedItem, ItemResult
from serving.core.coverage import ItemCoverage
from serving.core.errors import ErrorKind, ServingError, invalid
from serving.core.loop_metrics import LoopHistogram
from serving.core.requests import ImageItem
from serving.image_decoding.pool import DecodePool


class ImageEmbedding:
    """Embeds the images of one call.

    Callbacks lead an image from stage to stage: a task for each image would take the event loop as
    much time as all of its own work.
    """

    def __init__(
        self,
        decoders: DecodePool,
        batcher: Batcher,
        permits: Permits,
        deadline: float,
        on_outcome: Callable[[bool], None],
        decode_seconds: LoopHistogram,
    ) -> None:
        """`permits` are those of `batcher`; `deadline` is in the event loop's time."""
        self._decoders = decoders
        self._batcher = batcher
        self._permits = permits
        self._deadline = deadline
        self._on_outcome = on_outcome
        self._decode_seconds = decode_seconds
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._stages: list[asyncio.Future[ImagePixels] | asyncio.Future[EmbeddedItem] | None] = []
        """What each image waits for; None once it is answered."""
        self._results: list[ItemResult | None] = []
        self._unanswered = 0
        self._has_left = False
        """Whether the call has ended. An image may be decoded, or run, in the same step of the loop
        in which its caller leaves: its stage is done, and cannot be cancelled any more."""
        self._all_answered: asyncio.Future[None] = self._loop.create_future()

    async def results(self, items: Sequence[ImageItem]) -> list[ItemResult]:
        """The answer to each image. What is unfinished when the call is cancelled leaves the
        queues."""
        self._unanswered = len(items)
        self._results = [None] * len(items)
        self._stages = [None] * len(items)
        try:
            for place, item in enumerate(items):
                self._decode(place, item)
            if items:
                await self._all_answered
        finally:
            self._has_left = True
            for stage in self._stages:
                if stage is not None:
                    stage.cancel()
        return [result for result in self._results if result is not None]

    def _decode(self, place: int, item: ImageItem) -> None:
        if not item.data:
            self._permits.use()
            self._answer(place, invalid("image", EMPTY))
            return
        stage = self._decoders.submit(item.data, item.framing, self._permits.priority)
        self._stages[place] = stage
        stage.add_done_callback(functools.partial(self._on_decoded, place))

    def _on_decoded(self, place: int, decoded: asyncio.Future[ImagePixels]) -> None:
        if decoded.cancelled():
            return
        error = decoded.exception()  # asked for in any case, or asyncio logs it as lost
        if self._has_left:
            return
        if isinstance(error, ServingError):
            self._permits.use()  # the batcher need not wait for this image
            if error.kind is ErrorKind.INTERNAL:
                self._on_outcome(False)
            self._answer(place, error)
            return
        pixels, read = decoded.result()
        decode_s = self._loop.time() - self._started
        self._decode_seconds.observe(decode_s)
        stage = self._batcher.submit(
            pixels, self._deadline, self._permits, decode_s, ItemCoverage.of_image(read)
        )
        self._stages[place] = stage
        stage.add_done_callback(functools.partial(self._on_embedded, place))

    def _on_embedded(self, place: int, embedded: asyncio.Future[EmbeddedItem]) -> None:
        if self._has_left or embedded.cancelled():
            return
        error = embedded.exception()
        self._answer(place, error if isinstance(error, ServingError) else embedded.result())

    def _answer(self, place: int, result: ItemResult) -> None:
        self._stages[place] = None
        self._results[place] = result
        self._unanswered -= 1
        if not self._unanswered and not self._all_answered.done():
            self._all_answered.set_result(None)
