"""Every call ends with a status of this server, whatever it is made of, and the server goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sparseclip import AsyncClient, CallError
from sparseclip.v1 import admin_pb2, embedding_pb2
from tests.cases.calls import (
    CHECK,
    EMBED,
    GET_MODEL,
    RAW_CALLS,
    REQUEST,
    STREAM,
    UNKNOWN_PATHS,
    RawCall,
)
from tests.serving.support.certificates import ALICE, ROOT, bearer, write_tokens
from tests.serving.support.raw_http2 import UNREAD, Reply, connected, framed
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

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIST = "/grpc.health.v1.Health/List"
STATUS = "/sparseclip.v1.AdminService/GetStatus"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """A server with a token file and an admin port, and few slots for calls."""
    tokens = write_tokens(tmp_path_factory.mktemp("tokens") / "tokens.json")
    async with serving(
        tiny_bundle,
        token=ROOT,
        tokens=str(tokens),
        admin_port=0,
        reflection=True,
        limits={"calls_in_flight": 8, "watches": 4, "calls_reading": 4},
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Any:
    """No caller can make the server log an error or a traceback."""
    yield
    for record in caplog.get_records("call"):
        assert record.levelno < logging.ERROR, record.getMessage()


async def answer(address: str, call: RawCall) -> Reply:
    def send() -> Reply:
        with connected(address) as connection:
            try:
                connection.send(call.path, call.body, **call.options)
                return connection.reply()
            except ConnectionError:
                return Reply(status=None)

    reply = await asyncio.to_thread(send)
    assert_clean(reply.message)
    return reply


def authenticated(call: RawCall) -> RawCall:
    """The call with a token, unless it has one."""
    headers = list(call.options.get("headers", ()))
    if all(name != b"authorization" for name, _ in headers):
        headers += raw_bearer(ALICE)
    options = {**call.options, "headers": headers}
    return RawCall(path=call.path, body=call.body, options=options, statuses=call.statuses)


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


@pytest.mark.kind("K4")
async def test_watches_of_health_are_bounded_over_all_connections(guarded: Running) -> None:
    request = health_pb2.HealthCheckRequest(service="sparseclip.v1.EmbeddingService")
    options = [("test.channel", 2)]
    async with (
        unharmed(guarded),
        grpc.aio.insecure_channel(guarded.server.address, options) as channel,
    ):
        other = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        stubs = [guarded.health, other] * 2
        watches = [stub.Watch(request, metadata=bearer(ALICE)) for stub in stubs]
        for watch in watches:
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        for stub in stubs:
            error = await refused(stub.Watch(request, metadata=bearer(ALICE)).read())
            assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error.retry_after is not None
            assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        watches.pop().cancel()
        assert await eventually(lambda: guarded.server.admission.watches == 3)
        watches.append(guarded.health.Watch(request, metadata=bearer(ALICE)))
        assert (await watches[-1].read()).status == health_pb2.HealthCheckResponse.SERVING
        for watch in watches:
            watch.cancel()
        assert await eventually(lambda: guarded.server.admission.watches == 0)


@contextlib.contextmanager
def silent_checks(address: str, count: int) -> Iterator[None]:
    """Health checks without a token, whose messages never come."""
    with contextlib.ExitStack() as connections:
        for _ in range(count):
            connection = connections.enter_context(connected(address))
            connection.send(CHECK, b"", end=False)
        yield


@pytest.mark.kind("K4")
async def test_health_checks_hold_up_no_other_call_and_keep_no_bytes(guarded: Running) -> None:
    """They need no token. Their messages never come, or are far too large."""
    async with unharmed(guarded):
        with silent_checks(guarded.server.address, 8):
            for _ in range(3):
                request = embed_request(PNG)
                reply = await guarded.stub.Embed(request, metadata=bearer(ALICE), timeout=5)
                assert reply.results[0].status.code == 0
        large = framed(health_pb2.HealthCheckRequest(service="x" * 10_000).SerializeToString())
        for path in (CHECK, CHECK.replace(b"Check", b"Watch")):
            reply = await answer(
                guarded.server.address, authenticated(RawCall(path=path, body=large, statuses=()))
            )
            assert (reply.status, reply.message) == (3, "more than 1024 bytes")


@pytest.mark.kind("K4")
async def test_health_is_answered_beside_callers_who_send_no_message(guarded: Running) -> None:
    async with unharmed(guarded):
        with silent_checks(guarded.server.address, 40):
            assert await guarded.serving(seconds=0.9)
        # Honest callers cost each other nothing.
        assert all(await asyncio.gather(*(guarded.serving() for _ in range(200))))


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


@pytest.mark.kind("K2")
async def test_health_lists_every_service(guarded: Running) -> None:
    raw = await guarded.raw(LIST, b"", metadata=bearer(ALICE))
    statuses = health_pb2.HealthListResponse.FromString(raw).statuses
    assert set(statuses) == {
        "",
        "grpc.health.v1.Health",
        "sparseclip.v1.ChatService",
        "sparseclip.v1.ConceptService",
        "sparseclip.v1.EmbeddingService",
    }
    assert statuses["sparseclip.v1.EmbeddingService"].status == 1
    error = await refused(guarded.raw(LIST, b""))
    assert error.code is grpc.StatusCode.UNAUTHENTICATED
