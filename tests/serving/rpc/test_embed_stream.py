"""EmbedStream: every item is answered, a broken stream ends, bulk leaves room."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from sparseclip.v1 import embedding_pb2
from tests.serving.support.running_server import (
    PNG,
    Running,
    blocked,
    embed_request,
    encoded_image,
    eventually,
    refused,
    serving,
    unharmed,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


def item(name: str, **content: Any) -> embedding_pb2.EmbedStreamRequest:
    return embedding_pb2.EmbedStreamRequest(input=embedding_pb2.EmbedInput(id=name, **content))


START = embedding_pb2.EmbedStreamRequest(
    start=embedding_pb2.EmbedStreamStart(outputs=embedding_pb2.OutputSelection(dense=True))
)


async def test_stream_answers_every_item(shared: Running) -> None:
    async with unharmed(shared):
        images = [encoded_image(seed) for seed in range(4)]
        request = embed_request(*images)
        alone = [list(r.dense) for r in (await shared.stub.Embed(request)).results]
        items = [item(str(i), image=images[i % 4]) for i in range(200)]
        items[50] = item("50", image=b"nonsense")
        items[60] = item("60", text="a dog")
        answers = {}
        async for reply in shared.stub.EmbedStream(iter([START, *items]), timeout=60):
            assert reply.model.name == "tiny"
            answers[reply.result.id] = reply.result
        assert set(answers) == {str(i) for i in range(200)}
        for i in range(200):
            result = answers[str(i)]
            if i == 50:
                assert result.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
            elif i != 60:
                np.testing.assert_allclose(result.dense, alone[i % 4], atol=1e-5)


BROKEN: dict[str, tuple[list[embedding_pb2.EmbedStreamRequest], str]] = {
    "nothing": ([], "start"),
    "no start": ([item("a", text="x")], "start"),
    "two starts": ([START, START], "message"),
    "an empty message": ([START, embedding_pb2.EmbedStreamRequest()], "message"),
    "no id": ([START, item("", text="x")], "input.id"),
    "no content": ([START, item("a")], "input.content"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_streams_that_break_the_contract_end(shared: Running, name: str) -> None:
    messages, field = BROKEN[name]
    async with unharmed(shared):
        call = shared.stub.EmbedStream(iter(messages), timeout=20)
        error = await refused(drain(call))
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in error.violations] == [field]


async def test_an_id_in_flight_is_refused(shared: Running) -> None:
    async with unharmed(shared):
        with blocked(shared):
            call = shared.stub.EmbedStream(timeout=20)
            for message in (START, item("a", image=PNG), item("a", image=PNG)):
                await call.write(message)
            batcher = shared.server.registry.models[0].batchers["image"]
            assert await eventually(lambda: batcher.admission.admitted == 1)
        error = await refused(drain(call))
        assert [violation.field for violation in error.violations] == ["input.id"]


async def drain(call: Any) -> list[Any]:
    return [reply async for reply in call]


async def test_bulk_streams_leave_room_for_callers_who_wait(tiny_bundle: Path) -> None:
    limits = {"queue_images": 16, "stream_window": 64}
    async with serving(tiny_bundle, limits=limits) as running, unharmed(running):
        batcher = running.server.registry.models[0].batchers["image"]
        with blocked(running):
            items = [item(str(i), image=PNG) for i in range(40)]
            stream = asyncio.ensure_future(
                drain(running.stub.EmbedStream(iter([START, *items]), timeout=60))
            )
            assert await eventually(lambda: batcher.admission.admitted == 8)
            calls = [
                asyncio.ensure_future(running.stub.Embed(embed_request(PNG), timeout=60))
                for _ in range(8)
            ]
            assert await eventually(lambda: batcher.admission.admitted == 16)
        for reply in await asyncio.gather(*calls):
            assert reply.results[0].status.code == 0
        assert len(await stream) == 40
