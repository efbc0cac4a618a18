"""Traces of real calls, as a collector receives them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from serving.core.config import ServerConfig
from serving.core.errors import StartupError
from serving.server import running
from sparseclip.v1 import embedding_pb2, embedding_pb2_grpc
from tests.serving.http.support import encoded, web
from tests.serving.support.chat_requests import CHAT, question, replies
from tests.serving.support.running_server import PNG, config_for, embed_request, serving

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{CALLER}-01"
UNSAMPLED = f"00-{TRACE}-{CALLER}-00"
EMBED = "sparseclip.v1.EmbeddingService/Embed"
STAGES = ("decode", "queue", "run")
CLOCK_NS = 5_000_000
"""The loop's clock and that of dates are read one after the other."""
TEXT = "a text that belongs to nobody else"


class Collector:
    """What OpenTelemetry's collector does first: it takes spans over HTTP."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                collector.raw.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for raw in self.raw
            for resource in ExportTraceServiceRequest.FromString(raw).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def calls(self) -> list[Any]:
        return [span for span in self.spans if "/" in span.name]

    def below(self, call: Any) -> dict[str, Any]:
        return {span.name: span for span in self.spans if span.parent_span_id == call.span_id}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@contextlib.asynccontextmanager
async def traced(bundle: Path, collector: Collector, **changes: Any) -> AsyncIterator[Any]:
    """A server whose spans have all been sent when the block has ended, and its HTTP client."""
    async with web(bundle, traces=collector.address, **changes) as opened:
        yield opened


def attributes(span: Any) -> dict[str, Any]:
    return {
        entry.key: getattr(entry.value, entry.value.WhichOneof("value"))
        for entry in span.attributes
    }


async def test_a_call_is_a_span_below_its_caller_s_and_has_stages(
    tiny_bundle: Path, collector: Collector
) -> None:
    async with traced(tiny_bundle, collector) as opened:
        request = embed_request(PNG, texts=(TEXT,))
        await opened.running.stub.Embed(request, metadata=(("traceparent", PARENT),), timeout=30)
    (call,) = [span for span in collector.calls() if span.trace_id.hex() == TRACE]
    assert (call.name, call.parent_span_id.hex(), call.kind) == (EMBED, CALLER, 2)
    assert attributes(call)["rpc.response.status_code"] == "OK"
    assert attributes(call)["sparseclip.door"] == "grpc"
    stages = collector.below(call)
    names = {f"{graph} {stage}" for graph in ("image", "text") for stage in STAGES}
    assert set(stages) == names
    for graph in ("image", "text"):
        decode, queue, run = (stages[f"{graph} {stage}"] for stage in STAGES)
        # One after the other, inside the call.
        assert call.start_time_unix_nano <= decode.start_time_unix_nano + CLOCK_NS
        assert decode.end_time_unix_nano == queue.start_time_unix_nano
        assert queue.end_time_unix_nano == run.start_time_unix_nano
        assert run.end_time_unix_nano <= call.end_time_unix_nano + CLOCK_NS
        assert attributes(run) == {"sparseclip.batch.items": 1}


async def test_a_call_over_http_continues_its_caller_s_trace(
    tiny_bundle: Path, collector: Collector
) -> None:
    body = {"image": encoded(), "top_concepts": 3}
    async with traced(tiny_bundle, collector) as opened:
        opened.client.headers["traceparent"] = PARENT
        await opened.post("/v1/explain", body)
    (call,) = [span for span in collector.calls() if span.trace_id.hex() == TRACE]
    assert call.name == "sparseclip.v1.ConceptService/ExplainImage"
    assert attributes(call)["sparseclip.door"] == "http"
    assert {"patches decode", "patches queue", "patches run"} == set(collector.below(call))


async def test_an_answer_has_the_stages_of_a_chat(chat_bundle: Path, collector: Collector) -> None:
    async with serving(chat_bundle, traces=collector.address) as chatty:
        await replies(chatty, question())
    (span,) = [span for span in collector.calls() if span.name == CHAT.removeprefix("/")]
    stages = collector.below(span)
    assert {"chat prepare", "chat first token", "chat generate", "patches run"} <= set(stages)
    assert attributes(stages["chat generate"])["sparseclip.chat.tokens"] > 0


async def test_a_span_says_how_its_call_failed_and_whose_fault_it_was(
    tiny_bundle: Path, collector: Collector
) -> None:
    async with traced(tiny_bundle, collector) as opened:
        metadata = (("traceparent", PARENT),)
        with pytest.raises(grpc.aio.AioRpcError):
            await opened.running.stub.Embed(
                embedding_pb2.EmbedRequest(), metadata=metadata, timeout=30
            )
        opened.running.engine.open.clear()  # a run does not end
        with pytest.raises(grpc.aio.AioRpcError):
            await opened.running.stub.Embed(
                embed_request(texts=(TEXT,)), metadata=metadata, timeout=0.3
            )
        opened.running.engine.open.set()
        # The server's own deadline may pass a moment after its caller's.
        await asyncio.sleep(0.2)
    spans = [span for span in collector.calls() if span.trace_id.hex() == TRACE]
    refused, late = spans
    assert attributes(refused)["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert refused.status.code == 0  # the caller's fault
    assert attributes(late)["rpc.response.status_code"] in ("DEADLINE_EXCEEDED", "CANCELLED")


async def test_a_span_holds_nothing_of_what_was_sent(
    tiny_bundle: Path, collector: Collector
) -> None:
    async with traced(tiny_bundle, collector) as opened:
        request = embed_request(PNG, texts=(TEXT,))
        metadata = (("traceparent", PARENT), ("authorization", "Bearer secret-token"))
        await opened.running.stub.Embed(request, metadata=metadata, timeout=30)
    sent = b"".join(collector.raw)
    assert EMBED.encode() in sent
    for secret in (TEXT.encode(), PNG, b"secret-token", str(tiny_bundle).encode()):
        assert secret not in sent


async def test_a_trace_that_its_caller_left_out_is_left_out(
    tiny_bundle: Path, collector: Collector
) -> None:
    async with traced(tiny_bundle, collector) as opened:
        request = embed_request(PNG)
        await opened.running.stub.Embed(request, metadata=(("traceparent", UNSAMPLED),))
    assert all(span.trace_id.hex() != TRACE for span in collector.spans)


async def test_a_share_of_nothing_records_nothing_whatever_callers_say(
    tiny_bundle: Path, collector: Collector
) -> None:
    async with traced(tiny_bundle, collector, traces_share=0.0) as opened:
        await opened.running.stub.Embed(embed_request(PNG), metadata=(("traceparent", PARENT),))
    assert not collector.raw


async def test_health_checks_are_not_traced(tiny_bundle: Path, collector: Collector) -> None:
    async with traced(tiny_bundle, collector) as opened:
        assert await opened.running.serving()
    assert all("Health" not in span.name for span in collector.calls())


async def test_a_server_answers_and_ends_without_its_collector(tiny_bundle: Path) -> None:
    config = config_for(tiny_bundle, traces="http://127.0.0.1:9")
    async with running(config) as server, grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]
        reply = await stub.Embed(embed_request(PNG), timeout=30)
        assert reply.results[0].status.code == 0
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 10


@pytest.mark.parametrize("address", ["localhost:4318", "", "http://", "http:///v1", "file:///a"])
def test_an_address_is_http(address: str) -> None:
    with pytest.raises(StartupError, match="traces: must begin with http"):
        ServerConfig(traces=address)
