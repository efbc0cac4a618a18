"""The typed client for asyncio: the methods of `Client`, awaited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self

from sparseclip import _admin as admin
from sparseclip import _convert_chat as convert_chat
from sparseclip._connection import Connection, Tls
from sparseclip._convert import ConceptKey, Outputs
from sparseclip._items import ImageInput, Item
from sparseclip._operations import Operations
from sparseclip._retry import RetryPolicy
from sparseclip._stream import Flight
from sparseclip._transport_aio import AsyncTransport
from sparseclip.chat import ChatEvent, ChatImage, ChatMessage, ChatSampling
from sparseclip.classifier import Classification, Classifier
from sparseclip.concepts import Concept, ConceptMatch, ConceptPage, Explanation, ServerStatus
from sparseclip.results import Embedding, Embeddings, ModelInfo, ModelVersion
from sparseclip.steering import Steering


class _AsyncBase:
    """Opening and closing, the same for both ports."""

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        tls: Tls | None = None,
        insecure: bool = False,
        timeout: float = 10.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        connection = Connection(address=address, token=token, tls=tls, insecure=insecure)
        self._transport = AsyncTransport(connection, timeout, retry or RetryPolicy())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        await self._transport.close()

    async def health(self, service: str = "", *, timeout: float | None = None) -> admin.Health:
        """The health of one service, such as `sparseclip.v1.EmbeddingService`, or of all."""
        return await self._transport.run(admin.health(service), timeout)


class AsyncClient(_AsyncBase):
    """Embeds, classifies and explains through a Sparseclip server. Bound to one event loop.

    Every method raises CallError when a call fails as a whole. `timeout` is the deadline of each
    call in seconds, retries included.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        tls: Tls | None = None,
        insecure: bool = False,
        model: str = "",
        version: str = "",
        timeout: float = 10.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Opens a connection to `host:port` or `unix:PATH`; nothing is sent yet.

        An empty model is the server's default one, an empty version the current one. A token in
        plaintext to another machine raises ValueError unless `insecure` is set.
        """
        super().__init__(
            address, token=token, tls=tls, insecure=insecure, timeout=timeout, retry=retry
        )
        self._operations = Operations(model, version)

    async def model_info(self, *, timeout: float | None = None) -> ModelInfo:
        """The model's shapes, and the limits of the server."""
        return await self._transport.run(self._operations.model_info(), timeout)

    async def embed(
        self,
        images: Sequence[ImageInput] = (),
        texts: Sequence[str] = (),
        *,
        outputs: Outputs | None = None,
        timeout: float | None = None,
    ) -> Embeddings:
        """Embeds any number of images (bytes, paths or PIL images) and texts.

        Results keep the order: images first, then texts. Many items become several calls within
        the server's limits; an item that fails has its own status.
        """
        operation = self._operations.embed(images, texts, outputs or Outputs())
        return await self._transport.run(operation, timeout)

    async def embed_stream(
        self,
        items: Iterable[ImageInput | Item] | AsyncIterable[ImageInput | Item],
        *,
        outputs: Outputs | None = None,
        window: int = 64,
        timeout: float | None = None,
    ) -> AsyncIterator[Embedding]:
        """Embeds items without end, in order, holding at most `window` of them at a time.

        Items are images, or `Item`s for texts and for sources of your own. `timeout` bounds the
        calls that describe the model, not the stream.
        """
        flight = Flight(
            selector=self._operations.selector,
            outputs=outputs or Outputs(),
            info=await self._transport.run(self._operations.known_info(), timeout),
            window=window,
        )
        async for embedding in self._transport.stream(items, flight, self._operations.info_of):
            yield embedding

    async def classifier(
        self,
        labels: Sequence[str],
        *,
        templates: Sequence[str] = ("{}",),
        timeout: float | None = None,
    ) -> Classifier:
        """Embeds labels once, to score the images of a stream with."""
        return await self._transport.run(self._operations.classifier(labels, templates), timeout)

    async def classify(
        self,
        images: Sequence[ImageInput],
        labels: Sequence[str],
        *,
        templates: Sequence[str] = ("{}",),
        timeout: float | None = None,
    ) -> list[Classification]:
        """Scores every image against labels: softmax of logit scale times cosine."""
        operation = self._operations.classify(images, labels, templates)
        return await self._transport.run(operation, timeout)

    async def list_concepts(
        self,
        *,
        page_size: int = 0,
        page_token: str = "",
        active_only: bool = False,
        timeout: float | None = None,
    ) -> ConceptPage:
        """One page of the model's concepts; 0 is the server's default page size."""
        operation = self._operations.list_concepts(page_size, page_token, active_only)
        return await self._transport.run(operation, timeout)

    async def concepts(self, *, active_only: bool = False) -> AsyncIterator[Concept]:
        """All of the model's concepts, page by page."""
        token = ""
        while True:
            page = await self.list_concepts(
                page_size=1000, page_token=token, active_only=active_only
            )
            for concept in page.concepts:
                yield concept
            token = page.next_page_token
            if not token:
                return

    async def get_concept(self, key: ConceptKey, *, timeout: float | None = None) -> Concept:
        """One concept by id or exact name."""
        return await self._transport.run(self._operations.get_concept(key), timeout)

    async def search_concepts(
        self, query: str, *, limit: int = 0, timeout: float | None = None
    ) -> list[ConceptMatch]:
        """The concepts that a word or phrase brings up, best first."""
        return await self._transport.run(self._operations.search_concepts(query, limit), timeout)

    async def explain(
        self,
        image: ImageInput,
        *,
        concepts: Sequence[ConceptKey] = (),
        top_concepts: int = 0,
        overlay: bool = False,
        timeout: float | None = None,
    ) -> Explanation:
        """Where the named concepts, or else the strongest ones, fire in an image."""
        operation = self._operations.explain(image, concepts, top_concepts, overlay)
        return await self._transport.run(operation, timeout)

    async def chat(
        self,
        messages: str | Sequence[ChatMessage],
        images: Sequence[ImageInput | ChatImage] = (),
        *,
        steering: Steering | None = None,
        sampling: ChatSampling | None = None,
        timeout: float = 60.0,
    ) -> AsyncGenerator[ChatEvent]:
        """Answers a question about images, or the last message of a conversation.

        The first event tells what the images show before and after the edits; the `text` of all
        events joined is the answer. Closing the generator ends the work. A call that fails is sent
        again only before its first event.
        """
        said = convert_chat.conversation(messages, images, steering)
        call = self._operations.chat(said, sampling or ChatSampling())
        async with aclosing(self._transport.watch(call, timeout)) as replies:
            async for reply in replies:
                event = convert_chat.event(reply)
                if event is not None:
                    yield event


class AsyncAdminClient(_AsyncBase):
    """Loads and unloads models through a server's admin port."""

    async def load_model(
        self, name: str, version: str = "", *, timeout: float = 120.0
    ) -> admin.LoadedModel:
        """Loads a version, by default the one in CURRENT, and makes it current."""
        return await self._transport.run(admin.load(name, version), timeout)

    async def unload_model(
        self, name: str, version: str = "", *, timeout: float | None = None
    ) -> tuple[ModelVersion, ...]:
        """Unloads a version, by default all of them; gives what it unloaded."""
        return await self._transport.run(admin.unload(name, version), timeout)

    async def status(self, *, timeout: float | None = None) -> ServerStatus:
        """The server's models and its load."""
        return await self._transport.run(admin.status(), timeout)
