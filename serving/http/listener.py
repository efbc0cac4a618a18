"""The HTTP port: its socket, its encryption, its beginning and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from email.utils import formatdate

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from serving.core.config import ServerConfig
from serving.core.errors import StartupError
from serving.http.http_protocol import HttpProtocol
from serving.http.open_connections import OpenConnections
from serving.rpc.listener import check_tls

_BACKLOG = 1_024

# What it would log about is answered, and logged, by serving/http/guard.py.
logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)


class HttpListener:
    """Listens on the HTTP port, and answers by an application."""

    def __init__(self, config: ServerConfig, app: ASGIApp) -> None:
        self._config = config
        limits = config.limits
        self._uvicorn = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            http="h11",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=max(1, round(limits.connection_idle_s)),
            h11_max_incomplete_event_size=limits.metadata_bytes,
        )
        self._uvicorn.load()
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._clock: asyncio.Task[None] | None = None

    async def start(self, port: int) -> str:
        """Listens, and gives the address as `http://host:port`. Raises StartupError."""
        config = self._config
        with contextlib.suppress(OSError, ValueError):  # each connection takes a file
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        context = None if config.tls is None else _context(config)
        listening = _listen(config.host, port, shared=config.front_ends > 0)
        loop = asyncio.get_running_loop()
        self._clock = loop.create_task(self._keep_time())
        handshake_s = config.limits.handshake_s
        connections = OpenConnections(config.limits.http_connections)
        self._server = await loop.create_server(
            lambda: HttpProtocol(
                self._uvicorn,
                self._state,
                connections,
                patience_s=handshake_s,
                stall_s=config.limits.stream_stall_s,
            ),
            sock=listening,
            ssl=context,
            ssl_handshake_timeout=handshake_s if context else None,
            backlog=_BACKLOG,
        )
        host = f"[{config.host}]" if ":" in config.host else config.host
        scheme = "https" if context else "http"
        return f"{scheme}://{host}:{listening.getsockname()[1]}"

    async def close(self, seconds: float) -> None:
        """Stops listening, gives replies `seconds` to be sent, and cuts off what is left."""
        if self._clock is not None:
            self._clock.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            with contextlib.suppress(h11.LocalProtocolError):  # in the middle of what is not HTTP
                connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=seconds)
        for task in list(self._state.tasks):
            task.cancel()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=seconds)
        for connection in list(self._state.connections):
            with contextlib.suppress(AttributeError):
                connection.transport.abort()

    async def _keep_time(self) -> None:
        """Keeps the header Date true."""
        while True:
            self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            await asyncio.sleep(1)


def _listen(host: str, port: int, *, shared: bool) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio sends small writes at once only on a socket that says it is TCP's.
        listening = socket.socket(family, kind, protocol)
    except OSError:
        raise _cannot_listen(host, port) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)  # says now that another program has the port
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise _cannot_listen(host, port) from None
    return listening


def _cannot_listen(host: str, port: int) -> StartupError:
    return StartupError(f"http_port: {host} port {port}: cannot listen there: is it in use?")


def _context(config: ServerConfig) -> ssl.SSLContext:
    tls = config.tls
    assert tls is not None
    context = check_tls(tls)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
