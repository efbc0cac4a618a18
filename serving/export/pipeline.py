"""Entries to rows: read, decoded, run and checked, each stage at work on another batch.

S image side, T tokens, B rows of a batch.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.image import ImageLimits
from bundle.onnx_graph import GraphName
from bundle.store import Bundle
from bundle.tokenizer import TokenizerError
from serving.core.errors import ServingError, internal
from serving.core.metrics import Metrics
from serving.decoding.pool import DecodePool
from serving.engines.base import Engine, EngineError, OutOfMemoryError
from serving.engines.outputs import OutputRow, rows_of
from serving.export.clock import Clock
from serving.export.columns import Embedded, Failed, Result
from serving.export.inputs.base import Content, Input, InputEntry, Unread
from serving.export.job import ExportError, OutputConfig

log = logging.getLogger(__name__)

READERS = 8
"""Threads that wait for files."""
SLOTS = 8
"""Images that a decoder takes at once: a message each would cost a quarter of their decoding."""
DECODE_S = 30.0
"""After which an image's decoder counts as hung."""


class Pipeline:
    """Makes rows of entries. Batches are cut from the entries alone, so that a shard's rows are the
    same whatever ran beside it; a bounded number of batches is in work."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        source: Input,
        outputs: OutputConfig,
        decoders: int,
    ) -> None:
        self._bundle, self._engine, self._source = bundle, engine, source
        self._batch, self._patches = outputs.batch, outputs.patches
        self._text = source.modality == "text"
        self._graph: GraphName = "text" if self._text else "patches" if self._patches else "image"
        self._limits = ImageLimits()
        self._decoders = DecodePool(
            bundle.manifest.preprocessing,
            self._limits,
            workers=decoders,
            seconds=DECODE_S,
            metrics=Metrics(),
            slots=SLOTS,
        )
        self._free = asyncio.Semaphore(decoders)
        self._most = outputs.batch
        """Rows that the model has room for."""
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._runners = ThreadPoolExecutor(engine.runs, "model")
        # One batch a run, one that waits for it, and one that is being decoded.
        self._slots = asyncio.Semaphore(2 * engine.runs + 1)
        busy = READERS if self._text else decoders
        self.clock = Clock({"read": READERS, "decode": busy, "model": engine.runs, "write": 1})

    async def start(self) -> None:
        """Starts the decoders. Raises StartupError."""
        if not self._text:
            await self._decoders.start()

    async def close(self) -> None:
        """Ends all workers."""
        await self._decoders.close()
        self._readers.shutdown()
        self._runners.shutdown()

    async def rows(self, entries: Sequence[InputEntry]) -> list[Result]:
        """A row or a reason for each entry, in their order.

        Raises ExportError when the model fails on all of a batch.
        """
        parts = [entries[i : i + self._batch] for i in range(0, len(entries), self._batch)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(part)) for part in parts]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [row for task in tasks for row in task.result()]

    async def _one(self, entries: Sequence[InputEntry]) -> list[Result]:
        loop = asyncio.get_running_loop()
        async with self._slots:
            contents = await loop.run_in_executor(self._readers, self._read, entries)
            inputs = await self._prepared(contents)
            ready = [given for given in inputs if not isinstance(given, Failed)]
            rows = iter(await self._run(ready) if ready else ())
        return [given if isinstance(given, Failed) else next(rows) for given in inputs]

    def _read(self, entries: Sequence[InputEntry]) -> list[Content]:
        with self.clock.busy("read"):
            return list(self._source.read(entries))

    async def _prepared(self, contents: Sequence[Content]) -> list[NDArray[Any] | Failed]:
        """Pixels (3, S, S) or tokens (T,) of each."""
        if self._text:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._readers, self._tokens, contents)
        images = [content for content in contents if isinstance(content, bytes)]
        parts = [images[i : i + SLOTS] for i in range(0, len(images), SLOTS)]
        decoded = await asyncio.gather(*map(self._decoded, parts))
        pixels = iter([one for part in decoded for one in part])
        return [
            Failed(content.reason) if isinstance(content, Unread) else next(pixels)
            for content in contents
        ]

    def _tokens(self, contents: Sequence[Content]) -> list[NDArray[Any] | Failed]:
        found: list[NDArray[Any] | Failed] = []
        with self.clock.busy("decode"):
            for content in contents:
                if isinstance(content, Unread):
                    found.append(Failed(content.reason))
                    continue
                try:
                    found.append(self._bundle.tokenizer.encode([str(content)])[0])
                except TokenizerError as error:
                    found.append(Failed(str(error)))
        return found

    async def _decoded(self, images: Sequence[bytes]) -> list[NDArray[Any] | Failed]:
        """Pixels of what one decoder takes at once."""
        found = await self._tried(images)
        if not found:  # of one of them, or for a reason of its own: now each alone
            alone = [await self._tried([data]) or [internal()] for data in images]
            found = [one for part in alone for one in part]
        return [Failed(one.message) if isinstance(one, ServingError) else one for one in found]

    async def _tried(self, images: Sequence[bytes]) -> list[NDArray[Any] | ServingError]:
        """What a decoder makes of a few images; empty when it died."""
        async with self._free:  # what waits for a decoder keeps none busy
            with self.clock.busy("decode"):
                try:
                    return await self._decoders.decode_many(images)
                except ServingError:
                    return []

    async def _run(self, inputs: Sequence[NDArray[Any]]) -> list[Result]:
        """Rows of a batch. One that fails is halved, down to what fails alone; where memory was
        short, later batches are cut as small at once."""
        loop = asyncio.get_running_loop()
        size = len(inputs)
        if size > self._most:
            parts = [inputs[i : i + self._most] for i in range(0, size, self._most)]
            return [row for part in parts for row in await self._run(part)]
        try:
            return await loop.run_in_executor(self._runners, self._model, inputs)
        except EngineError as error:
            if size == 1:
                return [Failed(f"the model fails: {type(error).__name__}")]
            if isinstance(error, OutOfMemoryError) and self._most > size // 2:
                self._most = max(1, size // 2)
                log.warning("batch: memory is short; going on with %d rows at once", self._most)
            middle = size // 2
            rows = [*await self._run(inputs[:middle]), *await self._run(inputs[middle:])]
            if not any(isinstance(row, Embedded) for row in rows):
                raise ExportError(f"the model fails on every row of a batch: {error}") from None
            return rows

    def _model(self, inputs: Sequence[NDArray[Any]]) -> list[Result]:
        with self.clock.busy("model"):
            try:
                output = self._engine.run(self._graph, np.stack(inputs))
                shape = self._bundle.manifest.architecture
                return list(map(self._result, rows_of(output, len(inputs), shape, self._graph)))
            except MemoryError as error:  # not the engine's, beside it
                raise OutOfMemoryError(str(error)) from None

    def _result(self, row: OutputRow | EngineError) -> Result:
        """With the maps that are asked for in place of all patches: they are far smaller."""
        if isinstance(row, EngineError):
            return Failed("the model gave no row")
        maps = [row.patches.map(concept) for concept in self._patches] if row.patches else []
        return Embedded(dataclasses.replace(row, patches=None), np.array(maps, np.float32))
