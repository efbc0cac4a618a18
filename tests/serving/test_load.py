"""F-09 and F-23 to F-29: more work than fits, callers that leave, items that break a run."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from sparseclip.v1 import embedding_pb2
from tests.serving.harness import (
    PNG,
    STREAM,
    Running,
    blocked,
    embed_request,
    eventually,
    large_picture,
    picture,
    refused,
    serving,
    unharmed,
)

Call = asyncio.Future[Any]


def start(running: Running, request: embedding_pb2.EmbedRequest, **options: Any) -> Call:
    return asyncio.ensure_future(running.stub.Embed(request, **options))


def embeddings(reply: embedding_pb2.EmbedResponse) -> list[list[float]]:
    return [list(result.dense) for result in reply.results]


def assert_same(reply: embedding_pb2.EmbedResponse, other: embedding_pb2.EmbedResponse) -> None:
    """The same answers; runs of other batch sizes may differ in a float's last bits."""
    np.testing.assert_allclose(embeddings(reply), embeddings(other), rtol=0, atol=1e-6)


async def occupy(running: Running) -> Call:
    """A call that is inside the blocked engine."""
    first = start(running, embed_request(PNG), timeout=60)
    assert await eventually(running.engine.entered.is_set)
    return first


def batcher(running: Running) -> Any:
    return running.server.registry.models[0].batchers["image"]


async def test_f09_idle_and_slow_connections_do_not_disturb(tiny_bundle: Path) -> None:
    limits = {"connection_idle_s": 0.5, "handshake_s": 1.0}
    async with serving(tiny_bundle, limits=limits) as running:
        host, port = running.server.address.rsplit(":", 1)
        hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
        sockets = []
        async with unharmed(running):
            for i in range(300):
                sockets.append(socket.create_connection((host, int(port)), timeout=5))
                sockets[-1].sendall(hello if i % 2 else hello[: i % 20])
            for _ in range(5):
                reply = await running.stub.Embed(embed_request(PNG), timeout=10)
                assert reply.results[0].status.code == 0

            def closed(connection: socket.socket) -> bool:
                connection.setblocking(False)
                try:
                    while connection.recv(4096):
                        pass
                except BlockingIOError:
                    return False
                except OSError:
                    return True
                return True

            assert await eventually(lambda: all(closed(s) for s in sockets), seconds=20)
        for connection in sockets:
            connection.close()


async def test_f23_a_full_queue_refuses_at_once(tiny_bundle: Path) -> None:
    size, extra = 40, 7
    async with serving(tiny_bundle, limits={"queue_images": size}) as running, unharmed(running):
        with blocked(running):
            calls = [start(running, embed_request(PNG), timeout=60) for _ in range(size)]
            assert await eventually(lambda: batcher(running).room.admitted == size)
            times = []
            for _ in range(extra):
                started = time.perf_counter()
                error = await refused(running.stub.Embed(embed_request(PNG), timeout=60))
                times.append(time.perf_counter() - started)
                assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert error.retry_after is not None
            assert min(times) < 0.01
            assert not any(call.done() for call in calls)
        replies = await asyncio.gather(*calls)
        for reply in replies:
            assert_same(reply, replies[0])


async def test_f23_work_ahead_is_bounded_in_seconds(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle, limits={"queue_s": 0.5}) as running, unharmed(running):
        batcher(running).room._recent.extend([0.2] * 16)  # as if the engine were that slow
        with blocked(running):
            calls = [await occupy(running)]
            for n in (2, 3):
                calls.append(start(running, embed_request(PNG), timeout=60))
                assert await eventually(lambda n=n: batcher(running).room.admitted == n)
            error = await refused(running.stub.Embed(embed_request(PNG), timeout=60))
            assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        await asyncio.gather(*calls)


async def test_f24_health_answers_under_saturation(tiny_bundle: Path) -> None:
    limits = {"queue_images": 64, "calls_in_flight": 64}
    async with serving(tiny_bundle, limits=limits) as running, unharmed(running):
        with blocked(running):
            calls = [start(running, embed_request(PNG), timeout=60) for _ in range(64)]
            assert await eventually(lambda: running.server.gate.calls == 64)
            error = await refused(running.stub.GetModel(embedding_pb2.GetModelRequest()))
            assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            times = []
            for _ in range(20):
                started = time.perf_counter()
                assert await running.serving()
                times.append(time.perf_counter() - started)
            assert float(np.median(times)) < 0.1
        await asyncio.gather(*calls)


