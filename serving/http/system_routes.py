"""What operators and their tools ask: is it alive, is it ready, what does it measure; and the
models that it serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from serving.core.errors import ErrorKind, ServingError
from serving.core.requests import ModelSelector
from serving.http.door import Endpoint, HttpCall, Services, identify
from serving.http.embedding_vectors import vector_of
from serving.http.json_body import dump_json
from serving.http.json_messages import to_json
from serving.http.native_routes import query_of
from serving.models.loaded_model import ServedModel
from serving.models.loaded_version import VersionState
from serving.rpc.convert.embedding import model_response

GET_MODEL = "/sparseclip.v1.EmbeddingService/GetModel"
METRICS = "/http/metrics"


def system_routes(services: Services) -> list[BaseRoute]:
    """The routes of health, metrics and models."""

    async def alive(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(request: Request) -> Response:
        check_ready(services)
        return PlainTextResponse("ok\n")

    async def metrics(request: Request) -> Response:
        identify(services, request, METRICS)
        content = generate_latest(services.metrics.registry)
        return Response(content, media_type=CONTENT_TYPE_LATEST)

    def models(request: Request) -> HttpCall:
        wanted: str | None = request.path_params.get("model")

        async def answer(_: Any, context: Any) -> Any:
            entries = _models(services)
            if wanted is None:
                return {"object": "list", "data": entries}
            for entry in entries:
                if entry["id"] == wanted:
                    return entry
            raise ServingError(ErrorKind.NOT_FOUND, "this model is not loaded", field="model")

        return model_call(request, answer)

    return [
        Route("/healthz", alive, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        Route("/v1/models", Endpoint(services, models), methods=["GET"]),
        Route("/v1/models/{model}", Endpoint(services, models), methods=["GET"]),
    ]


def model_call(request: Request, answer: Callable[[Any, Any], Awaitable[Any]]) -> HttpCall:
    """A call about models, whose address has no parameters and whose answer is JSON."""
    return HttpCall(
        method=GET_MODEL,
        request_deserializer=lambda _: query_of(request, ()),
        response_serializer=dump_json,
        unary_unary=answer,
    )


def check_ready(services: Services) -> None:
    """Raises ServingError unless health says SERVING."""
    if not services.is_serving():
        raise ServingError(ErrorKind.UNAVAILABLE, "the server is not ready")


def _models(services: Services) -> list[dict[str, Any]]:
    """OpenAI's list: the current version of each model by its name, the default model first, and
    all versions as `name@version`."""
    registry = services.registry
    statuses = [s for s in registry.versions() if s.state is VersionState.SERVING]
    statuses.sort(key=lambda status: not status.is_default)
    entries = []
    for name in dict.fromkeys(status.id.name for status in statuses):
        with registry.lease(ModelSelector(name=name)) as model:
            entries.append(_entry(name, model, services))
    for status in statuses:
        selector = ModelSelector(name=status.id.name, version=status.id.version)
        with registry.lease(selector) as model:
            id = f"{status.id.name}@{status.id.version}"
            entries.append(_entry(id, model, services))
    return entries


def _entry(id: str, model: ServedModel, services: Services) -> dict[str, Any]:
    vector, dimensions = vector_of(model.architecture)
    return {
        "id": id,
        "object": "model",
        "created": 0,
        "owned_by": "sparseclip",
        "embedding": {"vector": vector, "dimensions": dimensions},
        "sparseclip": to_json(model_response(model, services.limits)),
    }


def model_selector(id: str) -> ModelSelector:
    """The model that an id of the list names; an empty one means the default, as does what the
    client of infinity says by default."""
    if id == "default/not-specified":
        id = ""
    name, _, version = id.partition("@")
    return ModelSelector(name=name, version=version)
