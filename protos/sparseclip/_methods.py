"""The methods of the wire contract, and what an operation yields to call one.

An operation is a generator: it yields the calls that it needs and is sent their replies. Client
drives it with blocking calls and AsyncClient with awaited ones, so both share every line of it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from sparseclip.v1 import chat_pb2, concepts_pb2, embedding_pb2

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
