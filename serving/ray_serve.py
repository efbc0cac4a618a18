"""Replicas of the server on a Ray cluster: Ray Serve shares out HTTP requests and scales by them.

    serve run deploy/ray/serve.yaml

Each replica is a whole server with a model, limits and quotas of its own. It answers what its HTTP
port would.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve
from starlette.types import ASGIApp

from serving.hosted_server import HostedServer, hosted_config


@serve.deployment(name="sparseclip")
@serve.ingress()
class Replica:
    """A server in a process of a Ray cluster."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._hosted = HostedServer(hosted_config(settings))

    def __serve_build_asgi_app__(self) -> ASGIApp:  # noqa: PLW3201  # Ray's name
        return self._hosted

    async def check_health(self) -> None:
        """Ray replaces a replica whose model is out of service for long."""
        server = self._hosted.server
        if server is not None and not server.is_serving:
            await asyncio.sleep(server.config.probe_s)
            if not server.is_serving:
                raise RuntimeError("the model is out of service")


def application(settings: dict[str, Any]) -> serve.Application:
    """What `serve run` starts; `settings` are the `args` of its YAML file. Raises StartupError."""
    hosted_config(settings)  # says what is wrong before a replica starts
    return Replica.bind(settings)  # type: ignore[attr-defined,no-any-return]  # made by Ray
