"""A server as an ASGI application, as Ray Serve hosts it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.core.errors import StartupError
from serving.hosted_server import HostedServer, hosted_config


def small(bundle: Path) -> dict[str, Any]:
    return {"bundle": str(bundle), "decode_workers": 1, "engine.name": "onnxruntime"}


@asynccontextmanager
async def hosted(settings: Mapping[str, Any]) -> AsyncIterator[HostedServer]:
    """Lives as a host would let it live."""
    app = HostedServer(hosted_config(settings))
    to_app: asyncio.Queue[Any] = asyncio.Queue()
    to_host: asyncio.Queue[Any] = asyncio.Queue()
    life = asyncio.ensure_future(app({"type": "lifespan"}, to_app.get, to_host.put))
    await to_app.put({"type": "lifespan.startup"})
    started = await to_host.get()
    if started["type"] != "lifespan.startup.complete":
        raise StartupError(started["message"])
    yield app
    await to_app.put({"type": "lifespan.shutdown"})
    assert await to_host.get() == {"type": "lifespan.shutdown.complete"}
    await life


async def test_a_hosted_server_answers_and_ends(tiny_bundle: Path) -> None:
    async with hosted(small(tiny_bundle)) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            reply = await client.post("/v1/embeddings", json={"model": "tiny", "input": "a dog"})
            assert reply.status_code == 200, reply.text
            assert reply.json()["data"]
        server = app.server
        assert server is not None
        assert server.is_serving
    assert not server.is_serving


async def test_what_keeps_it_from_starting_is_said_to_its_host(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="bundle"):
        async with hosted({"bundle": str(tmp_path / "none")}):
            pass


@pytest.mark.parametrize("setting", ["port", "http_port", "tls.key", "front_ends"])
def test_a_hosted_server_has_no_ports_for_callers(setting: str) -> None:
    with pytest.raises(StartupError, match=f"^{setting.split('.')[0]}: a hosted server has no"):
        hosted_config({setting: 1})


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(StartupError, match="no_such"):
        hosted_config({"no_such": 1})
