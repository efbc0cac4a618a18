"""F-40: reloads under load. No call fails, and each is answered by the version that it names."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import weakref
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from sparseclip.v1 import admin_pb2, admin_pb2_grpc, embedding_pb2
from tests.serving.support.certificates import ROOT, bearer, write_tokens
from tests.serving.support.chat_requests import question, replies
from tests.serving.support.model_versions import copy_version, damage
from tests.serving.support.running_server import (
    PNG,
    Running,
    embed_request,
    eventually,
    refused,
    serving,
    unharmed,
)

RELOADS = pytest.mark.parametrize("reloads", [4, pytest.param(50, marks=pytest.mark.soak)])


def held() -> tuple[int, int]:
    """Threads of models, and processes that decode for them."""
    names = [thread.name for thread in threading.enumerate()]
    children = psutil.Process().children()
    return names.count("engine") + names.count("tokenizer"), len(children)


def outputs(result: embedding_pb2.EmbedResult) -> bytes:
    """All of a result but what depends on time."""
    result.ClearField("timings")
    return result.SerializeToString(deterministic=True)


class Traffic:
    """Callers and a stream that go on until told to stop; every answer is kept by its version."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._stop = asyncio.Event()
        self.seen: dict[str, set[bytes]] = {}
        self.answers = 0
        self._tasks = [asyncio.create_task(self._call()) for _ in range(2)]
        self._tasks.append(asyncio.create_task(self._streams()))

    async def stop(self) -> None:
        """Waits for the calls in flight. Raises what a caller met."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    def _keep(self, version: str, result: embedding_pb2.EmbedResult) -> None:
        assert result.status.code == 0, result.status.message
        result.id = ""
        self.seen.setdefault(version, set()).add(outputs(result))
        self.answers += 1

    async def _call(self) -> None:
        while not self._stop.is_set():
            reply = await self._running.stub.Embed(
                embed_request(PNG), metadata=self._running.metadata, timeout=30
            )
            self._keep(reply.model.version, reply.results[0])

    async def _streams(self) -> None:
        """Streams of 20 items; all of a stream come from the version with which it began."""
        start = embedding_pb2.EmbedStreamStart(outputs=embed_request().outputs)
        while not self._stop.is_set():
            messages = [embedding_pb2.EmbedStreamRequest(start=start)]
            for number in range(20):
                item = embedding_pb2.EmbedInput(id=str(number), image=PNG)
                messages.append(embedding_pb2.EmbedStreamRequest(input=item))
            versions, ids = set(), set()
            stream: Any = self._running.stub.EmbedStream(
                iter(messages), metadata=self._running.metadata, timeout=60
            )
            async for reply in stream:
                versions.add(reply.model.version)
                ids.add(reply.result.id)
                self._keep(reply.model.version, reply.result)
            assert len(versions) == 1
            assert len(ids) == 20


@RELOADS
async def test_f40_reloads_under_load(tiny_bundle: Path, tmp_path: Path, reloads: int) -> None:
    models = tmp_path / "models"
    copy_version(tiny_bundle, models, "1")
    copy_version(tiny_bundle, models, "2", mean=(0.1, 0.2, 0.3))
    damage(copy_version(tiny_bundle, models, "3"))
    tokens = write_tokens(tmp_path / "tokens.json")
    settings = {"models": str(models), "tokens": str(tokens), "admin_port": 0}
    async with (
        serving(models / "tiny" / "1", token=ROOT, **settings) as running,
        unharmed(running),
        grpc.aio.insecure_channel(running.server.admin_address or "") as channel,
    ):
        stub: Any = admin_pb2_grpc.AdminServiceStub(channel)  # type: ignore[no-untyped-call]

        async def load(version: str) -> str:
            request = admin_pb2.LoadModelRequest(name="tiny", version=version)
            reply = await stub.LoadModel(request, metadata=bearer(ROOT), timeout=60)
            return str(reply.model.version)

        async def unload(version: str) -> None:
            request = admin_pb2.UnloadModelRequest(name="tiny", version=version)
            await stub.UnloadModel(request, metadata=bearer(ROOT), timeout=60)

        async def answers() -> str:
            reply = await running.stub.Embed(
                embed_request(PNG), metadata=running.metadata, timeout=30
            )
            return str(reply.model.version)

        before = held()
        models_seen = []
        traffic = Traffic(running)
        current, other = "1", "2"
        for n in range(reloads):
            if n % 10 == 3:
                error = await refused(load("3"))
                assert error.code is grpc.StatusCode.FAILED_PRECONDITION
                assert await answers() == current
            assert await load(other) == other
            assert await answers() == other
            models_seen += [weakref.ref(model) for model in running.server.registry.models]
            await unload(current)
            current, other = other, current
        await traffic.stop()
        assert current == "1"
        assert set(traffic.seen) == {"1", "2"}
        assert traffic.answers > 2 * reloads
        # The versions' answers differ: none came from the other one.
        assert not traffic.seen["1"] & traffic.seen["2"]
        # What was unloaded is gone, with its threads and processes.
        assert await eventually(lambda: held() == before), (before, held())
        gc.collect()
        alive = {id(model) for reference in models_seen if (model := reference())}
        assert alive == {id(model) for model in running.server.registry.models}


@RELOADS
async def test_f40_reloads_of_chat_leave_nothing_behind(
    chat_bundle: Path, tmp_path: Path, reloads: int
) -> None:
    models = tmp_path / "models"
    for version in ("1", "2"):
        copy_version(chat_bundle, models, version)
    tokens = write_tokens(tmp_path / "tokens.json")
    settings = {"models": str(models), "tokens": str(tokens), "admin_port": 0}
    async with (
        serving(models / "tiny" / "1", token=ROOT, **settings) as running,
        grpc.aio.insecure_channel(running.server.admin_address or "") as channel,
    ):
        stub: Any = admin_pb2_grpc.AdminServiceStub(channel)  # type: ignore[no-untyped-call]
        versions = itertools.cycle(["2", "1"])
        current = "1"

        opened = []
        before = decoding()
        for _ in range(reloads):
            old, current = current, next(versions)
            load = admin_pb2.LoadModelRequest(name="tiny", version=current)
            await stub.LoadModel(load, metadata=bearer(ROOT), timeout=60)
            assert (await replies(running, question()))[0].start.model.version == current
            chats = [model.chat._model for model in running.server.registry.models]
            opened += [weakref.ref(part) for chat in chats for part in (chat, chat.engine._model)]
            del chats
            unload = admin_pb2.UnloadModelRequest(name="tiny", version=old)
            await stub.UnloadModel(unload, metadata=bearer(ROOT), timeout=60)
        assert await eventually(lambda: decoding() == before), (before, decoding())
        gc.collect()
        assert len({id(part) for reference in opened if (part := reference())}) == 2


def decoding() -> int:
    """Threads that decode for language models, and those that prepare for them."""
    return sum(thread.name in ("decode", "chat") for thread in threading.enumerate())
