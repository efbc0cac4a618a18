"""What the server's tests share: samples, an engine with faults to inject, and the check after."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import io
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from bundle.store import Bundle
from serving.core.config import BatchConfig, ServerConfig
from serving.core.limits import LimitsConfig
from serving.engines.base import REFERENCE, Engine, EngineConfig
from serving.engines.onnxruntime_engine import OnnxRuntimeEngine
from serving.server import Server, running
from sparseclip import CallError
from sparseclip._connection import Connection
from sparseclip.v1 import embedding_pb2, embedding_pb2_grpc
from tests.serving.support.faulty_engine import FaultyEngine

EMBED = "/sparseclip.v1.EmbeddingService/Embed"
STREAM = "/sparseclip.v1.EmbeddingService/EmbedStream"


def encoded_image(seed: int = 0, size: tuple[int, int] = (40, 32), form: str = "PNG") -> bytes:
    """Noise as an encoded file."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, form)
    return out.getvalue()


def large_image(side: int = 3000) -> bytes:
    """A PNG of few bytes whose decoding takes a while. A JPEG would be decoded smaller."""
    small = Image.open(io.BytesIO(encoded_image(size=(60, 60))))
    out = io.BytesIO()
    small.resize((side, side), Image.Resampling.NEAREST).save(out, "PNG", compress_level=1)
    return out.getvalue()


PNG = encoded_image()


def embed_request(*images: bytes, texts: tuple[str, ...] = ()) -> embedding_pb2.EmbedRequest:
    """A call with images and texts, every output chosen."""
    inputs = [embedding_pb2.EmbedInput(image=data) for data in images]
    inputs += [embedding_pb2.EmbedInput(text=text) for text in texts]
    outputs = embedding_pb2.OutputSelection(sparse=True, dense=True, top_concepts=5)
    return embedding_pb2.EmbedRequest(inputs=inputs, outputs=outputs)


def config_for(bundle: Path, **changes: Any) -> ServerConfig:
    """A server on a free port, as small as it goes."""
    limits = dataclasses.replace(LimitsConfig(), **changes.pop("limits", {}))
    batch = dataclasses.replace(BatchConfig(), **changes.pop("batch", {}))
    settings: dict[str, Any] = {
        "bundle": str(bundle),
        "port": 0,
        "decode_workers": 1,
        "engine": dataclasses.replace(REFERENCE, threads=1, runs=1),
        "probe_s": 0.2,
    }
    return ServerConfig(limits=limits, batch=batch, **{**settings, **changes})


class Running:
    """A server with a channel to it and the faults of its engine."""

    def __init__(
        self, server: Server, engine: FaultyEngine, channel: grpc.aio.Channel, token: str | None
    ) -> None:
        self.server = server
        self.engine = engine
        self.channel = channel
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()
        """Headers of a caller who may embed."""
        self.stub: Any = embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]
        self.health: Any = health_pb2_grpc.HealthStub(channel)

    async def raw(self, path: str, data: bytes, **options: Any) -> bytes:
        """One unary call with bytes as they are."""
        reply: bytes = await self.channel.unary_unary(path)(data, **options)
        return reply

    async def serving(self, seconds: float = 5.0) -> bool:
        """What health says of the embedding service."""
        request = health_pb2.HealthCheckRequest(service="sparseclip.v1.EmbeddingService")
        reply = await self.health.Check(request, timeout=seconds)
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def gauges(self) -> dict[str, float]:
        """Every gauge that counts what is in flight."""
        names = (
            "sparseclip_calls_in_flight",
            "sparseclip_chats_in_flight",
            "sparseclip_calls_reading",
            "sparseclip_health_watches",
            "sparseclip_request_bytes_in_flight",
            "sparseclip_model_leases",
            "sparseclip_queued_items",
            "sparseclip_admitted_items",
            "sparseclip_decode_workers",
            "sparseclip_serving",
        )
        return {
            f"{sample.name}{sample.labels}": sample.value
            for metric in self.server.metrics.registry.collect()
            for sample in metric.samples
            if sample.name in names
        }

    async def golden(self) -> list[bytes]:
        """Outputs of a normal request, without what depends on time."""
        request = embed_request(PNG, texts=("a red circle",))
        reply = await self.stub.Embed(request, metadata=self.metadata, timeout=30)
        for result in reply.results:
            assert result.status.code == 0, result.status.message
            result.ClearField("timings")
        return [result.SerializeToString(deterministic=True) for result in reply.results]


