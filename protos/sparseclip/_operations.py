"""What each method of the client does, without any I/O of its own: as operations."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from sparseclip._arguments import unicode_text, whole_number
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
from sparseclip._image_files import ImageInput, is_pixels, read_image
from sparseclip._image_pixels import ModelResize
from sparseclip._items import (
    Outputs,
    PreparedItem,
    image_item,
    items_from,
    prepare_item,
)
from sparseclip._methods import (
    CHAT,
    EMBED,
    EXPLAIN_IMAGE,
    GET_CONCEPT,
    GET_MODEL,
    LIST_CONCEPTS,
    SEARCH_CONCEPTS,
    MethodCall,
    Operation,
    call_method,
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
from sparseclip.results import Embedding, Embeddings, ImageFraming, ModelVersion, Priority
from sparseclip.v1 import concepts_pb2, embedding_pb2, types_pb2

REPLACEMENTS = 3
"""How often work is done again because another version became current under it."""

_REMEMBERED = 8
"""Versions whose shapes are remembered."""


class Operations:
    """The operations on one model of a server. Remembers the model's shapes and the limits."""

    def __init__(self, model: str, version: str) -> None:
        self._selector = types_pb2.ModelSelector(name=model, version=version)
        self._infos: dict[ModelVersion, ModelInfo] = {}
        """The versions that have answered, the last one last. A stream may still be answered by one
        that the server no longer describes."""

    def model_info(self) -> Operation[ModelInfo]:
        """Asks for the model's shapes and the server's limits."""
        return (yield from self._describe(self._selector))

    def known_info(self) -> Operation[ModelInfo]:
        """The model's shapes and the server's limits; asks only if nobody has asked before."""
        if self._infos:
            return next(reversed(self._infos.values()))
        return (yield from self.model_info())

    def info_for_outputs(self, outputs: Outputs) -> Operation[ModelInfo]:
        """The model's shapes, by which `outputs` are chosen. What was known may be out of date, and
        a choice that the current model does not have would be refused."""
        if outputs.dense and outputs.sparse is None:
            return (yield from self.model_info())
        return (yield from self.known_info())

    def info_for(self, answered_by: types_pb2.ModelVersion) -> Operation[ModelInfo]:
        """The shapes of the model that answered, since another version may have become current."""
        version = model_version_from_proto(answered_by)
        if version in self._infos:
            return self._infos[version]
        info = yield from self._describe(
            types_pb2.ModelSelector(name=version.name, version=version.version)
        )
        if info.model != version:
            raise CallError(grpc.StatusCode.INTERNAL, "the server described another model")
        return info

    def _describe(self, selector: types_pb2.ModelSelector) -> Operation[ModelInfo]:
        request = embedding_pb2.GetModelRequest(model=selector)
        return self._remember(model_info_from_proto((yield from call_method(GET_MODEL, request))))

    def _remember(self, info: ModelInfo) -> ModelInfo:
        self._infos.pop(info.model, None)
        self._infos[info.model] = info
        if len(self._infos) > _REMEMBERED:
            del self._infos[next(iter(self._infos))]
        return info

    def embed(
        self,
        images: Sequence[ImageInput],
        texts: Sequence[str],
        outputs: Outputs,
        framing: ImageFraming | None = None,
        refuse_long_texts: bool = False,
        priority: Priority | None = None,
    ) -> Operation[Embeddings]:
        """Embeds any number of items, in as many calls as the server's limits require."""
        options = input_options_to_proto(framing, refuse_long_texts, priority)
        items = items_from(images, texts)
        info = yield from self.info_for_outputs(outputs)
        start = self.stream_start(outputs, info, options)
        embeddings: list[Embedding] = []
        # A generator reads `info` anew for each item.
        prepared = (prepare_item(item, info, framing, n) for n, item in enumerate(items))
        for batch in split_into_batches(prepared, info.limits):
            current, answers = yield from self._embed_batch(batch, start, info)
            for _ in range(REPLACEMENTS):
                if not _reads_other_pixels(batch, info, current, framing):
                    break
                info = current
                again = [
                    prepare_item(sent.item, info, framing, sent.position)
                    if is_pixels(sent.item.image)
                    else sent
                    for sent in batch
                ]
                current, answers = yield from self._embed_batch(again, start, info)
            info = current
            embeddings += answers
        return Embeddings(items=tuple(embeddings))

    def _embed_batch(
        self, batch: list[PreparedItem], start: embedding_pb2.EmbedStreamStart, info: ModelInfo
    ) -> Operation[tuple[ModelInfo, list[Embedding]]]:
        """The model that answered, and its answers. `info` is what the batch was prepared for."""
        messages = [prepared.message for prepared in batch if prepared.message is not None]
        if not messages:
            return info, [prepared.failure() for prepared in batch]
        request = embedding_pb2.EmbedRequest(
            model=start.model, inputs=messages, outputs=start.outputs, options=start.options
        )
        reply = yield from call_method(EMBED, request, announce(request))
        info = self._remember((yield from self.info_for(reply.model)))
        if [result.id for result in reply.results] != [message.id for message in messages]:
            raise CallError(grpc.StatusCode.INTERNAL, "the reply's results do not fit the items")
        results = iter(reply.results)
        return info, [
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
        texts = prompts_for(labels, templates)
        for _ in range(REPLACEMENTS):
            prompts = yield from self.embed(
                [], texts, Outputs(), refuse_long_texts=refuse_long_texts
            )
            models = {prompt.model for prompt in prompts if prompt.model is not None}
            if len(models) < 2:
                break
        info = self._infos.get(models.pop()) if models else None
        return Classifier.build(labels, templates, prompts, info or (yield from self.known_info()))

    def classify(
        self,
        images: Sequence[ImageInput],
        labels: Sequence[str],
        templates: Sequence[str],
        framing: ImageFraming | None,
        refuse_long_texts: bool,
    ) -> Operation[list[Classification]]:
        """Embeds the labels and the images, and scores every image."""
        for _ in range(REPLACEMENTS):
            classifier = yield from self.classifier(labels, templates, refuse_long_texts)
            embeddings = yield from self.embed(images, [], Outputs(), framing)
            if all(image.model in (None, classifier.model) for image in embeddings):
                break
        return [classifier.score(image) for image in embeddings]

    def list_concepts(
        self, page_size: int, page_token: str, active_only: bool
    ) -> Operation[ConceptPage]:
        """Asks for one page of concepts."""
        request = concepts_pb2.ListConceptsRequest(
            model=self._selector,
            page_size=whole_number(page_size, "page_size"),
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
        request = concepts_pb2.SearchConceptsRequest(
            model=self._selector,
            query=unicode_text(query, "query"),
            limit=whole_number(limit, "limit"),
        )
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
        # What was known may be out of date, and no reply says so before the images are sent.
        info = (yield from self.model_info()) if has_images else None
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
        info = yield from self.model_info()  # what was known may be out of date
        try:
            data = read_image(image, info, framing)
        except ItemError as error:
            raise CallError(error.status.code, error.status.message) from None
        request = concepts_pb2.ExplainImageRequest(
            model=self._selector,
            image=data,
            concepts=[concept_key_to_proto(key) for key in keys],
            top_concepts=whole_number(top_concepts, "top_concepts"),
            overlay=bool(overlay),
            framing=framing_to_proto(framing),
            captions=whole_number(captions, "captions"),
        )
        reply = yield from call_method(EXPLAIN_IMAGE, request)
        return explanation_from_proto(reply, source=item.source)


def _reads_other_pixels(
    batch: Sequence[PreparedItem], info: ModelInfo, current: ModelInfo, framing: ImageFraming | None
) -> bool:
    """Whether images in memory were resized for another model than the one that answered."""
    return ModelResize.of(info, framing) != ModelResize.of(current, framing) and any(
        is_pixels(prepared.item.image) for prepared in batch
    )
