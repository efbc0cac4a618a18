"""The typed client. `Client` blocks; `AsyncClient`, with the same methods, awaits.

    with Client("localhost:50051") as client:
        answers = client.embed(images=["cat.png"], outputs=Outputs(top_concepts=5))
        matrix = answers.to_csr()

A call that fails as a whole raises CallError; an item that fails carries its own status.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self

from sparseclip import _admin as admin
from sparseclip import _convert_chat as convert_chat
from sparseclip._connection import Connection, Tls
from sparseclip._convert import ConceptKey, Outputs
from sparseclip._items import ImageInput, Item
from sparseclip._operations import Call, Operations
from sparseclip._retry import RetryPolicy
from sparseclip._stream import Flight
from sparseclip._transport import Transport
from sparseclip.chat import ChatEvent, ChatImage, ChatMessage, ChatSampling
from sparseclip.classifier import Classification, Classifier
from sparseclip.concepts import Concept, ConceptMatch, ConceptPage, Explanation, ServerStatus
from sparseclip.results import Embedding, Embeddings, ModelInfo, ModelVersion
from sparseclip.steering import Steering


class _Base:
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
        self._transport = Transport(connection, timeout, retry or RetryPolicy())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        self._transport.close()

    def health(self, service: str = "", *, timeout: float | None = None) -> admin.Health:
        """The health of one service, such as `sparseclip.v1.EmbeddingService`, or of all."""
        return self._transport.run(admin.health(service), timeout)


class Client(_Base):
    """Embeds, classifies and explains through a Sparseclip server. Threads may share one.

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

    def model_info(self, *, timeout: float | None = None) -> ModelInfo:
        """The model's shapes, and the limits of the server."""
        return self._transport.run(self._operations.model_info(), timeout)

    def embed(
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
        return self._transport.run(operation, timeout)

    def embed_stream(
        self,
        items: Iterable[ImageInput | Item],
        *,
        outputs: Outputs | None = None,
        window: int = 64,
        timeout: float | None = None,
    ) -> Iterator[Embedding]:
        """Embeds items without end, in order, holding at most `window` of them at a time.

        Items are images, or `Item`s for texts and for sources of your own. `timeout` bounds the
        calls that describe the model, not the stream.
        """
        info = self._transport.run(self._operations.known_info(), timeout)
        flight = Flight(
            selector=self._operations.selector,
            outputs=outputs or Outputs(),
            info=info,
            window=window,
        )
        return self._transport.stream(items, flight, self._operations.info_of)

    def classifier(
        self,
        labels: Sequence[str],
        *,
        templates: Sequence[str] = ("{}",),
        timeout: float | None = None,
    ) -> Classifier:
        """Embeds labels once, to score the images of a stream with."""
        return self._transport.run(self._operations.classifier(labels, templates), timeout)

    def classify(
        self,
        images: Sequence[ImageInput],
        labels: Sequence[str],
        *,
        templates: Sequence[str] = ("{}",),
        timeout: float | None = None,
    ) -> list[Classification]:
        """Scores every image against labels: softmax of logit scale times cosine."""
        operation = self._operations.classify(images, labels, templates)
        return self._transport.run(operation, timeout)

    def list_concepts(
        self,
        *,
        page_size: int = 0,
        page_token: str = "",
        active_only: bool = False,
        timeout: float | None = None,
    ) -> ConceptPage:
        """One page of the model's concepts; 0 is the server's default page size."""
        operation = self._operations.list_concepts(page_size, page_token, active_only)
        return self._transport.run(operation, timeout)

    def concepts(self, *, active_only: bool = False) -> Iterator[Concept]:
        """All of the model's concepts, page by page."""
        token = ""
        while True:
            page = self.list_concepts(page_size=1000, page_token=token, active_only=active_only)
            yield from page.concepts
            token = page.next_page_token
            if not token:
                return

    def get_concept(self, key: ConceptKey, *, timeout: float | None = None) -> Concept:
        """One concept by id or exact name."""
        return self._transport.run(self._operations.get_concept(key), timeout)

    def search_concepts(
        self, query: str, *, limit: int = 0, timeout: float | None = None
    ) -> list[ConceptMatch]:
        """The concepts that a word or phrase brings up, best first."""
        return self._transport.run(self._operations.search_concepts(query, limit), timeout)

    def explain(
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
        return self._transport.run(operation, timeout)

    def chat(
        self,
        messages: str | Sequence[ChatMessage],
        images: Sequence[ImageInput | ChatImage] = (),
        *,
        steering: Steering | None = None,
        sampling: ChatSampling | None = None,
        timeout: float = 60.0,
    ) -> Generator[ChatEvent]:
        """Answers a question about images, or the last message of a conversation.

        The first event tells what the images show before and after the edits; the `text` of all
        events joined is the answer. Closing the iterator ends the work. A call that fails is sent
        again only before its first event.
        """
        said = convert_chat.conversation(messages, images, steering)
        call = self._operations.chat(said, sampling or ChatSampling())
        return self._chat(call, timeout)

    def _chat(self, call: Call, timeout: float) -> Generator[ChatEvent]:
        with closing(self._transport.watch(call, timeout)) as replies:
            for reply in replies:
                event = convert_chat.event(reply)
                if event is not None:
                    yield event


class AdminClient(_Base):
    """Loads and unloads models through a server's admin port."""

    def load_model(
        self, name: str, version: str = "", *, timeout: float = 120.0
    ) -> admin.LoadedModel:
        """Loads a version, by default the one in CURRENT, and makes it current."""
        return self._transport.run(admin.load(name, version), timeout)

    def unload_model(
        self, name: str, version: str = "", *, timeout: float | None = None
    ) -> tuple[ModelVersion, ...]:
        """Unloads a version, by default all of them; gives what it unloaded."""
        return self._transport.run(admin.unload(name, version), timeout)

    def status(self, *, timeout: float | None = None) -> ServerStatus:
        """The server's models and its load."""
        return self._transport.run(admin.status(), timeout)
