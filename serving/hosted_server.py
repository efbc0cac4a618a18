"""A server without a port of its own for callers: an ASGI application that another server hosts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.core.config import ServerConfig, load_config
from serving.core.errors import StartupError
from serving.server import Server, running

_FIXED = ("host", "port", "http_port", "admin_port", "socket", "tls", "metrics_port", "front_ends")
"""Settings that a hosted server cannot have: it is reached through its host alone."""


def hosted_config(settings: Mapping[str, Any]) -> ServerConfig:
    """The configuration of a hosted server: settings of `sparseclip serve` by their dotted names.

    Its own ports are free ones of the loopback. Raises StartupError, which names the setting.
    """
    for name in _FIXED:
        if any(key.split(".")[0] == name for key in settings):
            raise StartupError(f"{name}: a hosted server has no ports for callers")
    ports = {"host": "127.0.0.1", "port": 0, "http_port": 0}
    return load_config(None, {**settings, **ports})


class HostedServer:
    """A server as an ASGI application that lives as long as its host: see ASGI's lifespan."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._app: ASGIApp | None = None
        self.server: Server | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. Requests come when the lifespan has begun."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        async with AsyncExitStack() as stack:
            try:
                server = await stack.enter_async_context(running(self._config))
            except StartupError as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            self.server, self._app = server, server.http_app
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            await server.drain()
        await send({"type": "lifespan.shutdown.complete"})
