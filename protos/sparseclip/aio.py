"""The clients for asyncio: one for the public port of a server and one for its admin port."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing

from sparseclip import _admin
from sparseclip._base_client_aio import AsyncBaseClient
from sparseclip._connection import Tls
from sparseclip._convert import input_options_to_proto
from sparseclip._convert_chat import event_from_proto, to_messages
from sparseclip._image_files import ImageInput
from sparseclip._item_window import ItemWindow
from sparseclip._items import Item, Outputs
from sparseclip._methods import MethodCall, Operation
from sparseclip._operations import Operations
from sparseclip._retry import RetryPolicy
from sparseclip.chat import ChatEvent, ChatImage, ChatMessage, ChatSampling
from sparseclip.classifier import Classification, Classifier
from sparseclip.concepts import Concept, ConceptKey, ConceptMatches, ConceptPage, Explanation
from sparseclip.model_info import ModelInfo
from sparseclip.results import Embedding, Embeddings, ImageFraming, ModelVersion, Priority
from sparseclip.server_status import LoadedModel, ServerStatus
from sparseclip.steering import Steering
from sparseclip.v1.types_pb2 import InputOptions

# The largest page that a server gives.
_PAGE_SIZE = 1000


class AsyncClient(AsyncBaseClient):
    """Embeds, classifies, explains and chats through a server. Bound to one event loop.

    Every method raises CallError when its call fails as a whole. An item that fails has its own
    status. `timeout` of a method is the deadline of each of its calls in seconds, retries included;
    None means that of the client.
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
        """Opens a connection to `host:port` or `unix:PATH`. Nothing is sent yet.

        An empty `model` is the server's default one, an empty `version` the current one. `timeout`
        is the deadline of each call in seconds, retries included. Raises ValueError for a malformed
        address, for a TLS file that cannot be read, and for a token that would go in plaintext to
        another machine, unless `insecure` allows it.
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
        framing: ImageFraming | None = None,
        refuse_long_texts: bool = False,
        priority: Priority | None = None,
        timeout: float | None = None,
    ) -> Embeddings:
        """Embeds any number of images and texts; ImageInput says what an image may be.

        The answers keep the order of the items: images first, then texts. Items are spread over
        as many calls as the server's limits require. `framing` is one of `ModelInfo.framings`; None
        is the model's own. A text longer than the model's context is cut, or fails with
        `refuse_long_texts`. With `priority` "bulk" the server answers others first, and refuses
        more than its share for bulk work; None is "interactive". Raises TypeError for a lone image
        or text that is not in a list.
        """
        operation = self._operations.embed(
            images, texts, outputs or Outputs(), framing, refuse_long_texts, priority
        )
        return await self._transport.run(operation, timeout)

    def embed_stream(
        self,
        items: Iterable[ImageInput | Item] | AsyncIterable[ImageInput | Item],
        *,
        outputs: Outputs | None = None,
        framing: ImageFraming | None = None,
        refuse_long_texts: bool = False,
        priority: Priority | None = None,
        window: int = 64,
        timeout: float | None = None,
    ) -> AsyncGenerator[Embedding]:
        """Embeds any number of items, holding at most `window` of them at a time.

        An item is an image, or an Item for a text or for a source of your own. The answers keep
        the order of the items. `framing` and `refuse_long_texts` are those of `embed`, and so is
        `priority`, except that None is "bulk". A stream
        that breaks is opened again for the items that it left unanswered. `timeout` bounds the
        calls that describe the model, not the stream. Raises ValueError for a window of less than
        1.
        """
        if window < 1:
            raise ValueError("window: must be at least 1")
        options = input_options_to_proto(framing, refuse_long_texts, priority)
        return self._embed_stream(items, outputs or Outputs(), options, framing, window, timeout)

    async def _embed_stream(
        self,
        items: Iterable[ImageInput | Item] | AsyncIterable[ImageInput | Item],
        outputs: Outputs,
        options: InputOptions,
        framing: ImageFraming | None,
        window: int,
        timeout: float | None,
    ) -> AsyncGenerator[Embedding]:
        info = await self._transport.run(self._operations.model_info(), timeout)
        start = self._operations.stream_start(outputs, info, options)
        item_window = ItemWindow(start=start, info=info, size=window, framing=framing)
        stream = self._transport.stream(items, item_window, self._operations.info_for)
        async with aclosing(stream) as embeddings:
            async for embedding in embeddings:
                yield embedding

    async def classifier(
        self,
        labels: Sequence[str],
        *,
        templates: Sequence[str] = ("{}",),
        refuse_long_texts: bool = False,
        timeout: float | None = None,
    ) -> Classifier:
        """Embeds labels once, to score any number of embedded images with.

        Each label stands in the place of `{}` in every template. Raises ValueError when there are
        no labels, one is repeated or fails, or a template has no `{}`.
        """
        operation = self._operations.classifier(labels, templates, refuse_long_texts)
        return await self._transport.run(operation, timeout)

    async def classify(
        self,
        images: Sequence[ImageInput],
        labels: Sequence[str],
        *,
        templates: Sequence[str] = ("{}",),
        framing: ImageFraming | None = None,
        refuse_long_texts: bool = False,
        timeout: float | None = None,
    ) -> list[Classification]:
        """Scores every image against labels, by the model's own score (`ModelInfo.score`).

        `softmax`: one distribution over all labels. `sigmoid`: a probability of its own for each
        label, so that they need not sum to 1. `labels` and `templates` are those of `classifier`,
        with the same errors. `framing` is that of `embed`.
        """
        operation = self._operations.classify(images, labels, templates, framing, refuse_long_texts)
        return await self._transport.run(operation, timeout)

    async def list_concepts(
        self,
        *,
        page_size: int = 0,
        page_token: str = "",
        active_only: bool = False,
        timeout: float | None = None,
    ) -> ConceptPage:
        """One page of the model's concepts in order of their ids.

        `page_size` 0 is the server's default. `page_token` is the `next_page_token` of the page
        before, or empty for the first page.
        """
        operation = self._operations.list_concepts(page_size, page_token, active_only)
        return await self._transport.run(operation, timeout)

    async def concepts(self, *, active_only: bool = False) -> AsyncGenerator[Concept]:
        """All concepts of the model in order of their ids, read page by page."""
        token = ""
        while True:
            page = await self.list_concepts(
                page_size=_PAGE_SIZE, page_token=token, active_only=active_only
            )
            for concept in page.concepts:
                yield concept
            token = page.next_page_token
            if not token:
                return

    async def get_concept(self, key: ConceptKey, *, timeout: float | None = None) -> Concept:
        """One concept by id or exact name. Raises CallError with NOT_FOUND when there is none."""
        return await self._transport.run(self._operations.get_concept(key), timeout)

    async def search_concepts(
        self, query: str, *, limit: int = 0, timeout: float | None = None
    ) -> ConceptMatches:
        """The concepts that a word or phrase activates or names, best first.

        At most `limit` of them; 0 is the server's default. `coverage` of the result says what the
        text tower read of the query.
        """
        return await self._transport.run(self._operations.search_concepts(query, limit), timeout)

    async def explain(
        self,
        image: ImageInput,
        *,
        concepts: Sequence[ConceptKey] = (),
        top_concepts: int = 0,
        overlay: bool = False,
        framing: ImageFraming | None = None,
        captions: int = 0,
        timeout: float | None = None,
    ) -> Explanation:
        """Where concepts fire in an image, as a map over its patches for each of them.

        Without `concepts` these are the `top_concepts` strongest of the image; 0 is the server's
        default. With `overlay` each map is also drawn over the image. `framing` is that of `embed`.
        `captions` is how many of the training captions nearest to the image to send, at most 10.
        """
        operation = self._operations.explain(
            image, concepts, top_concepts, overlay, framing, captions
        )
        return await self._transport.run(operation, timeout)

    def chat(
        self,
        messages: str | Sequence[ChatMessage],
        images: Sequence[ImageInput | ChatImage] = (),
        *,
        steering: Steering | None = None,
        sampling: ChatSampling | None = None,
        timeout: float = 60.0,
    ) -> AsyncGenerator[ChatEvent]:
        """Answers a question about images, or the last message of a conversation.

        `steering` edits every image that has no edits of its own. The first event is a ChatStart
        with what the images show before and after the edits. The `text` of all events joined is
        the answer. Closing the generator ends the work on the server. A call that fails is retried
        only until its first event. Raises ValueError for a conversation whose images or edits are
        not in its messages.
        """
        conversation = to_messages(messages, images, steering)
        operation = self._operations.chat(conversation, sampling or ChatSampling())
        return self._chat_events(operation, timeout)

    async def _chat_events(
        self, operation: Operation[MethodCall], timeout: float
    ) -> AsyncGenerator[ChatEvent]:
        call = await self._transport.run(operation, timeout)
        async with aclosing(self._transport.replies(call, timeout)) as replies:
            async for reply in replies:
                event = event_from_proto(reply)
                if event is not None:
                    yield event


class AsyncAdminClient(AsyncBaseClient):
    """Loads and unloads models through a server's admin port. Bound to one event loop.

    Every method raises CallError when its call fails.
    """

    async def load_model(
        self, name: str, version: str = "", *, timeout: float = 120.0
    ) -> LoadedModel:
        """Loads a version of a model and makes it current; by default the one in CURRENT."""
        return await self._transport.run(_admin.load_model(name, version), timeout)

    async def unload_model(
        self, name: str, version: str = "", *, timeout: float | None = None
    ) -> tuple[ModelVersion, ...]:
        """Unloads a version of a model, by default all of them. Returns what was unloaded."""
        return await self._transport.run(_admin.unload_model(name, version), timeout)

    async def status(self, *, timeout: float | None = None) -> ServerStatus:
        """The server's models and its load."""
        return await self._transport.run(_admin.get_status(), timeout)
