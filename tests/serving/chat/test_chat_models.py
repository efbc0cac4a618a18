"""Which models chat: without an adapter, without its libraries, and while versions come and go."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import grpc
import pytest

from serving.core.requests import ModelSelector
from sparseclip.v1 import chat_pb2, types_pb2
from tests.serving.support.chat_requests import (
    SET,
    Edit,
    chat,
    question,
    replies,
    stepping,
    user,
    without_times,
)
from tests.serving.support.running_server import (
    Running,
    eventually,
    refused,
    serving,
    unharmed,
)
from tests.support.chat_bundles import add_adapter

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOG = Edit(phrase="dog", op=SET, value=4.0)


async def no_chat(running: Running) -> str:
    async with unharmed(running):
        error = await refused(replies(running, question()))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    return error.message


async def test_a_model_without_an_adapter(shared: Running) -> None:
    assert await no_chat(shared) == "this model has no chat"


async def test_chat_may_be_off(chat_bundle: Path) -> None:
    async with serving(chat_bundle, chat="off") as running:
        assert await no_chat(running) == "chat is off on this server"


@pytest.mark.parametrize("module", ["mllm_adapter.chat_model", "transformers"])
async def test_chat_may_not_be_installed(
    chat_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    module: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    async with serving(chat_bundle) as running:
        message = "chat is not installed on this server: pip install 'sparseclip[chat]'"
        assert (await no_chat(running)) == message
    [logged] = [entry.getMessage() for entry in caplog.records]
    assert logged.startswith(f"serving without chat, which needs {module}")
    assert logged.endswith(": pip install 'sparseclip[chat]'")


async def test_an_adapter_of_another_model(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = add_adapter(tiny_bundle, tmp_path / "tiny" / "9", concepts=64)
    async with serving(bundle) as running:
        message = "this model's chat cannot be loaded; the server's log says why"
        assert (await no_chat(running)) == message


def decoders() -> int:
    return sum(thread.name in ("decode", "chat") for thread in threading.enumerate())


async def test_versions_come_and_go_with_their_chats(tiny_bundle: Path, tmp_path: Path) -> None:
    first = add_adapter(tiny_bundle, tmp_path / "tiny" / "2")
    add_adapter(tiny_bundle, tmp_path / "tiny" / "3")
    threads = decoders()
    async with serving(first, models=str(tmp_path)) as running:
        registry = running.server.registry
        expected = without_times(await replies(running, question(DOG)))[1:]
        assert decoders() == threads + 2
        with stepping(running) as steps:
            staying = aiter(chat(running, question(DOG)))
            await anext(staying)
            await registry.load("tiny", "3")
            leaving = asyncio.ensure_future(
                registry.unload(ModelSelector(name="tiny", version="2"))
            )
            fresh = await replies(running, question(DOG))  # of the new version, which is not held
            assert fresh[0].start.model == types_pb2.ModelVersion(name="tiny", version="3")
            assert without_times(fresh)[1:] == expected
            assert not leaving.done()
            steps.free.release(100_000)
            rest = [event async for event in staying]
        assert without_times(rest) == expected
        await leaving
        assert await eventually(lambda: decoders() == threads + 2)
        error = await refused(
            replies(running, chat_pb2.ChatRequest(model={"version": "2"}, messages=[user("a")]))
        )
        assert error.code is grpc.StatusCode.NOT_FOUND
    assert await eventually(lambda: decoders() == threads)