async def test_f25_a_deadline_shorter_than_the_queue(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle) as running, unharmed(running):
        with blocked(running):
            first = await occupy(running)
            seen = len(running.engine.seen)
            late = start(running, embed_request(picture(7)), timeout=0.3)
            assert (await refused(late)).code is grpc.StatusCode.DEADLINE_EXCEEDED
            assert await eventually(lambda: batcher(running).room.admitted == 1)
        await first
        await running.golden()
        # The blocked picture and the golden one; the late one was never run.
        marks = {row.tobytes() for row in running.engine.seen[seen:] if row.ndim == 3}
        assert len(marks) == 1


async def test_f25_the_servers_own_deadline(tiny_bundle: Path) -> None:
    async with (
        serving(tiny_bundle, limits={"default_deadline_s": 0.3}) as running,
        unharmed(running),
    ):
        with blocked(running):
            first = await occupy(running)
            error = await refused(running.stub.Embed(embed_request(PNG)))
            assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
            assert error.message == "deadline exceeded"
        await first


@pytest.mark.parametrize("point", ["queue", "batch", "decode", "parse"])
async def test_f27_cancelled_calls_leave_no_trace(tiny_bundle: Path, point: str) -> None:
    async with serving(tiny_bundle) as running, unharmed(running):
        neighbours = [picture(seed) for seed in range(1, 4)]
        alone = await running.stub.Embed(embed_request(*neighbours), timeout=30)
        big = large_picture()
        for _ in range(5):
            with blocked(running):
                if point == "batch":
                    leaving = await occupy(running)
                elif point == "queue":
                    first = await occupy(running)
                    leaving = start(running, embed_request(*[PNG] * 8), timeout=60)
                    assert await eventually(lambda: len(batcher(running)._waiting) == 8)
                elif point == "decode":
                    leaving = start(running, embed_request(big, big), timeout=60)
                    assert await eventually(lambda: batcher(running).room.admitted == 2)
                else:
                    leaving = start(running, embed_request(*[big] * 4), timeout=60)
                    await asyncio.sleep(0)
                staying = start(running, embed_request(*neighbours), timeout=60)
                leaving.cancel()
                admitted = 4 if point == "queue" else 3
                assert await eventually(lambda n=admitted: batcher(running).room.admitted == n)
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
                assert await eventually(lambda: batcher(running).room.admitted == 2)
                call.cancel()
                assert await eventually(lambda: batcher(running).room.admitted == 0)
                assert await eventually(lambda: running.server.gate.calls == 0)


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
            assert await eventually(lambda: running.server.gate.calls == 0, seconds=30)
            assert sent < 20_000
            assert len(running.engine.seen) < 2_000
            assert batcher(running).room.admitted == 0
            call.cancel()


async def test_f29_one_poison_item_of_16(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle) as running, unharmed(running):
        pictures = [picture(seed) for seed in range(16)]
        alone = embeddings(await running.stub.Embed(embed_request(*pictures), timeout=30))
        pool = running.server.registry.models[0].decoders
        bad = (await pool.decode(pictures[11])).tobytes()
        running.engine.poison = lambda row: row.tobytes() == bad
        for _ in range(10):
            reply = await running.stub.Embed(embed_request(*pictures), timeout=30)
            codes = [result.status.code for result in reply.results]
            assert codes == [0] * 11 + [grpc.StatusCode.INTERNAL.value[0]] + [0] * 4
            assert reply.results[11].status.message == "internal error"
            given = embeddings(reply)
            for i in set(range(16)) - {11}:
                np.testing.assert_allclose(given[i], alone[i], rtol=0, atol=1e-5)
        assert await running.serving()  # one caller's poison does not end the service
        running.engine.poison = lambda row: False


async def test_batches_form_while_the_engine_is_busy(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle, batch={"max_images": 8}) as running:
        with blocked(running):
            calls = [await occupy(running)]
            running.engine.sizes.clear()
            calls += [start(running, embed_request(PNG), timeout=60) for _ in range(20)]
            assert await eventually(lambda: len(batcher(running)._waiting) == 20)
        await asyncio.gather(*calls)
        assert running.engine.sizes == [1, 8, 8, 4]
