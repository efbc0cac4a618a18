"""F-27 and F-28: callers that leave, and readers that do not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from sparseclip.v1 import embedding_pb2
from tests.serving.support.calls_in_flight import assert_same, batcher, occupy, start
from tests.serving.support.running_server import (
    PNG,
    STREAM,
    blocked,
    embed_request,
    encoded_image,
    eventually,
    large_image,
    serving,
    unharmed,
)


@pytest.mark.parametrize("point", ["queue", "batch", "decode", "parse"])
async def test_f27_cancelled_calls_leave_no_trace(tiny_bundle: Path, point: str) -> None:
    async with serving(tiny_bundle) as running, unharmed(running):
        neighbours = [encoded_image(seed) for seed in range(1, 4)]
        alone = await running.stub.Embed(embed_request(*neighbours), timeout=30)
        big = large_image()
        for _ in range(5):
            with blocked(running):
                if point == "batch":
                    leaving = await occupy(running)
                elif point == "queue":
                    first = await occupy(running)
                    leaving = start(running, embed_request(*[PNG] * 8), timeout=60)
                    assert await eventually(lambda: len(batcher(running)._queue) == 8)
                elif point == "decode":
                    leaving = start(running, embed_request(big, big), timeout=60)
                    assert await eventually(lambda: batcher(running).admission.admitted == 2)
                else:
                    leaving = start(running, embed_request(*[big] * 4), timeout=60)
                    await asyncio.sleep(0)
                staying = start(running, embed_request(*neighbours), timeout=60)
                leaving.cancel()
                admitted = 4 if point == "queue" else 3
                assert await eventually(lambda n=admitted: batcher(running).admission.admitted == n)
            assert_same(await staying, alone)
            if point == "queue":
                await first


async def test_f27_a_stream_left_between_messages(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle) as running, unharmed(running):
        for _ in range(5):
            with blocked(running):
                call = running.stub.EmbedStream(timeout=60)
                await call.write(start_of_stream())
                await call.write(item("a"))
                assert await eventually(running.engine.entered.is_set)
                await call.write(item("b"))
                assert await eventually(lambda: batcher(running).admission.admitted == 2)
                call.cancel()
                assert await eventually(lambda: batcher(running).admission.admitted == 0)
                assert await eventually(lambda: running.server.admission.calls == 0)


def start_of_stream() -> embedding_pb2.EmbedStreamRequest:
    outputs = embedding_pb2.OutputSelection(sparse=True, dense=True)
    return embedding_pb2.EmbedStreamRequest(start=embedding_pb2.EmbedStreamStart(outputs=outputs))


def item(name: str, data: bytes = PNG) -> embedding_pb2.EmbedStreamRequest:
    return embedding_pb2.EmbedStreamRequest(input=embedding_pb2.EmbedInput(id=name, image=data))


async def test_f28_a_reader_that_never_reads(tiny_bundle: Path) -> None:
    limits = {"stream_window": 8, "stream_stall_s": 1.0}
    async with serving(tiny_bundle, limits=limits) as running, unharmed(running):
        # Ids as large as they may be make answers that fill the transport's window soon.
        sent = 0

        async def messages() -> AsyncIterator[bytes]:
            nonlocal sent
            yield start_of_stream().SerializeToString()
            while sent < 20_000:
                yield item(f"{sent:0256d}").SerializeToString()
                sent += 1

        options = [("grpc.http2.lookahead_bytes", 65_536), ("grpc.http2.bdp_probe", 0)]
        async with grpc.aio.insecure_channel(running.server.address, options) as channel:
            call = channel.stream_stream(STREAM)(messages(), timeout=60)
            assert await eventually(lambda: sent > 8)

            # Nobody reads, so no more is read, and then the call is ended.
            assert await eventually(lambda: running.server.admission.calls == 0, seconds=30)
            assert sent < 20_000
            assert len(running.engine.seen) < 2_000
            assert batcher(running).admission.admitted == 0
            call.cancel()
