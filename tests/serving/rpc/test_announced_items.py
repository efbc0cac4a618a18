"""A full server refuses a call by its headers, without reading the message."""

from __future__ import annotations

import asyncio
import base64
import gc
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from serving.core.errors import ServingError
from sparseclip.announcement import ITEMS_HEADER, announce, announced
from sparseclip.v1 import embedding_pb2, types_pb2
from tests.serving.support.raw_http2 import Reply, connected, framed
from tests.serving.support.running_server import EMBED, PNG, Running, embed_request, serving

SLOTS = {"queue_images": 4, "queue_texts": 4}


def refused_unread(address: str, value: str) -> Reply:
    """The reply to a call that announces items and never sends its message."""
    with connected(address) as connection:
        header = (ITEMS_HEADER.encode(), value.encode())
        connection.send(EMBED.encode(), b"", [header], end=False)
        return connection.reply()


def answered(address: str, value: str) -> Reply:
    """The reply to a call that announces items and holds one image."""
    message = embed_request(PNG).SerializeToString()
    with connected(address) as connection:
        header = (ITEMS_HEADER.encode(), value.encode())
        connection.send(EMBED.encode(), framed(message), [header])
        return connection.reply()


@pytest.mark.kind("K2")
async def test_what_cannot_be_admitted_is_refused_before_the_message_comes(
    tiny_bundle: Path,
) -> None:
    async with serving(tiny_bundle, limits=SLOTS) as running:
        address, before = running.server.address, running.gauges()
        for value in ("image=5", "text=5", "patches=5", "image=1,text=5"):
            reply = await asyncio.to_thread(refused_unread, address, value)
            assert reply.status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], value
            padded = reply.details + b"=" * (-len(reply.details) % 4)
            [detail] = Status.FromString(base64.b64decode(padded)).details
            assert detail.Is(RetryInfo.DESCRIPTOR)
        for value in ("image=4,text=4", "image=x", "image=-5", "image=" + "9" * 30, "", "other=5"):
            reply = await asyncio.to_thread(answered, address, value)
            assert reply.status == 0, value  # it fits, or says nothing: the message decides
        assert running.gauges() == before


async def refuse(running: Running, count: int, announce_them: bool) -> None:
    request = embed_request(*[PNG] * 5)
    header = ((ITEMS_HEADER, "image=5"),) if announce_them else ()
    for _ in range(count):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.stub.Embed(request, timeout=5, metadata=header)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("announce_them", [True, False])
async def test_a_refusal_leaves_nothing_for_the_collector(
    tiny_bundle: Path, announce_them: bool
) -> None:
    """Circles of objects wait for a collection, which holds up every call for 0.1 s."""
    async with serving(tiny_bundle, limits=SLOTS) as running:
        await refuse(running, 2, announce_them)
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await refuse(running, 20, announce_them)
            await asyncio.sleep(0.05)  # the last call's task ends
            gc.collect()
            found = [entry for entry in gc.garbage if isinstance(entry, ServingError)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
    assert not found


async def test_an_error_of_the_check_itself_reaches_the_caller_only(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tiny_bundle) as running:
        model = running.server.registry.default_model
        assert model is not None
        with monkeypatch.context() as patch:
            patch.setattr(type(model), "check_capacity", lambda *_: 1 / 0)
            for _ in range(40):  # more than wait for calls at the same time
                reply = await asyncio.to_thread(refused_unread, running.server.address, "image=1")
                assert reply == Reply(status=13, message="internal error")
        reply = await asyncio.to_thread(answered, running.server.address, "image=1")
        assert reply.status == 0


def test_a_call_announces_what_it_holds() -> None:
    request = embed_request(PNG, PNG, texts=("a",))
    assert announce(request) == ((ITEMS_HEADER, "image=2,text=1"),)
    request.outputs.patch_concepts.add(concept_id=1)
    assert announce(request) == ((ITEMS_HEADER, "patches=2,text=1"),)
    assert announced("patches=2,text=1") == {"patches": 2, "text": 1}
    named = embedding_pb2.EmbedRequest(model=types_pb2.ModelSelector(name="tiny"))
    assert announce(named) == ()
