"""A small gRPC server that follows a script: faults that the real server never shows on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from sparseclip.v1 import embedding_pb2, embedding_pb2_grpc, types_pb2

WIDTH = 16
Fault = Callable[[grpc.ServicerContext], None]


def abort(code: grpc.StatusCode, message: str, *details: Any) -> Fault:
    """A fault: the call ends with this code and these google.rpc details."""

    def fault(context: grpc.ServicerContext) -> None:
        packed = []
        for detail in details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        status = status_pb2.Status(code=code.value[0], message=message, details=packed)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, message)

    return fault


def retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    """RetryInfo with this delay."""
    whole = int(seconds)
    delay = duration_pb2.Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def code_of(content: bytes) -> tuple[list[int], list[float]]:
    """The scripted model: one concept for every distinct byte, its count the activation."""
    counts: dict[int, int] = {}
    for byte in content:
        counts[byte % WIDTH] = counts.get(byte % WIDTH, 0) + 1
    ids = sorted(counts)
    return ids, [float(counts[number]) for number in ids]


@dataclass
class Scripted(embedding_pb2_grpc.EmbeddingServiceServicer):
    """Answers by `code_of`; `faults` are used up first, one a call."""

    limits: embedding_pb2.Limits
    faults: list[Fault] = field(default_factory=list)
    version: str = "1"
    requests: list[embedding_pb2.EmbedRequest] = field(default_factory=list)
    streams: list[int] = field(default_factory=list)
    """How many items each stream has received so far."""
    break_streams_after: list[int] = field(default_factory=list)
    """How many items each of the next streams answers before it breaks."""
    end_early: bool = False
    """A broken stream ends in good order instead of with UNAVAILABLE."""
    calls: int = 0
    metadata: list[dict[str, str]] = field(default_factory=list)
    block_after: int | None = None
    """After this many items a stream's handler does nothing until its caller is gone."""
    blocked: threading.Event = field(default_factory=threading.Event)
    """A handler is blocked."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """The caller of a blocked handler has gone."""
    hold: bool = False
    """Streams receive, and never answer."""

    def _fault(self, context: grpc.ServicerContext) -> None:
        self.calls += 1
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        if self.faults:
            self.faults.pop(0)(context)

    def _model(self) -> types_pb2.ModelVersion:
        return types_pb2.ModelVersion(name="scripted", version=self.version)

    def GetModel(  # noqa: N802
        self, request: embedding_pb2.GetModelRequest, context: grpc.ServicerContext
    ) -> embedding_pb2.GetModelResponse:
        return embedding_pb2.GetModelResponse(
            model=self._model(),
            concepts=WIDTH * int(self.version),
            logit_scale=10.0,
            limits=self.limits,
        )

    def Embed(  # noqa: N802
        self, request: embedding_pb2.EmbedRequest, context: grpc.ServicerContext
    ) -> embedding_pb2.EmbedResponse:
        self._fault(context)
        self.requests.append(request)
        return embedding_pb2.EmbedResponse(
            model=self._model(), results=[self._answer(entry) for entry in request.inputs]
        )

    def EmbedStream(  # noqa: N802
        self,
        request_iterator: Iterator[embedding_pb2.EmbedStreamRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[embedding_pb2.EmbedStreamResponse]:
        self._fault(context)
        gone = threading.Event()

        def ended() -> None:
            gone.set()
            if self.block_after:  # such a call ends by being cancelled, maybe in front of the block
                self.cancelled.set()

        context.add_callback(ended)
        number = len(self.streams)
        self.streams.append(0)
        budget = self.break_streams_after.pop(0) if self.break_streams_after else None
        assert next(request_iterator).HasField("start")
        held: list[embedding_pb2.EmbedStreamRequest] = []
        for request in request_iterator:
            self.streams[number] += 1
            held.append(request)
            if self.hold:
                continue
            if budget is not None and self.streams[number] > budget:
                if self.end_early:
                    return
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken by the script")
            # Pairs are answered the wrong way round, as a server may.
            if len(held) == 2:
                yield from self._responses(reversed(held))
                held = []
            if self.streams[number] == self.block_after:
                self.blocked.set()
                gone.wait(10)
                return
        yield from self._responses(iter(held))

    def _responses(
        self, requests: Iterator[embedding_pb2.EmbedStreamRequest]
    ) -> Iterator[embedding_pb2.EmbedStreamResponse]:
        for request in requests:
            yield embedding_pb2.EmbedStreamResponse(
                model=self._model(), result=self._answer(request.input)
            )

    def _answer(self, entry: embedding_pb2.EmbedInput) -> embedding_pb2.EmbedResult:
        content = entry.image or entry.text.encode()
        if content == b"poison":
            status = status_pb2.Status(code=3, message="image: unsupported image")
            return embedding_pb2.EmbedResult(id=entry.id, status=status)
        ids, values = code_of(content)
        norm = sum(value * value for value in values) ** 0.5
        return embedding_pb2.EmbedResult(
            id=entry.id,
            sparse=types_pb2.SparseVector(indices=ids, values=values, norm=norm),
            active=len(ids),
        )


def start(
    service: Scripted, address: str, credentials: grpc.ServerCredentials | None = None
) -> tuple[grpc.Server, int]:
    """Serves the script at an address, with health; gives the server and its port."""
    server = grpc.server(ThreadPoolExecutor(8))
    embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server(service, server)
    checks = health.HealthServicer()
    checks.set("sparseclip.v1.EmbeddingService", health_pb2.HealthCheckResponse.SERVING)
    checks.set("asleep", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    if credentials is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    server.start()
    return server, port
