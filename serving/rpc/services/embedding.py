"""The handlers of EmbeddingService."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

from serving.batching.item_results import ItemResult
from serving.core.errors import invalid, shutting_down
from serving.core.limits import LimitsConfig
from serving.core.metrics import Metrics
from serving.core.requests import EmbedItem, InputOptions
from serving.models.abilities import chosen_outputs
from serving.models.registry import Registry
from serving.rpc.call_context import RpcContext, ServerCall, current_call
from serving.rpc.convert import embedding as convert
from serving.rpc.item_counts import count_item
from serving.rpc.stream_window import StreamWindow
from sparseclip.announcement import ITEMS_HEADER, announced
from sparseclip.v1 import embedding_pb2, embedding_pb2_grpc

EMBED = "/sparseclip.v1.EmbeddingService/Embed"
EMBED_STREAM = "/sparseclip.v1.EmbeddingService/EmbedStream"


class EmbeddingService(embedding_pb2_grpc.EmbeddingServiceServicer):
    """Images and texts in, codes of named concepts or dense vectors out."""

    def __init__(
        self, registry: Registry, limits: LimitsConfig, metrics: Metrics, draining: asyncio.Event
    ) -> None:
        """`draining` is set when the server begins to end: streams then stop reading."""
        self._registry = registry
        self._limits = limits
        self._metrics = metrics
        self._reply_seconds = metrics.reply.labels(EMBED)
        self._stream_reply_seconds = metrics.reply.labels(EMBED_STREAM)
        self._draining = draining

    def check_headers(self, headers: Iterable[tuple[str, str | bytes]], deadline: float) -> None:
        """Raises ServingError for a call of Embed that announces more items than are admitted now.

        `deadline` is in the event loop's time. Items that are not announced count when the message
        has been read.
        """
        model = self._registry.default_model
        for key, value in headers:
            if key == ITEMS_HEADER and isinstance(value, str) and model is not None:
                model.check_capacity(announced(value), deadline)

    async def Embed(  # noqa: N802
        self, request: embedding_pb2.EmbedRequest, context: RpcContext
    ) -> embedding_pb2.EmbedResponse:
        """Answers all items of one call; each has its own status."""
        embed = convert.embed_call(request, self._limits)
        with self._registry.lease(embed.selector) as model:
            outputs = chosen_outputs(embed.outputs, model.architecture)
            patch_ids = convert.patch_ids(outputs, model)
            model.check_framing(embed.options.framing, "options.framing")
            call = current_call()
            results = await model.embed(
                embed.items,
                call.deadline,
                patches=bool(patch_ids),
                priority=embed.options.priority or "interactive",
            )
            for item, result in zip(embed.items, results, strict=True):
                count_item(self._metrics, item, result)
            started = time.perf_counter()
            reply = convert.embed_response(embed, results, outputs, patch_ids, model, call.elapsed)
            self._reply_seconds.observe(time.perf_counter() - started)
            return reply

    async def EmbedStream(  # noqa: N802
        self, request_iterator: AsyncIterator[embedding_pb2.EmbedStreamRequest], context: RpcContext
    ) -> AsyncIterator[embedding_pb2.EmbedStreamResponse]:
        """Any number of items, answered as they finish."""
        call = current_call()
        start = await self._first(request_iterator)
        selector, selection, options = convert.stream_start(start, self._limits)
        with self._registry.lease(selector) as model:
            outputs = chosen_outputs(selection, model.architecture)
            patch_ids = convert.patch_ids(outputs, model)
            model.check_framing(options.framing, "start.options.framing")

            version = convert.model_version(model.id)

            async def answer(item: EmbedItem) -> ItemResult:
                return await model.embed_when_free(
                    item,
                    call.deadline,
                    patches=bool(patch_ids),
                    priority=options.priority or "bulk",
                )

            window = StreamWindow(
                self._items(request_iterator, options, call),
                answer,
                size=self._limits.stream_window,
                stop=self._draining,
            )
            async for item, result in window.answers():
                count_item(self._metrics, item, result)
                started = time.perf_counter()
                reply = embedding_pb2.EmbedStreamResponse(
                    model=version,
                    result=convert.embed_result(item, result, outputs, patch_ids, model),
                )
                self._stream_reply_seconds.observe(time.perf_counter() - started)
                yield reply

    async def _first(
        self, messages: AsyncIterator[embedding_pb2.EmbedStreamRequest]
    ) -> embedding_pb2.EmbedStreamRequest | None:
        """The first message of a stream, None for a stream without messages.

        Raises ServingError when the server begins to end before it comes.
        """
        reading = asyncio.ensure_future(anext(messages, None))
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait((reading, draining), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return await reading
        finally:
            draining.cancel()
            reading.cancel()
        raise shutting_down()

    async def _items(
        self,
        messages: AsyncIterator[embedding_pb2.EmbedStreamRequest],
        options: InputOptions,
        call: ServerCall,
    ) -> AsyncIterator[EmbedItem]:
        async for message in messages:
            if message.WhichOneof("message") != "input":
                raise invalid("message", "only the first one may be a start")
            await call.quota.charge_item()
            yield convert.embed_item(message.input, options, self._limits, "input")

    async def GetModel(  # noqa: N802
        self, request: embedding_pb2.GetModelRequest, context: RpcContext
    ) -> embedding_pb2.GetModelResponse:
        """A model's shapes and this server's limits."""
        with self._registry.lease(convert.selector(request.model)) as model:
            return convert.model_response(model, self._limits)
