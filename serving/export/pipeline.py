"""Entries to rows: read, decoded, run through the model and checked. Each stage works on another
batch at the same time.

S image side, T tokens, B rows of a batch.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.image import ImageLimits
from bundle.onnx_graph import GraphName
from bundle.preprocessor import ImagePixels
from bundle.store import Bundle
from bundle.text import TextError
from serving.core.coverage import ItemCoverage
from serving.core.errors import ServingError
from serving.core.jpeg_decoder import JpegDecoder
from serving.core.metrics import Metrics
from serving.engines.base import Engine, EngineError, OutOfMemoryError
from serving.engines.outputs import OutputRow, rows_of
from serving.export.columns import EntryResult, ExportRow, FailedEntry
from serving.export.inputs.base import Content, Input, InputEntry, Unreadable
from serving.export.job import ExportError, OutputConfig
from serving.export.progress import StageTimer
from serving.image_decoding.pool import DecodePool

log = logging.getLogger(__name__)

READER_THREADS = 8
IMAGES_PER_MESSAGE = 8
"""Images that a decoder gets at once. One message for each image would cost a quarter of the time
that decoding it takes."""
DECODE_TIMEOUT_S = 30.0
"""A decoder that takes longer over one image is hung."""


class _PreparedEntry(NamedTuple):
    """What the model reads of an entry."""

    array: NDArray[Any]
    """Pixels (3, S, S) or tokens (T,)."""
    coverage: ItemCoverage


class Pipeline:
    """Makes rows of entries.

    Batches are cut from the entries of one shard alone, so that its rows are the same whatever ran
    beside it. The number of batches in flight is bounded, and with it the memory.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        source: Input,
        outputs: OutputConfig,
        decoders: int,
        decoder: JpegDecoder = "pillow",
    ) -> None:
        self._bundle, self._engine, self._source = bundle, engine, source
        self._batch, self._patches = outputs.batch, outputs.patches
        self._framing, self._refuse_long_texts = outputs.framing, outputs.refuse_long_texts
        self._is_text = source.modality == "text"
        image_graph: GraphName = "patches" if self._patches else "image"
        self._graph: GraphName = "text" if self._is_text else image_graph
        self._decoders = DecodePool(
            bundle.manifest.preprocessing,
            ImageLimits(),
            workers=decoders,
            seconds=DECODE_TIMEOUT_S,
            metrics=Metrics(),
            slots=IMAGES_PER_MESSAGE,
            decoder=decoder,
        )
        self._free_decoders = asyncio.Semaphore(decoders)
        self._max_rows = outputs.batch
        """Rows that the model has memory for; only ever lowered."""
        self._readers = ThreadPoolExecutor(READER_THREADS, "read")
        self._runners = ThreadPoolExecutor(engine.runs, "model")
        # For each run of the model the batch in it and one that waits for it, and one more batch
        # that is being decoded.
        self._batches = asyncio.Semaphore(2 * engine.runs + 1)
        decode_workers = READER_THREADS if self._is_text else decoders
        self.timer = StageTimer(
            {"read": READER_THREADS, "decode": decode_workers, "model": engine.runs, "write": 1}
        )

    async def start(self) -> None:
        """Starts the decoders. Raises StartupError."""
        if not self._is_text:
            await self._decoders.start()

    async def close(self) -> None:
        """Ends all workers."""
        await self._decoders.close()
        self._readers.shutdown()
        self._runners.shutdown()

    async def rows(
        self, entries: Sequence[InputEntry], on_batch: Callable[[int], None] = lambda entries: None
    ) -> list[EntryResult]:
        """A row or a reason for each entry, in their order. `on_batch` is called with the number of
        entries of every batch that is done.

        Raises ExportError when the model fails on all of a batch.
        """
        batches = [entries[i : i + self._batch] for i in range(0, len(entries), self._batch)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._batch_rows(batch, on_batch)) for batch in batches]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [result for task in tasks for result in task.result()]

    async def _batch_rows(
        self, entries: Sequence[InputEntry], on_batch: Callable[[int], None]
    ) -> list[EntryResult]:
        loop = asyncio.get_running_loop()
        async with self._batches:
            contents = await loop.run_in_executor(self._readers, self._read, entries)
            inputs = await self._prepare(contents)
            arrays = [entry.array for entry in inputs if isinstance(entry, _PreparedEntry)]
            rows = iter(await self._run(arrays) if arrays else ())
        on_batch(len(entries))
        return [
            _with_coverage(next(rows), entry.coverage)
            if isinstance(entry, _PreparedEntry)
            else entry
            for entry in inputs
        ]

    def _read(self, entries: Sequence[InputEntry]) -> list[Content]:
        with self.timer.busy("read"):
            read = self._source.read([entry for entry in entries if not entry.problem])
            return [Unreadable(entry.problem) if entry.problem else next(read) for entry in entries]

    async def _prepare(self, contents: Sequence[Content]) -> list[_PreparedEntry | FailedEntry]:
        if self._is_text:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._readers, self._tokenize, contents)
        images = [content for content in contents if isinstance(content, bytes)]
        messages = [
            images[i : i + IMAGES_PER_MESSAGE] for i in range(0, len(images), IMAGES_PER_MESSAGE)
        ]
        decoded = await asyncio.gather(*map(self._decode, messages))
        pixels = iter([image for message in decoded for image in message])
        return [
            FailedEntry(content.reason) if isinstance(content, Unreadable) else next(pixels)
            for content in contents
        ]

    def _tokenize(self, contents: Sequence[Content]) -> list[_PreparedEntry | FailedEntry]:
        with self.timer.busy("decode"):
            return [
                FailedEntry(content.reason)
                if isinstance(content, Unreadable)
                else self._read_text(content)
                for content in contents
            ]

    def _read_text(self, text: object) -> _PreparedEntry | FailedEntry:
        try:
            read = self._bundle.tokenizer.tokenize(text)
        except TextError as error:
            return FailedEntry(str(error))
        if read.truncated and self._refuse_long_texts:
            return FailedEntry(f"text: {read.tokens} tokens, the model reads {len(read.ids)}")
        unknown = self._bundle.known_words.unknown(read.read)
        coverage = ItemCoverage(tokens=read.tokens, truncated=read.truncated, unknown_words=unknown)
        return _PreparedEntry(read.ids, coverage)

    async def _decode(self, images: Sequence[bytes]) -> list[_PreparedEntry | FailedEntry]:
        """Pixels of the images that one decoder gets at once."""
        async with self._free_decoders:  # the wait for a decoder is no time of the stage
            with self.timer.busy("decode"):
                decoded = await self._decoders.decode_many(images, self._framing)
        return [
            FailedEntry(image.message) if isinstance(image, ServingError) else _prepared(image)
            for image in decoded
        ]

    async def _run(self, arrays: Sequence[NDArray[Any]]) -> list[EntryResult]:
        """Rows of a batch.

        A batch that fails is halved, until what fails is one entry alone. Where memory was short,
        later batches are cut to the size that worked before they run.
        """
        loop = asyncio.get_running_loop()
        size = len(arrays)
        if size > self._max_rows:
            parts = [arrays[i : i + self._max_rows] for i in range(0, size, self._max_rows)]
            return [row for part in parts for row in await self._run(part)]
        try:
            return await loop.run_in_executor(self._runners, self._run_model, arrays)
        except EngineError as error:
            if size == 1:
                return [FailedEntry(f"the model fails: {type(error).__name__}")]
            if isinstance(error, OutOfMemoryError) and self._max_rows > size // 2:
                self._max_rows = max(1, size // 2)
                log.warning("batch: memory is short; going on with %d rows at once", self._max_rows)
            middle = size // 2
            rows = [*await self._run(arrays[:middle]), *await self._run(arrays[middle:])]
            if not any(isinstance(row, ExportRow) for row in rows):
                raise ExportError(f"the model fails on every row of a batch: {error}") from None
            return rows

    def _run_model(self, arrays: Sequence[NDArray[Any]]) -> list[EntryResult]:
        with self.timer.busy("model"):
            try:
                output = self._engine.run(self._graph, np.stack(arrays))
                architecture = self._bundle.manifest.architecture
                rows = rows_of(output, len(arrays), architecture, self._graph)
                return list(map(self._keep, rows))
            except MemoryError as error:  # of the copies here; an engine raises its own
                raise OutOfMemoryError(str(error)) from None

    def _keep(self, row: OutputRow | EngineError) -> EntryResult:
        """The maps of the requested concepts in place of all patches, which are far larger."""
        if isinstance(row, EngineError):
            return FailedEntry("the model gave no row")
        maps = [row.patches.map(concept) for concept in self._patches] if row.patches else []
        return ExportRow(dataclasses.replace(row, patches=None), np.array(maps, np.float32))


def _prepared(image: ImagePixels) -> _PreparedEntry:
    return _PreparedEntry(image.pixels, ItemCoverage.of_image(image.coverage))


def _with_coverage(result: EntryResult, coverage: ItemCoverage) -> EntryResult:
    return result._replace(coverage=coverage) if isinstance(result, ExportRow) else result