@contextlib.asynccontextmanager
async def serving(
    bundle: Path,
    engines: list[FaultyEngine] | None = None,
    *,
    token: str | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    **changes: Any,
) -> AsyncIterator[Running]:
    """A running server and a client's channel to it; `engines` collects those it loads."""
    engines = [] if engines is None else engines

    def factory(opened: Bundle, config: EngineConfig, cores: int = 0) -> Engine:
        engines.append(FaultyEngine(OnnxRuntimeEngine.open(opened, config, cores)))
        return engines[-1]

    async with running(config_for(bundle, **changes), factory) as server:
        options = Connection(address=server.address).options()
        async with (
            grpc.aio.insecure_channel(server.address, options)
            if credentials is None
            else grpc.aio.secure_channel(server.address, credentials, options)
        ) as channel:
            try:
                yield Running(server, engines[0], channel, token)
            finally:
                for engine in engines:
                    engine.open.set()


@contextlib.asynccontextmanager
async def unharmed(running: Running) -> AsyncIterator[None]:
    """After the block the server is as it was: SERVING, the golden answer, its gauges."""
    answers, gauges = await running.golden(), running.gauges()
    yield
    assert await eventually(running.serving), "health is not back to SERVING"
    assert await eventually(lambda: running.gauges() == gauges), (gauges, running.gauges())
    assert await running.golden() == answers


async def survives(
    running: Running,
    fault: Callable[[], Awaitable[object]],
    repeats: int = 100,
    first: int = 10,
    growth: int = 16,
) -> None:
    """Repeats a fault and checks that the server is unharmed and has not grown by `growth` MiB.

    It may grow in the `first` repeats, while buffers are made that it keeps.
    """
    async with unharmed(running):
        before = 0
        for _ in range(first):
            await fault()
            before = max(before, resident())
        for _ in range(repeats):
            await fault()
        # gRPC frees a call's buffers a moment after its end, and this process is the client too.
        gc.collect()
        assert await eventually(lambda: resident() - before < growth * 2**20), (
            f"{(resident() - before) / 2**20:.1f} MiB more after {repeats} repeats"
        )


def resident() -> int:
    """Bytes that this process holds."""
    return int(psutil.Process().memory_info().rss)


async def eventually(condition: Callable[[], Any], seconds: float = 10.0) -> bool:
    """Whether a condition, awaitable or not, becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return True
        await asyncio.sleep(0.01)
    return False


async def refused(call: Awaitable[object]) -> CallError:
    """The error of a call that must fail, its text checked."""
    try:
        await call
    except grpc.RpcError as error:
        refusal = CallError.from_rpc(error)
        assert_clean(str(refusal))
        return refusal
    raise AssertionError("the call was not refused")


_DIRTY = (
    re.compile(r"0x[0-9a-fA-F]{4,}"),
    re.compile(r"(?:/[\w.-]+){2,}"),
    re.compile(r"\b\w+(?:Error|Exception)\b"),
    re.compile(r"Traceback|<class|\bgoogle\.|\bserving\.|\bbundle\."),
    re.compile(r"token-of-\w+"),
)


def assert_clean(text: str) -> None:
    """No address, path, class, trace or token."""
    for pattern in _DIRTY:
        assert not pattern.search(text), text


@contextlib.contextmanager
def blocked(running: Running) -> Iterator[None]:
    """Holds every run of the engine inside the block."""
    running.engine.entered.clear()
    running.engine.open.clear()
    try:
        yield
    finally:
        running.engine.open.set()
