"""Every call ends with a status of this server, whatever it is made of, and the server goes on."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest

from sparseclip import AsyncClient, CallError
from sparseclip.v1 import admin_pb2, embedding_pb2
from tests.cases.calls import (
    EMBED,
    GET_MODEL,
    RAW_CALLS,
    REQUEST,
    STREAM,
    UNKNOWN_PATHS,
    RawCall,
    answer,
    authenticated,
)
from tests.serving.support.certificates import ALICE, ROOT, bearer
from tests.serving.support.raw_http2 import UNREAD, connected, framed
from tests.serving.support.raw_http2 import bearer as raw_bearer
from tests.serving.support.running_server import (
    PNG,
    Running,
    assert_clean,
    embed_request,
    eventually,
    refused,
    serving,
    unharmed,
)
from tests.serving.support.wire_contract import METHODS, path_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("quiet")]

STATUS = "/sparseclip.v1.AdminService/GetStatus"


@pytest.mark.kind("K3")
@pytest.mark.parametrize("name", UNKNOWN_PATHS)
async def test_a_method_that_nobody_serves(guarded: Running, name: str) -> None:
    call = RawCall(path=UNKNOWN_PATHS[name], statuses=())
    for address in (guarded.server.address, str(guarded.server.admin_address)):
        reply = await answer(address, call)
        assert (reply.status, reply.message) == (16, "a bearer token is needed")
        reply = await answer(address, authenticated(call))
        assert (reply.status, reply.message) == (12, "no such method")
    await guarded.golden()


@pytest.mark.kind("K3")
@pytest.mark.parametrize("name", RAW_CALLS)
async def test_a_call_that_no_client_makes(guarded: Running, name: str) -> None:
    call = RAW_CALLS[name]
    async with unharmed(guarded):
        reply = await answer(guarded.server.address, authenticated(call))
        allowed = [None if status is None else status.value[0] for status in call.statuses]
        assert reply.status in allowed, reply


@pytest.mark.kind("K3")
async def test_every_method_answers_an_empty_and_a_corrupt_message(guarded: Running) -> None:
    async with (
        unharmed(guarded),
        grpc.aio.insecure_channel(str(guarded.server.admin_address)) as admin,
    ):
        for method in METHODS:
            channel = admin if "Admin" in method.full_name else guarded.channel
            for message in (b"", b"\xff\xff"):
                stream = channel.stream_stream(path_of(method))(
                    iter([message]), metadata=bearer(ROOT), timeout=10
                )
                with contextlib.suppress(grpc.aio.AioRpcError):
                    while await stream.read() is not grpc.aio.EOF:
                        pass
                code = await stream.code()
                assert code.name not in ("INTERNAL", "UNKNOWN", "CANCELLED"), (method.name, code)
                assert_clean(await stream.details() or "")


@pytest.mark.kind("K4")
async def test_made_up_methods_do_not_grow_the_metrics(guarded: Running) -> None:
    def labels() -> set[tuple[str, ...]]:
        return {
            tuple(sample.labels.values())
            for metric in guarded.server.metrics.registry.collect()
            for sample in metric.samples
        }

    async def call(number: int, metadata: Any) -> grpc.StatusCode:
        path = f"/no.such.Service{number}/Method{number}"
        return (await refused(guarded.raw(path, b"", metadata=metadata))).code

    await call(0, ()), await call(0, bearer(ALICE))
    before = labels()
    codes = await asyncio.gather(*(call(n, ()) for n in range(1, 300)))
    assert set(codes) == {grpc.StatusCode.UNAUTHENTICATED}
    codes = await asyncio.gather(*(call(n, bearer(ALICE)) for n in range(300, 600)))
    assert set(codes) == {grpc.StatusCode.UNIMPLEMENTED}
    assert labels() == before


@pytest.mark.kind("K9")
@pytest.mark.parametrize("path", [EMBED, GET_MODEL, STREAM], ids=["unary", "small", "stream"])
async def test_a_caller_who_hangs_up_unread_is_no_fault_of_the_server(
    guarded: Running, path: bytes
) -> None:
    start = embedding_pb2.EmbedStreamRequest(start=embedding_pb2.EmbedStreamStart())
    item = embedding_pb2.EmbedStreamRequest(input=embedding_pb2.EmbedInput(id="a", image=PNG))
    body = {
        EMBED: framed(REQUEST),
        GET_MODEL: framed(b""),
        STREAM: framed(start.SerializeToString()) + framed(item.SerializeToString()),
    }[path]
    wait_s = random.Random(0)

    async def fault() -> None:
        with connected(guarded.server.address, UNREAD) as connection:
            connection.send(path, body, raw_bearer(ALICE), end=path != STREAM)
            await asyncio.sleep(wait_s.uniform(0.0, 0.05))
            connection.hang_up()

    async with unharmed(guarded):
        for _ in range(20):
            await fault()
        assert await eventually(lambda: guarded.server.admission.calls == 0)
    codes = {
        sample.labels["code"]
        for metric in guarded.server.metrics.registry.collect()
        for sample in metric.samples
        if sample.labels.get("method") == path.decode() and "code" in sample.labels
    }
    assert "INTERNAL" not in codes


@pytest.mark.kind("K8")
async def test_callers_who_hold_every_slot_do_not_shut_an_operator_out(guarded: Running) -> None:
    start = embedding_pb2.EmbedStreamRequest(start=embedding_pb2.EmbedStreamStart())
    async with (
        unharmed(guarded),
        grpc.aio.insecure_channel(str(guarded.server.admin_address)) as admin,
    ):
        idle = [guarded.stub.EmbedStream(metadata=bearer(ALICE), timeout=60) for _ in range(8)]
        for stream in idle:
            await stream.write(start)
        assert await eventually(lambda: guarded.server.admission.calls == 8)
        request = embed_request(PNG)
        error = await refused(guarded.stub.Embed(request, metadata=bearer(ALICE)))
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.retry_after is not None
        reply = await admin.unary_unary(STATUS)(b"", metadata=bearer(ROOT), timeout=10)
        assert admin_pb2.GetStatusResponse.FromString(reply).calls_in_flight == 8
        assert await guarded.serving()
        for stream in idle:
            stream.cancel()


@pytest.mark.kind("K9")
async def test_a_caller_who_hangs_up_before_the_message_is_counted_as_such(
    guarded: Running,
) -> None:
    def calls(code: str) -> float:
        method = GET_MODEL.decode()
        return guarded.server.metrics.calls.labels(method, code)._value.get()

    before = {code: calls(code) for code in ("CANCELLED", "INVALID_ARGUMENT")}
    for _ in range(5):
        with connected(guarded.server.address) as connection:
            connection.send(GET_MODEL, b"", raw_bearer(ALICE), end=False)
            await asyncio.sleep(0.01)
            connection.hang_up()
    assert await eventually(lambda: calls("CANCELLED") == before["CANCELLED"] + 5)
    assert calls("INVALID_ARGUMENT") == before["INVALID_ARGUMENT"]


@pytest.mark.kind("K2")
async def test_a_client_with_1000_calls_in_flight_loses_none(tiny_bundle: Path) -> None:
    """A stock caller on a connection that is new, and the client with its retries."""
    async with serving(tiny_bundle, limits={"queue_images": 300}) as running, unharmed(running):
        payload = embed_request(PNG).SerializeToString()

        async def stock() -> str:
            try:
                await send(payload, timeout=60)
            except grpc.aio.AioRpcError as error:
                refusal = CallError.from_rpc(error)
                assert refusal.retry_after is not None, refusal
                return refusal.code.name
            return "OK"

        options = [("grpc.enable_retries", 0), ("test.channel", 1)]
        async with grpc.aio.insecure_channel(running.server.address, options) as channel:
            send = channel.unary_unary(EMBED.decode())
            outcomes = Counter(await asyncio.gather(*(stock() for _ in range(1_000))))
        assert set(outcomes) == {"OK", "RESOURCE_EXHAUSTED"}
        assert outcomes["OK"] >= 100

        async with AsyncClient(running.server.address, timeout=60.0) as client:
            await client.model_info()
            answers = await asyncio.gather(*(client.embed([PNG]) for _ in range(1_000)))
        assert all(answer.status.ok for [answer] in answers)
