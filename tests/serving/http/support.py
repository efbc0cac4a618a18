"""A server with an HTTP port, and a client of it."""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.serving.support.running_server import PNG, Running, assert_clean, eventually, serving

JSON = {"content-type": "application/json"}


def data_uri(data: bytes = PNG, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def encoded(data: bytes = PNG) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True)
class WebServer:
    """A running server, and a client of its HTTP port."""

    running: Running
    client: httpx.AsyncClient

    @property
    def address(self) -> str:
        address = self.running.server.http_address
        assert address is not None
        return address

    @property
    def host(self) -> tuple[str, int]:
        host, _, port = self.address.removeprefix("http://").rpartition(":")
        return host, int(port)

    async def post(self, path: str, body: Any, status: int = 200) -> Any:
        """The JSON of a reply, whose status must be this one."""
        # Not httpx's own JSON, which refuses what a caller of another language may send.
        reply = await self.client.post(path, content=json.dumps(body), headers=JSON)
        assert reply.status_code == status, reply.text
        return reply.json() if status == 200 else checked(reply)

    async def get(self, path: str, status: int = 200) -> Any:
        """The JSON of a reply, whose status must be this one."""
        reply = await self.client.get(path)
        assert reply.status_code == status, reply.text
        return reply.json() if status == 200 else checked(reply)


def checked(reply: httpx.Response) -> Any:
    """The problem that a reply says, whose texts name nothing of the server's inside."""
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body["status"] == reply.status_code
    assert body["error"]["message"] == body["detail"] == body["message"]
    assert_clean(body["detail"])
    return body


@contextlib.asynccontextmanager
async def web(bundle: Path, *arguments: Any, **changes: Any) -> AsyncIterator[WebServer]:
    """A running server with an HTTP port on a free one. Its studio has one picture, and has read
    it: the server has nothing to do but what a test asks."""
    with tempfile.TemporaryDirectory() as gallery:
        (Path(gallery) / "a.png").write_bytes(PNG)
        settings = {"http_port": 0, "gallery": gallery, **changes}
        async with serving(bundle, *arguments, **settings) as running:
            studio: Any = running.server._gallery
            assert await eventually(lambda: studio.ready)
            address = running.server.http_address or ""
            async with httpx.AsyncClient(base_url=address, timeout=60) as client:
                yield WebServer(running, client)
