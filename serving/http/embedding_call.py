"""One request for vectors, whatever service's shape it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from serving.http.body_model import StrictBody
from serving.http.door import HttpCall, Services
from serving.http.embedding_inputs import EmbeddingInputs
from serving.http.embedding_vectors import EmbeddingAnswer, VectorForm, embed
from serving.http.native_routes import EMBED

Body = TypeVar("Body", bound=StrictBody)


@dataclass(frozen=True, kw_only=True)
class EmbeddingQuery:
    """What a body asks for."""

    inputs: EmbeddingInputs
    forms: Sequence[VectorForm]
    dimensions: tuple[str, int | None]
    """The field that names how many numbers a vector has, and its value."""


def embedding_call(
    services: Services,
    body: type[Body],
    query_of: Callable[[Body], EmbeddingQuery],
    reply: Callable[[EmbeddingAnswer, EmbeddingQuery], bytes],
) -> HttpCall:
    """The call of a route: `query_of` reads a body, and `reply` writes the answer."""

    def read(raw: bytes) -> EmbeddingQuery:
        return query_of(body.read(raw))

    async def run(query: EmbeddingQuery, context: Any) -> bytes:
        answer = await embed(
            services.registry,
            services.embedding,
            query.inputs,
            query.forms,
            query.dimensions,
            context,
        )
        return reply(answer, query)

    return HttpCall(
        method=EMBED,
        request_deserializer=read,
        response_serializer=bytes,
        unary_unary=run,
    )
