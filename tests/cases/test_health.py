"""Health is answered whatever other callers do, and holds up nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.cases.calls import CHECK, RawCall, answer, authenticated
from tests.serving.support.certificates import ALICE, bearer
from tests.serving.support.raw_http2 import connected, framed
from tests.serving.support.running_server import (
    PNG,
    Running,
    embed_request,
    eventually,
    refused,
    unharmed,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("quiet")]

LIST = "/grpc.health.v1.Health/List"


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


@pytest.mark.kind("K2")
async def test_health_lists_every_service(guarded: Running) -> None:
    raw = await guarded.raw(LIST, b"", metadata=bearer(ALICE))
    statuses = health_pb2.HealthListResponse.FromString(raw).statuses
    assert set(statuses) == {
        "",
        "grpc.health.v1.Health",
        "inference.GRPCInferenceService",
        "sparseclip.v1.ChatService",
        "sparseclip.v1.ConceptService",
        "sparseclip.v1.EmbeddingService",
    }
    assert statuses["sparseclip.v1.EmbeddingService"].status == 1
    error = await refused(guarded.raw(LIST, b""))
    assert error.code is grpc.StatusCode.UNAUTHENTICATED
