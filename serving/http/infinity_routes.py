"""What clients of infinity ask beside vectors: whether the server is ready, and its models."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serving.core.requests import ModelSelector
from serving.http.door import Endpoint, HttpCall, Services
from serving.http.json_body import JSON_TYPE, dump_json
from serving.http.system_routes import check_ready, model_call
from serving.models.loaded_version import VersionState


def infinity_routes(services: Services) -> list[BaseRoute]:
    """The routes of infinity that no other service has."""

    async def health(request: Request) -> Response:
        check_ready(services)
        return Response(dump_json({"unix": time.time()}), media_type=JSON_TYPE)

    async def answer(_: Any, context: Any) -> Any:
        return {"object": "list", "data": _models(services)}

    def models(request: Request) -> HttpCall:
        return model_call(request, answer)

    return [
        Route("/health", health, methods=["GET"]),
        Route("/models", Endpoint(services, models), methods=["GET"]),
    ]


def _models(services: Services) -> list[dict[str, Any]]:
    """The current version of each model."""
    registry = services.registry
    names = [s.id.name for s in registry.versions() if s.state is VersionState.SERVING]
    entries = []
    for name in dict.fromkeys(names):
        with registry.lease(ModelSelector(name=name)) as model:
            pending = sum(batcher.admission.admitted for batcher in model.batchers.values())
            entry = {
                "id": name,
                "object": "model",
                "created": 0,
                "owned_by": "infinity",  # its client takes no other
                "backend": "sparseclip",
                "capabilities": ["embed", "image_embed"],
                "stats": {"results_pending": pending},
            }
            entries.append(entry)
    return entries
