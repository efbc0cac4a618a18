"""F-17 to F-21: who may call what, and how often."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import descriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from serving.auth.tokens import TokenFile
from sparseclip.v1 import admin_pb2, chat_pb2, concepts_pb2, embedding_pb2
from tests.serving.support.certificates import ALICE, ROOT, SLOW, bearer, digest, write_tokens
from tests.serving.support.running_server import (
    EMBED,
    PNG,
    Running,
    embed_request,
    eventually,
    refused,
    serving,
    survives,
    unharmed,
)
from tests.serving.support.wire_contract import path_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADMIN = "/sparseclip.v1.AdminService"
FILES = (admin_pb2, chat_pb2, concepts_pb2, embedding_pb2, health_pb2, reflection_pb2)
METHODS = [
    method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.full_name != "grpc.health.v1.Health.Check"
]


class Guarded:
    """A server with a token file, and a channel to its admin port."""

    def __init__(self, running: Running, admin: grpc.aio.Channel, tokens: Path) -> None:
        self.running, self.admin, self.tokens = running, admin, tokens


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tiny_bundle: Path, tmp_path_factory: Any) -> AsyncIterator[Guarded]:
    path = tmp_path_factory.mktemp("tokens") / "tokens.json"
    write_tokens(path, requests_per_second=0.5, burst=3)
    async with serving(
        tiny_bundle,
        token=ROOT,
        tokens=str(path),
        admin_port=0,
        reflection=True,
        models=str(tiny_bundle.parent.parent),
    ) as running:
        assert running.server.admin_address
        async with grpc.aio.insecure_channel(running.server.admin_address) as admin:
            yield Guarded(running, admin, path)


async def call(channel: grpc.aio.Channel, method: Any, metadata: Any, message: bytes) -> bytes:
    """One call of any arity with one message; the first reply."""
    path = path_of(method)
    if method.client_streaming:
        return await _first_reply(channel, path, metadata, message)
    if method.server_streaming:
        stream = channel.unary_stream(path)(message, metadata=metadata, timeout=10)
    else:
        reply: bytes = await channel.unary_unary(path)(message, metadata=metadata, timeout=10)
        return reply
    first: bytes = await stream.read()
    stream.cancel()
    return first


async def _first_reply(
    channel: grpc.aio.Channel, path: str, metadata: Any, message: bytes
) -> bytes:
    """The first reply of a stream.

    When the server answers before the client has written, grpc.aio sometimes hides the server's
    status behind one of its own (grpc/grpc issue 36066).
    """
    for _ in range(10):
        stream = channel.stream_stream(path)(iter([message]), metadata=metadata, timeout=10)
        try:
            first: bytes = await stream.read()
        except grpc.aio.AioRpcError as error:
            if error.details() != "Internal error from Core":
                raise
        else:
            stream.cancel()
            return first
    raise AssertionError("grpc.aio hid the server's status ten times in a row")


HEADERS: dict[str, tuple[tuple[str, str | bytes], ...]] = {
    "none": (),
    "wrong": bearer("token-of-mallory"),
    "empty": bearer(""),
    "other scheme": (("authorization", f"Basic {ALICE}"),),
    "bare": (("authorization", ALICE),),
    "twice": (*bearer(ALICE), *bearer(ALICE)),
    "the digest": bearer(digest(ALICE)),
    "longer": bearer(ALICE + "x"),
}


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.full_name)
@pytest.mark.parametrize("header", HEADERS)
async def test_f17_every_method_needs_a_known_token(
    guarded: Guarded, method: descriptor.MethodDescriptor, header: str
) -> None:
    async with unharmed(guarded.running):
        for channel in (guarded.running.channel, guarded.admin):
            for message in (b"", b"\xff\xff"):  # corrupt or not: nothing is parsed
                error = await refused(call(channel, method, HEADERS[header], message))
                assert error.code is grpc.StatusCode.UNAUTHENTICATED


async def test_f17_refusals_leave_nothing_behind(guarded: Guarded) -> None:
    methods = itertools.cycle(METHODS)

    async def fault() -> None:
        error = await refused(call(guarded.admin, next(methods), HEADERS["wrong"], b"\xff"))
        assert error.code is grpc.StatusCode.UNAUTHENTICATED

    await survives(guarded.running, fault)


async def test_f17_unknown_methods_need_one_too(guarded: Guarded) -> None:
    path = "/sparseclip.v1.NoService/NoMethod"
    assert (await refused(guarded.running.raw(path, b""))).code is grpc.StatusCode.UNAUTHENTICATED
    known = await refused(guarded.running.raw(path, b"", metadata=bearer(ALICE)))
    assert known.code is grpc.StatusCode.UNIMPLEMENTED


async def test_f17_health_check_is_open_and_a_token_opens_the_rest(guarded: Guarded) -> None:
    assert await guarded.running.serving()
    request = embed_request(PNG).SerializeToString()
    await guarded.running.raw(EMBED, request, metadata=bearer(ALICE))
    watch = METHODS[[m.full_name for m in METHODS].index("grpc.health.v1.Health.Watch")]
    reply = await call(guarded.running.channel, watch, bearer(ALICE), b"")
    assert health_pb2.HealthCheckResponse.FromString(reply).status == 1


async def test_f18_the_wrong_role_is_refused(guarded: Guarded) -> None:
    admin = [m for m in METHODS if "Admin" in m.full_name]

    async def fault() -> None:
        for method in admin:
            error = await refused(call(guarded.admin, method, bearer(ALICE), b"\xff"))
            assert error.code is grpc.StatusCode.PERMISSION_DENIED
            # On the public port there is no such service, whoever asks.
            error = await refused(call(guarded.running.channel, method, bearer(ROOT), b""))
            assert error.code is grpc.StatusCode.UNIMPLEMENTED

    await survives(guarded.running, fault, repeats=30)
    reply = await guarded.admin.unary_unary(f"{ADMIN}/GetStatus")(b"", metadata=bearer(ROOT))
    status = admin_pb2.GetStatusResponse.FromString(reply)
    assert [m.is_default for m in status.models] == [True]
    embed = [m for m in METHODS if m.name == "Embed"][0]
    error = await refused(call(guarded.admin, embed, bearer(ROOT), b""))
    assert error.code is grpc.StatusCode.UNIMPLEMENTED


async def test_f19_keys_rotate_by_file_and_are_never_logged(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    raw = embed_request(texts=("a",)).SerializeToString()
    before = guarded.tokens.read_text()

    async def works(token: str) -> bool:
        call = guarded.running.channel.unary_unary(EMBED)(raw, metadata=bearer(token))
        code = await call.code()
        assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)
        return code is grpc.StatusCode.OK

    async with unharmed(guarded.running):
        assert await works(ALICE)
        assert not await works("token-of-new")
        guarded.tokens.write_text(before.replace(digest(ALICE), digest("token-of-new")))
        assert await eventually(lambda: works("token-of-new"))
        assert not await works(ALICE)
        guarded.tokens.write_text("{ broken")  # the principals before stay in force
        await asyncio.sleep(1.1)
        assert await works("token-of-new")
        guarded.tokens.write_text(before)
        assert await eventually(lambda: works(ALICE))
    assert "token-of" not in caplog.text
    assert digest(ALICE) not in caplog.text


async def test_f19_every_digest_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hmac

    from serving.core.metrics import Metrics

    compared = []
    original = hmac.compare_digest

    def spy(a: str, b: str) -> bool:
        compared.append(b)
        return original(a, b)

    monkeypatch.setattr("serving.auth.tokens.hmac.compare_digest", spy)
    tokens = TokenFile(write_tokens(tmp_path / "tokens.json"), Metrics())
    for token in (ALICE, ROOT, "token-of-mallory"):
        compared.clear()
        principal = tokens.find(token)
        assert len(compared) == 3
        assert (principal is None) == (token == "token-of-mallory")


async def test_f21_beyond_the_quota(guarded: Guarded) -> None:
    raw = embed_request(texts=("a",)).SerializeToString()

    async def slow() -> None:
        await guarded.running.raw(EMBED, raw, metadata=bearer(SLOW))

    async def beyond() -> float:
        error = await refused(slow())
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.retry_after is not None
        assert 0 < error.retry_after <= 2
        return error.retry_after

    async with unharmed(guarded.running):
        for _ in range(3):
            await slow()
        seconds = await beyond()
        for _ in range(10):  # others are not affected
            await guarded.running.raw(EMBED, raw, metadata=bearer(ALICE))
        await asyncio.sleep(seconds)
        await slow()

    async def fault() -> None:
        with contextlib.suppress(grpc.RpcError):  # one call in two seconds is allowed
            await slow()
        await beyond()

    await survives(guarded.running, fault)
