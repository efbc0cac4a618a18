"""Texts from their characters to their answers: tokenized, queued, run. T tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.store import Bundle
from bundle.text import TextError
from serving.batching.batcher import Batcher
from serving.batching.item_admission import Permits
from serving.batching.item_results import EmbeddedItem, ItemResult
from serving.batching.worker_thread import WorkerThread
from serving.core.coverage import ItemCoverage
from serving.core.errors import ServingError, invalid
from serving.core.loop_metrics import LoopHistogram
from serving.core.requests import TextItem


class TextEmbedding:
    """Embeds texts with one bundle."""

    def __init__(
        self, bundle: Bundle, batcher: Batcher, max_bytes: int, decode_seconds: LoopHistogram
    ) -> None:
        """`max_bytes` bounds one text, in UTF-8."""
        self._tokenizer, self._known_words = bundle.tokenizer, bundle.known_words
        self._context = bundle.manifest.architecture.context_length
        self._batcher = batcher
        self._max_bytes = max_bytes
        self._decode_seconds = decode_seconds
        self.thread = WorkerThread("tokenizer")
        """Cleaning and cutting text is Python code: in a thread it lets the event loop run."""

    async def results(
        self, items: Sequence[TextItem], deadline: float, permits: Permits
    ) -> list[ItemResult]:
        """Tokenizes texts in one go; a text that cannot be read fails alone.

        `permits` are those of the batcher; `deadline` is in the event loop's time.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        readings = await self.thread.run(lambda: [self._read(item) for item in items])
        decode_s = loop.time() - started
        self._decode_seconds.observe(decode_s)
        futures: list[asyncio.Future[EmbeddedItem] | ServingError] = []
        for reading in readings:
            if isinstance(reading, ServingError):
                permits.use()  # the batcher need not wait for this text
                futures.append(reading)
            else:
                tokens, coverage = reading
                futures.append(self._batcher.submit(tokens, deadline, permits, decode_s, coverage))
        results: list[ItemResult] = []
        try:
            for future in futures:
                try:
                    results.append(future if isinstance(future, ServingError) else await future)
                except ServingError as error:
                    results.append(error)
        finally:
            for future in futures:  # a cancelled call leaves nothing in the queue
                if not isinstance(future, ServingError):
                    future.cancel()
        return results

    def _read(self, item: TextItem) -> tuple[NDArray[np.int64], ItemCoverage] | ServingError:
        """The tokens (T,) of a text and what they cover of it, or why it is refused."""
        if len(item.text.encode()) > self._max_bytes:
            return invalid("text", f"more than {self._max_bytes} bytes")
        try:
            read = self._tokenizer.tokenize(item.text)
        except TextError as error:
            return invalid("text", error.problem)
        if item.refuse_long and read.truncated:
            return invalid("text", f"{read.tokens} tokens, the model reads {self._context}")
        return read.ids, ItemCoverage(
            tokens=read.tokens,
            truncated=read.truncated,
            unknown_words=self._known_words.unknown(read.read),
        )

    def close(self) -> None:
        """Ends the thread."""
        self.thread.close()
