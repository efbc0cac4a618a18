"""F-23 to F-25 and F-29: more work than fits, work that is late, items that break a run."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import numpy as np

from sparseclip.v1 import embedding_pb2
from tests.serving.support.calls_in_flight import assert_same, batcher, embeddings, occupy, start
from tests.serving.support.running_server import (
    PNG,
    blocked,
    embed_request,
    encoded_image,
    eventually,
    refused,
    serving,
    unharmed,
)


async def test_f23_a_full_queue_refuses_at_once(tiny_bundle: Path) -> None:
    size, extra = 40, 7
    async with serving(tiny_bundle, limits={"queue_images": size}) as running, unharmed(running):
        with blocked(running):
            calls = [start(running, embed_request(PNG), timeout=60) for _ in range(size)]
            assert await eventually(lambda: batcher(running).admission.admitted == size)
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
        for _ in range(16):  # as if the engine were that slow
            batcher(running).admission.times.observe(0.2, 1, runs=1, admitted=1, now=0.0)
        with blocked(running):
            calls = [await occupy(running)]
            for n in (2, 3):
                calls.append(start(running, embed_request(PNG), timeout=60))
                assert await eventually(lambda n=n: batcher(running).admission.admitted == n)
            error = await refused(running.stub.Embed(embed_request(PNG), timeout=60))
            assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        await asyncio.gather(*calls)


async def test_f24_health_answers_under_saturation(tiny_bundle: Path) -> None:
    limits = {"queue_images": 64, "calls_in_flight": 64}
    async with serving(tiny_bundle, limits=limits) as running, unharmed(running):
        with blocked(running):
            calls = [start(running, embed_request(PNG), timeout=60) for _ in range(64)]
            assert await eventually(lambda: running.server.admission.calls == 64)
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
            before = len(running.engine.seen)
            late = start(running, embed_request(encoded_image(7)), timeout=0.3)
            assert (await refused(late)).code is grpc.StatusCode.DEADLINE_EXCEEDED
            assert await eventually(lambda: batcher(running).admission.admitted == 1)
        await first
        await running.golden()
        # The blocked image and the golden one; the late one was never run.
        marks = {row.tobytes() for row in running.engine.seen[before:] if row.ndim == 3}
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


async def test_f29_one_poison_item_of_16(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle) as running, unharmed(running):
        images = [encoded_image(seed) for seed in range(16)]
        alone = embeddings(await running.stub.Embed(embed_request(*images), timeout=30))
        pool = running.server.registry.models[0].decoders
        bad = (await pool.decode(images[11])).pixels.tobytes()
        running.engine.poison = lambda row: row.tobytes() == bad
        for _ in range(10):
            reply = await running.stub.Embed(embed_request(*images), timeout=30)
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
            assert await eventually(lambda: len(batcher(running)._queue) == 20)
        await asyncio.gather(*calls)
        assert running.engine.sizes == [1, 8, 8, 4]
