"""Traces of calls for OpenTelemetry, sent to a collector by OTLP over HTTP (extra `tracing`).

A span holds names, counts, times and the status of a call. It never holds an image, a text, a name
that a caller chose, or a token. Spans have the attributes of OpenTelemetry's conventions for RPC.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.core.call_trace import CallTrace, Traced

_TRACES_PATH = "/v1/traces"
_FLUSH_MS = 2_000
"""How long spans may take to be sent, also when the server ends."""
_AT_FAULT = {"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "UNKNOWN"}
"""Statuses that are a server's errors by the conventions; the others are the caller's."""
_PARENT_HEADERS = ("traceparent", "tracestate")


class _SpanOfCall(CallTrace):
    def __init__(self, tracer: trace.Tracer, span: Span) -> None:
        self._tracer, self._span = tracer, span
        self._context = trace.set_span_in_context(span)
        # The loop's clock has no date.
        self._offset = time.time_ns() - int(asyncio.get_running_loop().time() * 1e9)
        self.code = "OK"
        self.message = ""

    def stage(
        self, name: str, started: float, ended: float, **attributes: str | int | float
    ) -> None:
        span = self._tracer.start_span(
            name, self._context, attributes=attributes, start_time=self._at(started)
        )
        span.end(self._at(ended))

    def end_with(self, code: str, message: str) -> None:
        self.code, self.message = code, message

    def _at(self, seconds: float) -> int:
        return self._offset + int(seconds * 1e9)


class Tracer:
    """Makes the traces of a server's calls, and sends them in a thread of its own."""

    def __init__(self, endpoint: str, share: float) -> None:
        """`endpoint` is the base address of a collector, such as http://localhost:4318. `share` is
        that of the traces which are recorded, in [0, 1]; a caller's own trace counts with the
        others, and is left out where the caller left it out."""
        some = TraceIdRatioBased(share)
        self._provider = TracerProvider(
            resource=Resource.create(
                {SERVICE_NAME: "sparseclip", SERVICE_VERSION: version("sparseclip")}
            ),
            # By default a caller could have all of its traces recorded.
            sampler=ParentBased(root=some, remote_parent_sampled=some),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(
            endpoint=endpoint.rstrip("/") + _TRACES_PATH, timeout=_FLUSH_MS / 1000
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sparseclip")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def call(
        self, method: str, headers: Iterable[tuple[str, str | bytes]], door: str
    ) -> Iterator[None]:
        """Traces the call that the block answers. `method` is `/package.Service/Method`; `door` is
        how the call came: grpc or http."""
        carrier = {
            key: value
            for key, value in headers
            if key in _PARENT_HEADERS and isinstance(value, str)
        }
        name = method.removeprefix("/")
        span = self._tracer.start_span(
            name,
            self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": name, "sparseclip.door": door},
        )
        if not span.is_recording():
            yield
            return
        traced = _SpanOfCall(self._tracer, span)
        try:
            with Traced(traced):
                yield
        except asyncio.CancelledError:
            traced.end_with("CANCELLED", "")
            raise
        finally:
            span.set_attribute("rpc.response.status_code", traced.code)
            if traced.code in _AT_FAULT:
                span.set_status(Status(StatusCode.ERROR, traced.message))
            span.end()

    def close(self) -> None:
        """Sends what is left, within two seconds."""
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()
