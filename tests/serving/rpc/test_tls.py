"""F-20: callers without a certificate that the server trusts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from serving.core.config import TlsConfig
from sparseclip import CallError
from tests.serving.support.certificates import Authority
from tests.serving.support.running_server import (
    EMBED,
    Running,
    embed_request,
    refused,
    serving,
    survives,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Secured:
    """A server that wants certificates of `clients`."""

    def __init__(self, running: Running, servers: Authority, clients: Authority) -> None:
        self.running, self.servers, self.clients = running, servers, clients


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(tiny_bundle: Path, tmp_path_factory: Any) -> AsyncIterator[Secured]:
    directory = tmp_path_factory.mktemp("tls")
    servers, clients = Authority(directory, "servers"), Authority(directory, "clients")
    own = servers.issue("server")
    tls = TlsConfig(certificate=own.certificate_path, key=own.key_path, client_ca=clients.path)
    known = clients.issue("known")
    credentials = grpc.ssl_channel_credentials(servers.pem, known.key, known.certificate)
    async with serving(tiny_bundle, credentials=credentials, tls=tls) as running:
        yield Secured(running, servers, clients)


async def secured_call(secured: Secured, pem: Any) -> CallError | None:
    credentials = grpc.ssl_channel_credentials(
        secured.servers.pem, *((pem.key, pem.certificate) if pem else ())
    )
    async with grpc.aio.secure_channel(secured.running.server.address, credentials) as channel:
        raw = embed_request(texts=("a",)).SerializeToString()
        try:
            await channel.unary_unary(EMBED)(raw, timeout=10)
        except grpc.aio.AioRpcError as error:
            return CallError.from_rpc(error)
    return None


@pytest.mark.parametrize("kind", ["none", "of strangers", "expired"])
async def test_f20_mtls(secured: Secured, tmp_path: Path, kind: str) -> None:
    pem = {
        "none": None,
        "of strangers": Authority(tmp_path, "strangers").issue("unknown"),
        "expired": secured.clients.issue("old", days=-1),
    }[kind]

    async def fault() -> None:
        error = await secured_call(secured, pem)
        assert error is not None
        assert error.code is grpc.StatusCode.UNAVAILABLE

    await survives(secured.running, fault, repeats=20)
    assert await secured_call(secured, secured.clients.issue("again")) is None


async def test_f20_plaintext(secured: Secured) -> None:
    async def fault() -> None:
        async with grpc.aio.insecure_channel(secured.running.server.address) as plain:
            error = await refused(plain.unary_unary(EMBED)(b"", timeout=10))
            assert error.code is grpc.StatusCode.UNAVAILABLE

    await survives(secured.running, fault, repeats=20)
