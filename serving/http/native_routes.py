"""The routes that speak the JSON of the wire contract's own messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from serving.core.errors import invalid
from serving.http.door import Endpoint, HttpCall, Services
from serving.http.json_body import dump_json, load_json
from serving.http.json_messages import fill, shown, to_json
from sparseclip.v1 import concepts_pb2, embedding_pb2

EMBED = "/sparseclip.v1.EmbeddingService/Embed"
CONCEPTS = "/sparseclip.v1.ConceptService"


def native_routes(services: Services) -> list[BaseRoute]:
    """The routes of embeddings, concepts and explanations."""
    concepts, embedding = services.concepts, services.embedding
    posts: list[tuple[str, str, type[Message], Any]] = [
        ("/v1/embed", EMBED, embedding_pb2.EmbedRequest, embedding.Embed),
        (
            "/v1/concepts/search",
            f"{CONCEPTS}/SearchConcepts",
            concepts_pb2.SearchConceptsRequest,
            concepts.SearchConcepts,
        ),
        (
            "/v1/explain",
            f"{CONCEPTS}/ExplainImage",
            concepts_pb2.ExplainImageRequest,
            concepts.ExplainImage,
        ),
    ]
    routes: list[BaseRoute] = [
        Route(path, Endpoint(services, _post(method, message, handler)), methods=["POST"])
        for path, method, message, handler in posts
    ]
    listing = _get(f"{CONCEPTS}/ListConcepts", _list_request, concepts.ListConcepts)
    one = _get(f"{CONCEPTS}/GetConcept", _get_request, concepts.GetConcept)
    return [
        *routes,
        Route("/v1/concepts", Endpoint(services, listing), methods=["GET"]),
        Route("/v1/concepts/{concept}", Endpoint(services, one), methods=["GET"]),
    ]


def _post(
    method: str, message: type[Message], handler: Callable[[Any, Any], Awaitable[Any]]
) -> Callable[[Request], HttpCall]:
    def read(raw: bytes) -> Message:
        request = message()
        fill(request, load_json(raw))
        return request

    return lambda _: HttpCall(
        method=method,
        request_deserializer=read,
        response_serializer=_write,
        unary_unary=handler,
    )


def _get(
    method: str,
    make: Callable[[Request], Message],
    handler: Callable[[Any, Any], Awaitable[Any]],
) -> Callable[[Request], HttpCall]:
    return lambda request: HttpCall(
        method=method,
        request_deserializer=lambda _: make(request),
        response_serializer=_write,
        unary_unary=handler,
    )


def _write(message: Message) -> bytes:
    return dump_json(to_json(message))


def _list_request(request: Request) -> Message:
    query = query_of(request, ("page_size", "page_token", "active_only", "model", "version"))
    message = concepts_pb2.ListConceptsRequest()
    active_only = query.pop("active_only", "false")
    if active_only not in ("true", "false"):
        raise invalid("active_only", "must be true or false")
    fill(message, {**_selector(query), "active_only": active_only == "true"})
    return message


def _get_request(request: Request) -> Message:
    concept: str = request.path_params["concept"]
    if not (concept.isascii() and concept.isdigit()):
        raise invalid("concept", "must be the id of a concept, a number")
    message = concepts_pb2.GetConceptRequest()
    fill(message, _selector(query_of(request, ("model", "version"))))
    fill(message.concept, {"concept_id": concept}, "concept")
    return message


def _selector(query: dict[str, str]) -> dict[str, Any]:
    """The query with the model's name and version as the contract has them."""
    name, version = query.pop("model", ""), query.pop("version", "")
    return {**query, "model": {"name": name, "version": version}}


def query_of(request: Request, names: Iterable[str]) -> dict[str, str]:
    """The query of an address. Raises ServingError for a name that is unknown, or there twice."""
    query: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in names:
            raise invalid(shown(name), "there is no such parameter")
        if name in query:
            raise invalid(name, "appears twice")
        query[name] = value
    return query
