"""`/openapi.json`: what the HTTP door offers, made of the models that read its bodies."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from google.protobuf.message import Message
from pydantic import BaseModel

from serving.http.cohere_embeddings import CohereEmbedBody
from serving.http.message_schemas import REF, message_schema
from serving.http.openai_chat_body import ChatCompletionBody
from serving.http.openai_embeddings import EmbeddingsBody
from serving.http.problems import PROBLEM_TYPE, TITLES
from sparseclip.v1 import concepts_pb2, embedding_pb2


@dataclass(frozen=True, kw_only=True)
class HttpOperation:
    """One method of one path."""

    path: str
    method: str
    summary: str
    body: type[BaseModel] | type[Message] | None = None
    reply: type[Message] | None = None
    query: tuple[tuple[str, str], ...] = ()
    """Names and types."""


_MODEL = (("model", "string"), ("version", "string"))
OPERATIONS = (
    HttpOperation(
        path="/v1/chat/completions",
        method="post",
        summary="Answer a conversation, whole or as a stream: OpenAI's route, with `steering`.",
        body=ChatCompletionBody,
    ),
    HttpOperation(
        path="/v1/embeddings",
        method="post",
        summary="Vectors of texts and pictures: OpenAI's route, with the pictures of infinity, "
        "vLLM and Jina.",
        body=EmbeddingsBody,
    ),
    HttpOperation(
        path="/v2/embed",
        method="post",
        summary="Vectors of texts and pictures: Cohere's route.",
        body=CohereEmbedBody,
    ),
    HttpOperation(
        path="/v1/embed",
        method="post",
        summary="Codes and dense vectors as over gRPC: `Embed`.",
        body=embedding_pb2.EmbedRequest,
        reply=embedding_pb2.EmbedResponse,
    ),
    HttpOperation(
        path="/v1/explain",
        method="post",
        summary="Where concepts fire in a picture: `ExplainImage`.",
        body=concepts_pb2.ExplainImageRequest,
        reply=concepts_pb2.ExplainImageResponse,
    ),
    HttpOperation(
        path="/v1/concepts/search",
        method="post",
        summary="Concepts for a word: `SearchConcepts`.",
        body=concepts_pb2.SearchConceptsRequest,
        reply=concepts_pb2.SearchConceptsResponse,
    ),
    HttpOperation(
        path="/v1/concepts",
        method="get",
        summary="Concepts page by page: `ListConcepts`.",
        reply=concepts_pb2.ListConceptsResponse,
        query=(
            ("page_size", "integer"),
            ("page_token", "string"),
            ("active_only", "boolean"),
            *_MODEL,
        ),
    ),
    HttpOperation(
        path="/v1/concepts/{concept}",
        method="get",
        summary="One concept by its id: `GetConcept`.",
        reply=concepts_pb2.GetConceptResponse,
        query=_MODEL,
    ),
    HttpOperation(path="/v1/models", method="get", summary="The models that are served."),
    HttpOperation(path="/v1/models/{model}", method="get", summary="One model that is served."),
    HttpOperation(path="/healthz", method="get", summary="Says ok while the process lives."),
    HttpOperation(path="/readyz", method="get", summary="Says ok while it answers, else 503."),
    HttpOperation(path="/health", method="get", summary="The same for clients of infinity."),
    HttpOperation(path="/models", method="get", summary="The models, for clients of infinity."),
    HttpOperation(path="/metrics", method="get", summary="Prometheus metrics."),
)


@functools.cache
def openapi() -> dict[str, Any]:
    """The description, by OpenAPI 3.1."""
    schemas: dict[str, Any] = {"Problem": _problem_schema()}
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sparseclip", "version": version("sparseclip")},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(operation: HttpOperation, schemas: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"summary": operation.summary, "parameters": _parameters(operation)}
    if operation.body is not None:
        content = {"application/json": {"schema": _schema(operation.body, schemas)}}
        described["requestBody"] = {"required": True, "content": content}
    reply: dict[str, Any] = {"description": "The answer"}
    if operation.reply is not None:
        schema = message_schema(operation.reply.DESCRIPTOR, schemas)
        reply["content"] = {"application/json": {"schema": schema}}
    problem = {PROBLEM_TYPE: {"schema": {"$ref": f"{REF}Problem"}}}
    described["responses"] = {
        "200": reply,
        "default": {"description": "What went wrong", "content": problem},
    }
    return described


def _parameters(operation: HttpOperation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "schema": {"type": kind}} for name, kind in operation.query
    ]
    for part in operation.path.split("/"):
        if part.startswith("{"):
            kind = "integer" if part == "{concept}" else "string"
            path = {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": kind}}
            parameters.append(path)
    return parameters


def _schema(body: type[BaseModel] | type[Message], schemas: dict[str, Any]) -> dict[str, Any]:
    if not issubclass(body, BaseModel):
        return message_schema(body.DESCRIPTOR, schemas)
    schema = body.model_json_schema(ref_template=REF + "{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[body.__name__] = schema
    return {"$ref": f"{REF}{body.__name__}"}


def _problem_schema() -> dict[str, Any]:
    texts = {"type": "string"}
    return {
        "type": "object",
        "properties": {
            "type": texts,
            "title": {"type": "string", "enum": list(TITLES.values())},
            "status": {"type": "integer", "enum": list(TITLES)},
            "detail": texts,
            "field": {"type": "string", "description": "The field of the request at fault."},
            "retry_after": {"type": "number", "description": "Seconds."},
            "error": {"type": "object", "description": "The same for clients of OpenAI."},
            "message": {"type": "string", "description": "The same for clients of Cohere."},
        },
    }
