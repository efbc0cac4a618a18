"""`POST /v2/embed`: as Cohere's clients call it."""

from __future__ import annotations

import secrets
from typing import Any, Literal

from pydantic import Field
from starlette.routing import BaseRoute, Route

from serving.core.errors import invalid
from serving.http.body_model import StrictBody
from serving.http.door import Endpoint, Services
from serving.http.embedding_call import EmbeddingQuery, embedding_call
from serving.http.embedding_inputs import EmbeddingInputs
from serving.http.embedding_vectors import EmbeddingAnswer, forms_of
from serving.http.json_body import dump_list, dump_object
from serving.http.openai_chat_body import ImageAddress
from serving.http.system_routes import model_selector


class EmbedContentBody(StrictBody):
    """A text or a picture."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageAddress | None = None


class EmbedInputBody(StrictBody):
    """One input, of one part."""

    content: list[EmbedContentBody]


class CohereEmbedBody(StrictBody):
    """Texts or pictures, and in which form their vectors are wanted."""

    model: str = ""
    input_type: (
        Literal["search_document", "search_query", "classification", "clustering", "image"] | None
    ) = Field(None, description="Without effect: the model has one space for all.")
    texts: list[str] | None = None
    images: list[str] | None = Field(None, description="Data URIs.")
    inputs: list[EmbedInputBody] | None = None
    embedding_types: list[str] = Field(
        default_factory=lambda: ["float"], description="float, base64, sparse."
    )
    output_dimension: int | None = Field(None, description="Only the number that the model has.")
    truncate: Literal["END", "NONE"] = Field(
        "END", description="NONE: a text that is too long is an error."
    )
    priority: Literal[0] = 0


def cohere_routes(services: Services) -> list[BaseRoute]:
    """The route of Cohere's clients."""
    call = embedding_call(services, CohereEmbedBody, _query, _reply)
    return [Route("/v2/embed", Endpoint(services, lambda _: call), methods=["POST"])]


def _query(body: CohereEmbedBody) -> EmbeddingQuery:
    inputs = _inputs(body)
    forms = forms_of(body.embedding_types, "embedding_types")
    inputs.paths.add("outputs.sparse", "embedding_types")
    dimensions = ("output_dimension", body.output_dimension)
    return EmbeddingQuery(inputs=inputs, forms=forms, dimensions=dimensions)


def _inputs(body: CohereEmbedBody) -> EmbeddingInputs:
    given = [name for name in ("texts", "images", "inputs") if getattr(body, name) is not None]
    if len(given) != 1:
        raise invalid("texts", "give one of texts, images and inputs")
    inputs = EmbeddingInputs(model_selector(body.model))
    inputs.request.options.refuse_long_texts = body.truncate == "NONE"
    inputs.paths.add("inputs", given[0])
    for i, text in enumerate(body.texts or ()):
        inputs.add_text(text, f"texts[{i}]")
    for i, image in enumerate(body.images or ()):
        inputs.add_image(image, f"images[{i}]")
    for i, entry in enumerate(body.inputs or ()):
        _add_input(inputs, entry, f"inputs[{i}].content")
    return inputs


def _add_input(inputs: EmbeddingInputs, entry: EmbedInputBody, at: str) -> None:
    if len(entry.content) != 1:
        raise invalid(at, "must be one part: one input gives one vector")
    inputs.add_part(entry.content[0], f"{at}[0]")


def _reply(answer: EmbeddingAnswer, query: EmbeddingQuery) -> bytes:
    inputs = query.inputs
    warnings = [
        said
        for i, result in enumerate(answer.results)
        if (said := inputs.shortfall(i, result.coverage))
    ]
    meta: dict[str, Any] = {
        "api_version": {"version": "2"},
        "billed_units": {"input_tokens": answer.tokens, "images": inputs.images},
    }
    if warnings:
        meta["warnings"] = warnings
    vectors: dict[str, bytes] = {form: dump_list(entries) for form, entries in answer.forms.items()}
    fields = {
        "id": secrets.token_hex(16),
        "embeddings": dump_object(vectors),
        "texts": inputs.texts,
        "meta": meta,
        "sparseclip": {"model": answer.model, "vector": answer.vector},
    }
    return dump_object(fields)
