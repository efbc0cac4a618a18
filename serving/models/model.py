"""A loaded model: bundle, engine, decoders, batchers, chat. S image side, T tokens, P patches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.onnx_graph import GRAPHS, GraphName
from bundle.store import Bundle, open_bundle
from serving.batching.admission import Permits
from serving.batching.batcher import Batcher, Done, batcher_config
from serving.batching.worker_thread import WorkerThread
from serving.chat.conversation import ENDED, Chat
from serving.chat.loading import LanguageModel, NoChat, open_chat
from serving.core.config import ServerConfig
from serving.core.errors import ErrorKind, ServingError, invalid
from serving.core.metrics import Metrics
from serving.core.requests import (
    EmbeddedItem,
    EmbedItem,
    ImageItem,
    ItemResult,
    ModelId,
    StageTimes,
    TextItem,
)
from serving.decoding.pool import DecodePool
from serving.engines.base import Engine, EngineError, EngineFactory, available_cores
from serving.engines.outputs import OutputRow, rows_of

log = logging.getLogger(__name__)


class ServedModel:
    """Answers items from one version of one bundle."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        chat_model: LanguageModel | NoChat,
        config: ServerConfig,
        metrics: Metrics,
    ) -> None:
        manifest = bundle.manifest
        self.id = ModelId(name=manifest.name, version=manifest.version)
        self.architecture = manifest.architecture
        self.preprocessing = manifest.preprocessing
        self.concepts = bundle.concepts
        self.engine = engine
        self.suspect = asyncio.Event()
        """Set when so many items in a row failed that a probe is due."""
        self._tokenizer = bundle.tokenizer
        self._failures = 0
        self._failures_allowed = config.failures_before_probe
        self._limits = config.limits
        self._metrics = metrics
        self._decode_times: dict[str, Any] = {g: metrics.decode(g) for g in ("image", "text")}
        self.decoders = DecodePool(
            manifest.preprocessing,
            config.limits.image,
            workers=config.decode_workers or min(4, available_cores()),
            seconds=config.limits.decode_s,
            metrics=metrics,
        )
        # Cleaning and cutting text is Python code: on a thread it yields to the event loop.
        self.text_thread = WorkerThread("tokenizer")
        self.batchers = {
            graph: Batcher(
                self._runner(graph),
                batcher_config(graph, config, engine.runs),
                metrics.batcher(graph),
                self._count,
            )
            for graph in GRAPHS
        }
        self._chat = (
            chat_model
            if isinstance(chat_model, NoChat)
            else Chat(
                chat_model,
                self.concepts,
                self.embed,
                config.limits,
                metrics.chat,
                self.suspect.set,
            )
        )

    @property
    def chats(self) -> bool:
        """It answers conversations."""
        return isinstance(self._chat, Chat) and not self._chat.ended

    @property
    def chat(self) -> Chat:
        """Its conversations. Raises ServingError that says why it has none."""
        if isinstance(self._chat, NoChat):
            raise ServingError(ErrorKind.CONFLICT, self._chat.reason)
        if self._chat.ended:
            self.suspect.set()
            raise ServingError(ErrorKind.UNAVAILABLE, ENDED)
        return self._chat

    @classmethod
    async def load(
        cls, path: Path, config: ServerConfig, metrics: Metrics, engine_factory: EngineFactory
    ) -> ServedModel:
        """Opens a bundle, loads its graphs, starts its workers and warms all of it up.

        Raises BundleError or EngineError; nothing is left behind then.
        """
        loop = asyncio.get_running_loop()

        def read() -> tuple[Bundle, Engine, LanguageModel | NoChat]:
            bundle = open_bundle(path)
            engine = engine_factory(bundle, config.engine)
            # What is read on first use would stop the event loop then.
            bundle.concepts.search("a", 1)
            bundle.tokenizer.encode(["a"])
            return bundle, engine, open_chat(bundle, config)

        bundle, engine, chat_model = await loop.run_in_executor(None, read)
        model = cls(bundle, engine, chat_model, config, metrics)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(model.decoders.start())
                group.create_task(model.warm_up(config.batch.max_images, config.batch.max_texts))
                if model.chats:
                    group.create_task(model.chat.warm_up())
        except BaseException as error:
            await model.close()
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise
        return model

    async def warm_up(self, images: int, texts: int) -> None:
        """Runs every graph at one item and at the largest batch. Raises EngineError."""
        loop = asyncio.get_running_loop()
        for graph in GRAPHS:
            for batch in {1, texts if graph == "text" else images}:
                inputs = np.repeat(self._sample(graph)[None], batch, axis=0)
                for row in await loop.run_in_executor(None, self._runner(graph), inputs):
                    if isinstance(row, EngineError):
                        raise row

    async def probe(self, seconds: float) -> bool:
        """Whether a plain image gets an answer; if so, failures count from 0 again."""
        loop = asyncio.get_running_loop()
        batcher = self.batchers["image"]
        try:
            async with asyncio.timeout(seconds):
                deadline = loop.time() + seconds
                with batcher.room.admit(1, deadline) as places:
                    await batcher.submit(self._sample("image"), deadline, places)
        except (ServingError, TimeoutError):
            return False
        self._failures = 0
        self.suspect.clear()
        return True

    def _count(self, succeeded: bool) -> None:
        self._failures = 0 if succeeded else self._failures + 1
        if self._failures >= self._failures_allowed:
            self.suspect.set()

    async def embed(
        self, items: Sequence[EmbedItem], deadline: float, *, patches: bool = False
    ) -> list[ItemResult]:
        """Answers items in their order; one that fails does not disturb the others.

        `deadline` is in the event loop's time. With `patches`, images also get patch codes.
        Raises ServingError when there is no room for all of the items.
        """
        images = [item for item in items if isinstance(item, ImageItem)]
        texts = [item for item in items if isinstance(item, TextItem)]
        batcher = self._for_images(patches)
        with (
            batcher.room.admit(len(images), deadline) as places,
            self.batchers["text"].room.admit(len(texts), deadline) as text_places,
        ):
            if len(images) == 1 and not texts:
                return [await self._image(images[0], deadline, batcher, places)]
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._image(item, deadline, batcher, places))
                    for item in images
                ]
                rest = group.create_task(self._texts(texts, deadline, text_places))
        from_images, from_texts = iter([task.result() for task in tasks]), iter(rest.result())
        return [next(from_images if isinstance(i, ImageItem) else from_texts) for i in items]

    async def embed_when_free(
        self, item: EmbedItem, deadline: float, *, patches: bool = False
    ) -> ItemResult:
        """Answers one item of a stream, after waiting for a place."""
        if isinstance(item, ImageItem):
            batcher = self._for_images(patches)
            async with batcher.room.admit_when_free() as places:
                return await self._image(item, deadline, batcher, places)
        async with self.batchers["text"].room.admit_when_free() as places:
            return (await self._texts([item], deadline, places))[0]

    def _for_images(self, patches: bool) -> Batcher:
        return self.batchers["patches" if patches else "image"]

    async def _image(
        self, item: ImageItem, deadline: float, batcher: Batcher, places: Permits
    ) -> ItemResult:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            pixels = await self.decoders.decode(item.data)
        except ServingError as error:
            places.use()
            return error
        decode_s = loop.time() - started
        self._decode_times["image"].observe(decode_s)
        try:
            return _embedded(await batcher.submit(pixels, deadline, places), decode_s)
        except ServingError as error:
            return error

    async def _texts(
        self, items: Sequence[TextItem], deadline: float, places: Permits
    ) -> list[ItemResult]:
        if not items:
            return []
        loop = asyncio.get_running_loop()
        started = loop.time()
        allowed = self._limits.text_bytes
        refusal = invalid("text", f"more than {allowed} bytes")
        fits = [len(item.text.encode()) <= allowed for item in items]
        texts = [item.text for item, fit in zip(items, fits, strict=True) if fit]
        for _ in range(len(items) - len(texts)):
            places.use()
        tokens = await self.text_thread.run(lambda: self._tokenizer.encode(texts))
        decode_s = loop.time() - started
        self._decode_times["text"].observe(decode_s)
        futures = [self.batchers["text"].submit(row, deadline, places) for row in tokens]
        waiting, results = iter(futures), list[ItemResult]()
        try:
            for fit in fits:
                try:
                    done = await next(waiting) if fit else None
                    results.append(_embedded(done, decode_s) if done else refusal)
                except ServingError as error:
                    results.append(error)
        finally:
            for future in futures:
                future.cancel()
        return results

    @property
    def admitted_images(self) -> int:
        """Images let in and not answered yet."""
        return sum(self.batchers[graph].room.admitted for graph in ("image", "patches"))

    async def close(self) -> None:
        """Ends the workers and frees the graphs."""
        if self.chats:
            await self.chat.close()
        for batcher in self.batchers.values():
            await batcher.close()
        await self.decoders.close()
        self.text_thread.close()
        self.engine.close()

    def _sample(self, graph: GraphName) -> NDArray[Any]:
        if graph == "text":
            row: NDArray[Any] = self._tokenizer.encode(["a"])[0]
            return row
        size = self.preprocessing.size
        return np.zeros((3, size, size), dtype=np.float32)

    def _runner(self, graph: GraphName) -> Callable[[NDArray[Any]], list[OutputRow | EngineError]]:
        def run(inputs: NDArray[Any]) -> list[OutputRow | EngineError]:
            output = self.engine.run(graph, inputs)
            return rows_of(output, len(inputs), self.architecture, graph)

        return run


def _embedded(done: Done, decode_s: float) -> EmbeddedItem:
    times = StageTimes(decode_s=decode_s, queue_s=done.queue_s, inference_s=done.inference_s)
    return EmbeddedItem(row=done.row, times=times)
