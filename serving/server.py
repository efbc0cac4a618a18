"""The server: build it, drain it, close it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2_grpc

from serving.auth.tokens import Authenticator, TokenFile
from serving.chat.load_chat_model import check_chat_engine
from serving.core.config import ServerConfig
from serving.core.errors import StartupError
from serving.core.metrics import Metrics, MetricsServer
from serving.engine_plans.open_engine import open_engine
from serving.engines.base import EngineFactory
from serving.models.load_failure import LOAD_ERRORS, load_failure
from serving.models.registry import Registry
from serving.rpc.grpc_server import create_server
from serving.rpc.health import HealthService
from serving.rpc.interceptors.call_admission import CallAdmission
from serving.rpc.interceptors.chain import Chain, HeaderCheck
from serving.rpc.interceptors.error_sanitizer import ErrorSanitizer
from serving.rpc.listener import bind, channel_options
from serving.rpc.open_inference import open_inference_pb2_grpc
from serving.rpc.open_inference.service import (
    INFERENCE_SERVICE,
    MODEL_INFER,
    OpenInferenceService,
)
from serving.rpc.services.admin import AdminService
from serving.rpc.services.chat import ChatService
from serving.rpc.services.concepts import ConceptService
from serving.rpc.services.embedding import EMBED, EmbeddingService
from sparseclip.v1 import admin_pb2_grpc, chat_pb2_grpc, concepts_pb2_grpc, embedding_pb2_grpc

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from serving.core.open_telemetry import Tracer
    from serving.http.listener import HttpListener
    from serving.studio.gallery_reader import GalleryReader

log = logging.getLogger(__name__)

CHAT_SERVICE = "sparseclip.v1.ChatService"
PUBLIC_SERVICES = (
    "sparseclip.v1.EmbeddingService",
    "sparseclip.v1.ConceptService",
    CHAT_SERVICE,
    INFERENCE_SERVICE,
)
ADMIN_SERVICES = ("sparseclip.v1.AdminService",)

_FLUSH_S = 1.0
"""Time for gRPC to send the replies that are written when the last call has ended."""


class Server:
    """Everything that runs for one configuration."""

    def __init__(self, config: ServerConfig, engine_factory: EngineFactory) -> None:
        self.config = config
        self.metrics = Metrics()
        self.admission = CallAdmission(config.limits, self.metrics)
        # Its own: an operator is let in when callers hold every slot of the public port.
        self._admin_admission = CallAdmission(
            replace(config.limits, calls_in_flight=config.limits.admin_calls_in_flight),
            self.metrics,
        )
        self.registry = Registry(config, self.metrics, engine_factory, self._update_health)
        self.address = ""
        """The address of the public services, as a client takes it."""
        self.admin_address: str | None = None
        self.metrics_address: str | None = None
        self.http_address: str | None = None
        """The address of the HTTP door, for a browser."""
        self.http_app: ASGIApp | None = None
        """What answers there."""
        self._health_services: list[HealthService] = []
        self._grpc_servers: list[grpc.aio.Server] = []
        """One for each port."""
        self._sanitizer = ErrorSanitizer(self.metrics)
        self._tracer = _tracer(config)
        self._metrics_server: MetricsServer | None = None
        self._http: HttpListener | None = None
        self._gallery: GalleryReader | None = None

    async def start(self) -> None:
        """Listens, answers health checks, loads the model, and then admits calls.

        A front end loads before it listens: the others answer what comes until then. Raises
        StartupError; close() then frees what was started.
        """
        config = self.config
        await asyncio.get_running_loop().run_in_executor(None, check_chat_engine, config)
        path = config.bundle_path
        if config.front_ends:
            await self._load(path)
        await self._listen()
        if not config.front_ends:
            await self._load(path)
        if self._gallery is not None:
            self._gallery.check_model()
        self.admission.open()
        self._admin_admission.open()
        self._update_health()
        log.info("serving on %s", self.address)

    async def _listen(self) -> None:
        config = self.config
        tokens = TokenFile(Path(config.tokens), self.metrics) if config.tokens else None
        embedding = EmbeddingService(
            self.registry, config.limits, self.metrics, self.admission.draining
        )
        checks = dict.fromkeys((EMBED, MODEL_INFER), embedding.check_headers)
        chain = self._chain(self.admission, tokens, checks)
        public = self._add_port(PUBLIC_SERVICES, chain)
        embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(embedding, public)  # type: ignore[no-untyped-call]
        concepts = ConceptService(self.registry, config.limits)
        concepts_pb2_grpc.add_ConceptServiceServicer_to_server(concepts, public)  # type: ignore[no-untyped-call]
        chat = ChatService(self.registry, config.limits, self.metrics)
        chat_pb2_grpc.add_ChatServiceServicer_to_server(chat, public)  # type: ignore[no-untyped-call]
        inference = OpenInferenceService(
            self.registry, config, self.metrics, self.admission, self._sanitizer.sanitize
        )
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, public)  # type: ignore[no-untyped-call]
        self.address = bind(public, config, config.port, "port")
        if config.admin_port is not None:
            admin_chain = self._chain(self._admin_admission, tokens, {})
            admin_port = self._add_port(ADMIN_SERVICES, admin_chain)
            admin = AdminService(self.registry, self.admission)
            admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, admin_port)  # type: ignore[no-untyped-call]
            self.admin_address = bind(admin_port, config, config.admin_port, "admin_port")
        if config.metrics_port is not None:
            self._metrics_server = MetricsServer.start(
                self.metrics, config.host, config.metrics_port
            )
            self.metrics_address = f"{config.host}:{self._metrics_server.port}"
        if config.http_port is not None:
            await self._listen_http(config.http_port, chain, embedding, concepts, chat)
        for grpc_server in self._grpc_servers:
            await grpc_server.start()

    async def _listen_http(
        self,
        port: int,
        chain: Chain,
        embedding: EmbeddingService,
        concepts: ConceptService,
        chat: ChatService,
    ) -> None:
        try:
            from serving.http.application import http_application
            from serving.http.door import Services
            from serving.http.listener import HttpListener
            from serving.studio.open_gallery import open_gallery
            from serving.studio.routes import studio_routes
        except ModuleNotFoundError as error:
            hint = "pip install 'sparseclip[http]'"
            raise StartupError(f"http_port: needs the package {error.name}: {hint}") from None
        services = Services(
            chain=chain,
            embedding=embedding,
            concepts=concepts,
            chat=chat,
            registry=self.registry,
            limits=self.config.limits,
            metrics=self.metrics,
            is_serving=lambda: self.is_serving,
        )
        config = self.config
        self._gallery = open_gallery(config, self.registry)
        studio = studio_routes(services, self._gallery, self.address)
        self.http_app = http_application(services, config, self._sanitizer, studio)
        self._http = HttpListener(config, self.http_app)
        self.http_address = await self._http.start(port)
        self._gallery.start()

    async def _load(self, path: Path) -> None:
        try:
            model = await self.registry.open(path)
        except LOAD_ERRORS as error:
            raise load_failure(error, path) from None
        log.info("loaded %s %s", model.name, model.version)

    def _chain(
        self, admission: CallAdmission, tokens: TokenFile | None, checks: Mapping[str, HeaderCheck]
    ) -> Chain:
        limits = self.config.limits
        return Chain(
            Authenticator(tokens), admission, self._sanitizer, limits, checks, self._tracer
        )

    def _add_port(self, services: tuple[str, ...], chain: Chain) -> grpc.aio.Server:
        options = channel_options(self.config.limits, shared=self.config.front_ends > 0)
        server = create_server(options, chain)
        health = HealthService((*services, "grpc.health.v1.Health"))
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        if self.config.reflection:
            from serving.rpc.reflection import enable_reflection

            enable_reflection((*services, "grpc.health.v1.Health"), server)
        self._health_services.append(health)
        self._grpc_servers.append(server)
        return server

    @property
    def is_serving(self) -> bool:
        """Whether health says SERVING."""
        return self.admission.is_open and self.registry.healthy

    def _update_health(self) -> None:
        serving = self.is_serving
        self.metrics.serving.set(serving)
        for health in self._health_services:
            health.set_serving(serving, without=() if self.registry.has_chat else (CHAT_SERVICE,))

    async def drain(self) -> bool:
        """Stops admitting calls, and waits for those in flight.

        Health says NOT_SERVING at once. False when the calls took longer than `drain_s`.
        """
        admissions = self._stop_admitting()
        drain_s = self.config.limits.drain_s
        ended = all(await asyncio.gather(*(each.wait_until_empty(drain_s) for each in admissions)))
        if not ended:
            calls = sum(admission.calls for admission in admissions)
            log.warning("drain: %d calls are cut off", calls)
        return ended

    def _stop_admitting(self) -> tuple[CallAdmission, ...]:
        admissions = (self.admission, self._admin_admission)
        for admission in admissions:
            admission.drain()
        self._update_health()
        return admissions

    async def close(self) -> None:
        """Stops listening, cuts off the calls that are still in flight, and frees everything."""
        self._stop_admitting()
        http = [] if self._http is None else [self._http.close(_FLUSH_S)]
        await asyncio.gather(*(server.stop(_FLUSH_S) for server in self._grpc_servers), *http)
        if self._gallery is not None:
            await self._gallery.close()
        await self.registry.close()
        self._sanitizer.close()
        if self._metrics_server is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._metrics_server.close)
        if self._tracer is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._tracer.close)


def _tracer(config: ServerConfig) -> Tracer | None:
    """What traces calls, if anything does. Raises StartupError where its extra is missing."""
    if config.traces is None:
        return None
    try:
        from serving.core.open_telemetry import Tracer
    except ModuleNotFoundError:
        raise StartupError("traces: needs pip install 'sparseclip[tracing]'") from None
    return Tracer(config.traces, config.traces_share)


@asynccontextmanager
async def running(
    config: ServerConfig, engine_factory: EngineFactory = open_engine
) -> AsyncIterator[Server]:
    """A server that admits calls. It is closed, without draining, when the block ends.

    Raises StartupError.
    """
    server = Server(config, engine_factory)
    try:
        await server.start()
        yield server
    finally:
        await server.close()
