"""What each method of the client does, without any I/O of its own.

An operation is a generator: it yields the calls that it needs and is sent their replies. Client
drives it with blocking calls and AsyncClient with awaited ones, so both share every line in here.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message

from sparseclip._batches import split_into_batches
from sparseclip._convert import (
    concept_from_proto,
    concept_key_to_proto,
    coverage_from_proto,
    embedding_from_proto,
    explanation_from_proto,
    framing_to_proto,
    input_options_to_proto,
    model_info_from_proto,
    model_version_from_proto,
    outputs_to_proto,
)
from sparseclip._convert_chat import chat_request
from sparseclip._image_files import ImageInput, read_image
from sparseclip._items import (
    Outputs,
    PreparedItem,
    image_item,
    items_from,
    prepare_items,
)
from sparseclip.announcement import announce
from sparseclip.chat import ChatMessage, ChatSampling
from sparseclip.classifier import Classification, Classifier, prompts_for
from sparseclip.concepts import (
    Concept,
    ConceptKey,
    ConceptMatch,
    ConceptMatches,
    ConceptPage,
    Explanation,
)
from sparseclip.errors import CallError, ItemError
from sparseclip.model_info import ModelInfo
from sparseclip.results import Embedding, Embeddings, ImageFraming
from sparseclip.v1 import chat_pb2, concepts_pb2, embedding_pb2, types_pb2

T = TypeVar("T")
ReplyT_co = TypeVar("ReplyT_co", bound=Message, covariant=True)


@dataclass(frozen=True)
class Method(Generic[ReplyT_co]):
    """A method of the wire contract."""

    path: str
    reply: type[ReplyT_co]


@dataclass(frozen=True)
class MethodCall:
    """A method with the request to send to it."""

    method: Method[Message]
    request: Message
    headers: tuple[tuple[str, str], ...] = ()
    """Those of this call alone."""


Operation = Generator[MethodCall, Message, T]

_EMBEDDING, _CONCEPTS = "/sparseclip.v1.EmbeddingService", "/sparseclip.v1.ConceptService"
CHAT = Method("/sparseclip.v1.ChatService/Chat", chat_pb2.ChatResponse)
EMBED = Method(f"{_EMBEDDING}/Embed", embedding_pb2.EmbedResponse)
EMBED_STREAM = Method(f"{_EMBEDDING}/EmbedStream", embedding_pb2.EmbedStreamResponse)
GET_MODEL = Method(f"{_EMBEDDING}/GetModel", embedding_pb2.GetModelResponse)
LIST_CONCEPTS = Method(f"{_CONCEPTS}/ListConcepts", concepts_pb2.ListConceptsResponse)
GET_CONCEPT = Method(f"{_CONCEPTS}/GetConcept", concepts_pb2.GetConceptResponse)
SEARCH_CONCEPTS = Method(f"{_CONCEPTS}/SearchConcepts", concepts_pb2.SearchConceptsResponse)
EXPLAIN_IMAGE = Method(f"{_CONCEPTS}/ExplainImage", concepts_pb2.ExplainImageResponse)


def call_method(
    method: Method[ReplyT_co], request: Message, headers: tuple[tuple[str, str], ...] = ()
) -> Operation[ReplyT_co]:
    """Yields one call and returns its reply."""
    reply = yield MethodCall(method, request, headers)
    if not isinstance(reply, method.reply):
        raise TypeError(f"{method.path}: the reply has another type")
    return reply


class Operations:
    """The operations on one model of a server. Remembers the model's shapes and the limits."""

    def __init__(self, model: str, version: str) -> None:
        self._selector = types_pb2.ModelSelector(name=model, version=version)
        self._info: ModelInfo | None = None

    def model_info(self) -> Operation[ModelInfo]:
        """Asks for the model's shapes and the server's limits."""
        return (yield from self._describe(self._selector))

    def known_info(self) -> Operation[ModelInfo]:
        """The model's shapes and the server's limits; asks only if nobody has asked before."""
        return self._info or (yield from self.model_info())

    def info_for(self, answered_by: types_pb2.ModelVersion) -> Operation[ModelInfo]:
        """The shapes of the model that answered, since another version may have become current."""
        info = yield from self.known_info()
        version = model_version_from_proto(answered_by)
        if version == info.model:
            return info
        info = yield from self._describe(
            types_pb2.ModelSelector(name=version.name, version=version.version)
        )
        if info.model != version:
            raise CallError(grpc.StatusCode.INTERNAL, "the server described another model")
        return info

    def _describe(self, selector: types_pb2.ModelSelector) -> Operation[ModelInfo]:
        request = embedding_pb2.GetModelRequest(model=selector)
        self._info = model_info_from_proto((yield from call_method(GET_MODEL, request)))
        return self._info

    def embed(
        self,
        images: Sequence[ImageInput],
        texts: Sequence[str],
        outputs: Outputs,
        framing: ImageFraming | None = None,
        refuse_long_texts: bool = False,
    ) -> Operation[Embeddings]:
        """Embeds any number of items, in as many calls as the server's limits require."""
        options = input_options_to_proto(framing, refuse_long_texts)
        items = items_from(images, texts)
        info = yield from self.known_info()
        start = self.stream_start(outputs, info, options)
        embeddings: list[Embedding] = []
        for batch in split_into_batches(prepare_items(items, info, framing), info.limits):
            embeddings += yield from self._embed_batch(batch, start)
        return Embeddings(items=tuple(embeddings))

    def _embed_batch(
        self, batch: list[PreparedItem], start: embedding_pb2.EmbedStreamStart
    ) -> Operation[list[Embedding]]:
        messages = [prepared.message for prepared in batch if prepared.message is not None]
        if not messages:
            return [prepared.failure() for prepared in batch]
        request = embedding_pb2.EmbedRequest(
            model=start.model, inputs=messages, outputs=start.outputs, options=start.options
        )
        reply = yield from call_method(EMBED, request, announce(request))
        info = yield from self.info_for(reply.model)
        if [result.id for result in reply.results] != [message.id for message in messages]:
            raise CallError(grpc.StatusCode.INTERNAL, "the reply's results do not fit the items")
        results = iter(reply.results)
        return [
            prepared.failure()
            if prepared.message is None
            else embedding_from_proto(next(results), source=prepared.item.source, info=info)
            for prepared in batch
        ]

    def stream_start(
        self, outputs: Outputs, info: ModelInfo, options: types_pb2.InputOptions | None = None
    ) -> embedding_pb2.EmbedStreamStart:
        """The first message of a bulk stream: what all of its items share. Raises CallError."""
        return embedding_pb2.EmbedStreamStart(
            model=self._selector, outputs=outputs_to_proto(outputs, info), options=options
        )

    def classifier(
        self, labels: Sequence[str], templates: Sequence[str], refuse_long_texts: bool = False
    ) -> Operation[Classifier]:
        """Embeds the labels in every template."""
        prompts = yield from self.embed(
            [], prompts_for(labels, templates), Outputs(), refuse_long_texts=refuse_long_texts
        )
        return Classifier.build(labels, templates, prompts, (yield from self.known_info()))

    def classify(
        self,
        images: Sequence[ImageInput],
        labels: Sequence[str],
        templates: Sequence[str],
        framing: ImageFraming | None,
        refuse_long_texts: bool,
    ) -> Operation[list[Classification]]:
        """Embeds the labels and the images, and scores every image."""
        classifier = yield from self.classifier(labels, templates, refuse_long_texts)
        embeddings = yield from self.embed(images, [], Outputs(), framing)
        return [classifier.score(image) for image in embeddings]

    def list_concepts(
        self, page_size: int, page_token: str, active_only: bool
    ) -> Operation[ConceptPage]:
        """Asks for one page of concepts."""
        request = concepts_pb2.ListConceptsRequest(
            model=self._selector,
            page_size=page_size,
            page_token=page_token,
            active_only=active_only,
        )
        reply = yield from call_method(LIST_CONCEPTS, request)
        return ConceptPage(
            concepts=tuple(concept_from_proto(entry) for entry in reply.concepts),
            next_page_token=reply.next_page_token,
            total=reply.total,
        )

    def get_concept(self, key: ConceptKey) -> Operation[Concept]:
        """Asks for one concept by id or exact name."""
        request = concepts_pb2.GetConceptRequest(
            model=self._selector, concept=concept_key_to_proto(key)
        )
        return concept_from_proto((yield from call_method(GET_CONCEPT, request)).concept)

    def search_concepts(self, query: str, limit: int) -> Operation[ConceptMatches]:
        """Asks for the concepts that a word or phrase activates or names, best first."""
        request = concepts_pb2.SearchConceptsRequest(model=self._selector, query=query, limit=limit)
        reply = yield from call_method(SEARCH_CONCEPTS, request)
        return ConceptMatches(
            items=tuple(
                ConceptMatch(
                    concept=concept_from_proto(match.concept),
                    activation=match.activation,
                    name_match=match.name_match,
                )
                for match in reply.matches
            ),
            coverage=coverage_from_proto(reply.coverage),
        )

    def chat(
        self, messages: Sequence[ChatMessage], sampling: ChatSampling
    ) -> Operation[MethodCall]:
        """The one call of a conversation, which is answered with a stream of events."""
        has_images = any(message.images for message in messages)
        info = (yield from self.known_info()) if has_images else None
        return MethodCall(CHAT, chat_request(self._selector, messages, sampling, info))

    def explain(
        self,
        image: ImageInput,
        keys: Sequence[ConceptKey],
        top_concepts: int,
        overlay: bool,
        framing: ImageFraming | None,
        captions: int,
    ) -> Operation[Explanation]:
        """Asks where concepts fire in one image."""
        item = image_item(image, 0)
        info = yield from self.known_info()
        try:
            data = read_image(image, info, framing)
        except ItemError as error:
            raise CallError(error.status.code, error.status.message) from None
        request = concepts_pb2.ExplainImageRequest(
            model=self._selector,
            image=data,
            concepts=[concept_key_to_proto(key) for key in keys],
            top_concepts=top_concepts,
            overlay=overlay,
            framing=framing_to_proto(framing),
            captions=captions,
        )
        reply = yield from call_method(EXPLAIN_IMAGE, request)
        return explanation_from_proto(reply, source=item.source)
