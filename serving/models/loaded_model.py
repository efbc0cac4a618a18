"""A loaded model: bundle, engine, decoders, batchers, chat. S image side, T tokens, P patches."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.manifest import Framing
from bundle.onnx_graph import GraphName
from bundle.store import Bundle
from bundle.text import EMPTY
from serving.batching.batcher import Batcher, RunBatch, batcher_config
from serving.batching.item_admission import Permits
from serving.batching.item_results import ItemResult
from serving.chat.conversation import ENDED, Chat
from serving.chat.load_chat_model import TURNED_OFF, LanguageModel, NoChat
from serving.core.config import ServerConfig
from serving.core.coverage import ItemCoverage
from serving.core.errors import ErrorKind, ServingError, invalid
from serving.core.metrics import Metrics
from serving.core.priority_queue import WorkPriority
from serving.core.requests import EmbedItem, ImageItem, ModelId, TextItem
from serving.engines.base import EngineError, OpenedEngine, available_cores
from serving.engines.outputs import OutputRow, rows_of
from serving.image_decoding.pool import DecodePool
from serving.models.image_embedding import ImageEmbedding
from serving.models.sample_inputs import sample_image
from serving.models.text_embedding import TextEmbedding

_IMAGES_PER_REQUEST = 4
"""Images that a decoder gets at once while many wait. More would keep the first ones from the
engine for longer than it takes to run them."""


class ServedModel:
    """Answers items with one version of one bundle."""

    def __init__(
        self,
        bundle: Bundle,
        engine: OpenedEngine,
        language_model: LanguageModel | NoChat,
        config: ServerConfig,
        metrics: Metrics,
    ) -> None:
        manifest = bundle.manifest
        self.id = ModelId(name=manifest.name, version=manifest.version)
        self.digest = manifest.digest
        """Of the whole bundle, as exports keep it."""
        self.architecture = manifest.architecture
        self.preprocessing = manifest.preprocessing
        self.concepts = bundle.concepts
        self.framings = manifest.preprocessing.framings
        """The framings that a caller may choose, the model's own first."""
        self.engine = engine
        self.suspect = asyncio.Event()
        """Set when the model should be probed: after several failed items, or when chat ended."""
        self._captions = bundle.captions
        self._failures = 0
        self._failures_before_probe = config.failures_before_probe
        self._decode_seconds = metrics.decode("image")
        self.decoders = DecodePool(
            manifest.preprocessing,
            config.limits.image,
            workers=config.decode_workers or min(4, available_cores()),
            seconds=config.limits.decode_s,
            metrics=metrics,
            slots=_IMAGES_PER_REQUEST,
            decoder=config.decoder,
        )
        self.batchers: dict[GraphName, Batcher] = {
            graph: Batcher(
                self.runner(graph),
                batcher_config(graph, config, engine.runs),
                metrics.batcher(graph),
                self._on_outcome,
            )
            for graph in bundle.graphs
        }
        self.texts = TextEmbedding(
            bundle, self.batchers["text"], config.limits.text_bytes, metrics.decode("text")
        )
        self._chat: Chat | NoChat = (
            language_model
            if isinstance(language_model, NoChat)
            else Chat(
                language_model,
                self.concepts,
                self.embed,
                config.limits,
                metrics.chat,
                self.suspect.set,
            )
        )

    @property
    def has_chat(self) -> bool:
        """Whether the model answers conversations."""
        return isinstance(self._chat, Chat) and not self._chat.ended

    @property
    def chat(self) -> Chat:
        """The model's conversations. Raises ServingError, which says why there are none."""
        if isinstance(self._chat, NoChat):
            raise ServingError(ErrorKind.CONFLICT, self._chat.reason)
        if self._chat.ended:
            self.suspect.set()
            raise ServingError(ErrorKind.UNAVAILABLE, ENDED)
        return self._chat

    @property
    def admitted_images(self) -> int:
        """Images admitted and not yet answered."""
        images = (batcher for graph, batcher in self.batchers.items() if graph != "text")
        return sum(batcher.admission.admitted for batcher in images)

    def check_framing(self, framing: Framing | None, field: str) -> None:
        """Raises ServingError naming the field for a framing that the model does not offer."""
        if framing is not None and framing not in self.framings:
            offered = " or ".join(self.framings) or "none: it squashes its images"
            raise invalid(field, f"this model offers {offered}")

    def nearest_captions(self, row: OutputRow, count: int) -> tuple[tuple[str, float], ...]:
        """Training captions nearest to an image's code with their cosine, best first. None where
        the bundle has no captions."""
        return (
            () if self._captions is None else self._captions.nearest(row.indices, row.values, count)
        )

    def runner(self, graph: GraphName) -> RunBatch:
        """A function that runs a batch of a graph's inputs and checks every row of the output."""

        def run(inputs: NDArray[Any]) -> list[OutputRow | EngineError]:
            output = self.engine.run(graph, inputs)
            return rows_of(output, len(inputs), self.architecture, graph)

        return run

    async def probe(self, seconds: float) -> bool:
        """Whether an encoded image is answered in time; if so, failures count from 0 again."""
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                [result] = await self.embed([ImageItem(id="", data=sample_image())], deadline)
        except (ServingError, TimeoutError):
            return False
        if isinstance(result, ServingError):
            return False
        self._failures = 0
        self.suspect.clear()
        return True

    def _on_outcome(self, succeeded: bool) -> None:
        self._failures = 0 if succeeded else self._failures + 1
        if self._failures >= self._failures_before_probe:
            self.suspect.set()

    async def embed(
        self,
        items: Sequence[EmbedItem],
        deadline: float,
        *,
        patches: bool = False,
        priority: WorkPriority = "interactive",
    ) -> list[ItemResult]:
        """Answers items in their order; one that fails does not disturb the others.

        `deadline` is in the event loop's time. With `patches`, images also get patch codes.
        Raises ServingError when the items are not admitted: all of them are, or none.
        """
        images = [item for item in items if isinstance(item, ImageItem)]
        texts = [item for item in items if isinstance(item, TextItem)]
        image_admission = self._image_batcher(patches).admission
        text_admission = self.batchers["text"].admission
        if not texts:
            with image_admission.admit(len(images), deadline, priority) as permits:
                return await self._embed_images(images, deadline, patches, permits)
        if not images:
            with text_admission.admit(len(texts), deadline, priority) as permits:
                return await self.texts.results(texts, deadline, permits)
        with (
            image_admission.admit(len(images), deadline, priority) as image_permits,
            text_admission.admit(len(texts), deadline, priority) as text_permits,
        ):
            async with asyncio.TaskGroup() as group:
                image_task = group.create_task(
                    self._embed_images(images, deadline, patches, image_permits)
                )
                text_task = group.create_task(self.texts.results(texts, deadline, text_permits))
        image_results, text_results = iter(image_task.result()), iter(text_task.result())
        return [next(image_results if isinstance(i, ImageItem) else text_results) for i in items]

    async def embed_when_free(
        self,
        item: EmbedItem,
        deadline: float,
        *,
        patches: bool = False,
        priority: WorkPriority = "bulk",
    ) -> ItemResult:
        """Answers one item of a stream, after waiting for a slot that streams may use."""
        if isinstance(item, ImageItem):
            admission = self._image_batcher(patches).admission
            async with admission.admit_when_free(priority) as permits:
                return (await self._embed_images([item], deadline, patches, permits))[0]
        async with self.batchers["text"].admission.admit_when_free(priority) as permits:
            return (await self.texts.results([item], deadline, permits))[0]

    def check_capacity(self, counts: Mapping[str, int], deadline: float) -> None:
        """Raises ServingError when so many items of each graph would not be admitted now. Names
        that are no graph's do not count."""
        for graph, batcher in self.batchers.items():
            batcher.admission.check(counts.get(graph, 0), deadline)

    def _image_batcher(self, patches: bool) -> Batcher:
        return self.batchers["patches" if patches else "image"]

    async def _embed_images(
        self, items: Sequence[ImageItem], deadline: float, patches: bool, permits: Permits
    ) -> list[ItemResult]:
        embedding = ImageEmbedding(
            self.decoders,
            self._image_batcher(patches),
            permits,
            deadline,
            self._on_outcome,
            self._decode_seconds,
        )
        return await embedding.results(items)

    async def decode(
        self, data: bytes, framing: Framing | None
    ) -> tuple[NDArray[np.float32], ItemCoverage]:
        """Pixels (3, S, S) of an encoded image, and what they show of it.

        Raises ServingError as DecodePool.submit does.
        """
        if not data:
            raise invalid("image", EMPTY)
        pixels, coverage = await self.decoders.decode(data, framing)
        return pixels, ItemCoverage.of_image(coverage)

    async def remove_chat(self, reason: NoChat) -> None:
        """Ends the model's conversations; callers of Chat are told the reason."""
        chat, self._chat = self._chat, reason
        if isinstance(chat, Chat):
            await chat.close()

    async def close(self) -> None:
        """Ends the workers and frees the graphs."""
        await self.remove_chat(TURNED_OFF)
        for batcher in self.batchers.values():
            await batcher.close()
        await self.decoders.close()
        self.texts.close()
        self.engine.close()
