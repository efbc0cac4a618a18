"""What each method of the client does, without doing any I/O itself.

An operation is a generator: it yields the calls it needs and is sent their replies. Client drives
it with blocking calls, AsyncClient with awaited ones, so both share every line in here.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message

from sparseclip import _convert as convert
from sparseclip import _convert_chat as convert_chat
from sparseclip import concepts
from sparseclip._items import (
    ImageInput,
    ItemError,
    Prepared,
    image_item,
    items_from,
    prepare,
    read_image,
)
from sparseclip.chat import ChatMessage, ChatSampling
from sparseclip.classifier import Classification, Classifier, prompts_for
from sparseclip.errors import CallError
from sparseclip.results import Embedding, Embeddings, ModelInfo, ServerLimits
from sparseclip.v1 import chat_pb2, concepts_pb2, embedding_pb2, types_pb2

T = TypeVar("T")
R = TypeVar("R", bound=Message)

# Room in a message for what surrounds the items: ids, lengths, the selection of outputs.
_ENVELOPE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Method(Generic[R]):
    """A method of the wire contract and the type of its reply."""

    path: str
    reply: type[R]


@dataclass(frozen=True)
class Call:
    """A call that an operation needs."""

    method: Method[Message]
    request: Message


Operation = Generator[Call, Message, T]

_EMBEDDING, _CONCEPTS = "/sparseclip.v1.EmbeddingService", "/sparseclip.v1.ConceptService"
CHAT = Method("/sparseclip.v1.ChatService/Chat", chat_pb2.ChatResponse)
EMBED = Method(f"{_EMBEDDING}/Embed", embedding_pb2.EmbedResponse)
EMBED_STREAM = Method(f"{_EMBEDDING}/EmbedStream", embedding_pb2.EmbedStreamResponse)
GET_MODEL = Method(f"{_EMBEDDING}/GetModel", embedding_pb2.GetModelResponse)
LIST_CONCEPTS = Method(f"{_CONCEPTS}/ListConcepts", concepts_pb2.ListConceptsResponse)
GET_CONCEPT = Method(f"{_CONCEPTS}/GetConcept", concepts_pb2.GetConceptResponse)
SEARCH_CONCEPTS = Method(f"{_CONCEPTS}/SearchConcepts", concepts_pb2.SearchConceptsResponse)
EXPLAIN_IMAGE = Method(f"{_CONCEPTS}/ExplainImage", concepts_pb2.ExplainImageResponse)


def ask(method: Method[R], request: Message) -> Operation[R]:
    """Yields one call and returns its reply."""
    reply = yield Call(method, request)  # type: ignore[arg-type]
    if not isinstance(reply, method.reply):
        raise TypeError(f"{method.path}: the reply has another type")
    return reply


class Operations:
    """The operations on one model of a server; remembers what that model looks like."""

    def __init__(self, model: str, version: str) -> None:
        self._selector = types_pb2.ModelSelector(name=model, version=version)
        self._info: ModelInfo | None = None

    @property
    def selector(self) -> types_pb2.ModelSelector:
        """The model that every request names."""
        return self._selector

    def model_info(self) -> Operation[ModelInfo]:
        """Asks for the model's shapes and the server's limits."""
        request = embedding_pb2.GetModelRequest(model=self._selector)
        self._info = convert.model_info((yield from ask(GET_MODEL, request)))
        return self._info

    def known_info(self) -> Operation[ModelInfo]:
        """The same, from memory when it was asked for before."""
        return self._info or (yield from self.model_info())

    def info_of(self, answered: types_pb2.ModelVersion) -> Operation[ModelInfo]:
        """What the model looks like that answered: another version may have become current."""
        info = yield from self.known_info()
        if convert.model(answered) == info.model:
            return info
        selector = types_pb2.ModelSelector(name=answered.name, version=answered.version)
        request = embedding_pb2.GetModelRequest(model=selector)
        self._info = convert.model_info((yield from ask(GET_MODEL, request)))
        if self._info.model != convert.model(answered):
            raise CallError(grpc.StatusCode.INTERNAL, "the server described another model")
        return self._info

    def embed(
        self, images: Sequence[ImageInput], texts: Sequence[str], outputs: convert.Outputs
    ) -> Operation[Embeddings]:
        """Embeds any number of items, in as many calls as the server's limits ask for."""
        selection = outputs.to_proto()
        items = items_from(images, texts)
        limits = (yield from self.known_info()).limits
        done: list[Embedding] = []
        for batch in batches(prepare(items, limits), limits):
            done += yield from self._embed_batch(batch, selection)
        return Embeddings(items=tuple(done))

    def _embed_batch(
        self, batch: list[Prepared], selection: embedding_pb2.OutputSelection
    ) -> Operation[list[Embedding]]:
        messages = [prepared.message for prepared in batch if prepared.message is not None]
        if not messages:
            return [unsent(prepared) for prepared in batch]
        request = embedding_pb2.EmbedRequest(
            model=self._selector, inputs=messages, outputs=selection
        )
        reply = yield from ask(EMBED, request)
        info = yield from self.info_of(reply.model)
        if [result.id for result in reply.results] != [message.id for message in messages]:
            raise CallError(grpc.StatusCode.INTERNAL, "the reply's results do not fit the items")
        results = iter(reply.results)
        return [
            unsent(prepared)
            if prepared.message is None
            else convert.embedding(next(results), source=prepared.item.source, info=info)
            for prepared in batch
        ]

    def classifier(self, labels: Sequence[str], templates: Sequence[str]) -> Operation[Classifier]:
        """Embeds the labels."""
        prompts = yield from self.embed([], prompts_for(labels, templates), convert.Outputs())
        return Classifier.build(labels, templates, prompts, (yield from self.known_info()))

    def classify(
        self, images: Sequence[ImageInput], labels: Sequence[str], templates: Sequence[str]
    ) -> Operation[list[Classification]]:
        """Embeds the labels and the images, and scores every image."""
        classifier = yield from self.classifier(labels, templates)
        embedded = yield from self.embed(images, [], convert.Outputs())
        return [classifier.score(image) for image in embedded]

    def list_concepts(
        self, page_size: int, page_token: str, active_only: bool
    ) -> Operation[concepts.ConceptPage]:
        """One page of concepts."""
        request = concepts_pb2.ListConceptsRequest(
            model=self._selector,
            page_size=page_size,
            page_token=page_token,
            active_only=active_only,
        )
        reply = yield from ask(LIST_CONCEPTS, request)
        return concepts.ConceptPage(
            concepts=tuple(convert.concept(entry) for entry in reply.concepts),
            next_page_token=reply.next_page_token,
            total=reply.total,
        )

    def get_concept(self, key: convert.ConceptKey) -> Operation[concepts.Concept]:
        """One concept by id or exact name."""
        request = concepts_pb2.GetConceptRequest(
            model=self._selector, concept=convert.concept_ref(key)
        )
        return convert.concept((yield from ask(GET_CONCEPT, request)).concept)

    def search_concepts(self, query: str, limit: int) -> Operation[list[concepts.ConceptMatch]]:
        """The concepts that a word or phrase brings up, best first."""
        request = concepts_pb2.SearchConceptsRequest(model=self._selector, query=query, limit=limit)
        reply = yield from ask(SEARCH_CONCEPTS, request)
        return [
            concepts.ConceptMatch(
                concept=convert.concept(match.concept),
                activation=match.activation,
                name_match=match.name_match,
            )
            for match in reply.matches
        ]

    def chat(self, messages: Sequence[ChatMessage], sampling: ChatSampling) -> Call:
        """The one call of a conversation; its replies are a stream."""
        request = convert_chat.request(self._selector, messages, sampling)
        return Call(CHAT, request)  # type: ignore[arg-type]

    def explain(
        self,
        image: ImageInput,
        keys: Sequence[convert.ConceptKey],
        top_concepts: int,
        overlay: bool,
    ) -> Operation[concepts.Explanation]:
        """Where concepts fire in one image."""
        item = image_item(image, 0)
        try:
            data = read_image(image)
        except ItemError as error:
            raise CallError(error.status.code, error.status.message) from None
        request = concepts_pb2.ExplainImageRequest(
            model=self._selector,
            image=data,
            concepts=[convert.concept_ref(key) for key in keys],
            top_concepts=top_concepts,
            overlay=overlay,
        )
        reply = yield from ask(EXPLAIN_IMAGE, request)
        return convert.explanation(reply, source=item.source)


def unsent(prepared: Prepared) -> Embedding:
    """The answer to an item that could not be sent."""
    return Embedding(source=prepared.item.source, status=prepared.status)


def batches(items: Iterable[Prepared], limits: ServerLimits) -> Iterator[list[Prepared]]:
    """Consecutive items, as many to a list as one call of this server may hold."""
    batch: list[Prepared] = []
    images = texts = size = 0
    for prepared in items:
        is_image = prepared.item.image is not None
        length = 0 if prepared.message is None else prepared.message.ByteSize()
        full = (
            images + is_image > max(1, limits.images_per_call)
            or texts + (not is_image) > max(1, limits.texts_per_call)
            or size + length > limits.message_bytes - _ENVELOPE_BYTES
        )
        if full and batch:
            yield batch
            batch, images, texts, size = [], 0, 0, 0
        batch.append(prepared)
        images, texts, size = images + is_image, texts + (not is_image), size + length
    if batch:
        yield batch
