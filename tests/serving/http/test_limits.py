"""F-03, F-09, F-21 to F-28 over HTTP: what is too large, too slow, too much, or not HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.serving.http.support import JSON, WebServer, checked, data_uri, encoded, web
from tests.serving.support.running_server import (
    assert_clean,
    blocked,
    eventually,
    resident,
    survives,
    unharmed,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAD = "POST /v1/embed HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
LIMITS = {"message_bytes": 100_000, "handshake_s": 1.5, "read_s": 0.5, "stream_stall_s": 1.0}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict(tiny_bundle: Path) -> AsyncIterator[WebServer]:
    """Bounds that tests can reach."""
    async with web(tiny_bundle, limits=LIMITS) as opened:
        yield opened


class Wire:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, opened: WebServer) -> Wire:
        return cls(*await asyncio.open_connection(*opened.host))

    async def send(self, data: str | bytes) -> None:
        self.writer.write(data.encode() if isinstance(data, str) else data)
        await self.writer.drain()

    async def rest(self, seconds: float = 10) -> bytes:
        """All that comes until the server closes the connection."""
        async with asyncio.timeout(seconds):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def reply(self) -> bytes:
        """The first reply, whose length is announced."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            [line] = [h for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:")]
            return head + await self.reader.readexactly(int(line.split(b":")[1]))

    def close(self) -> None:
        self.writer.close()


async def test_a_body_is_bounded_by_its_announced_size(strict: WebServer) -> None:
    async def fault() -> None:
        wire = await Wire.open(strict)
        await wire.send(HEAD + "content-length: 100000000\r\n\r\n")
        reply = await wire.reply()
        assert b" 413 " in reply.splitlines()[0]
        wire.close()

    await survives(strict.running, fault, repeats=50)


async def test_a_body_without_a_size_is_bounded_as_it_arrives(strict: WebServer) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1_000_000

    async with unharmed(strict.running):
        before = resident()
        reply = await strict.client.post("/v1/embed", content=endless(), headers=JSON)
        assert reply.status_code == 413
        assert checked(reply)["detail"] == "the body has more than 100000 bytes"
        assert resident() - before < 16 * 2**20


@pytest.mark.parametrize(("size", "status"), [(99_999, 200), (100_000, 200), (100_001, 413)])
async def test_f03_the_bound_is_exact(strict: WebServer, size: int, status: int) -> None:
    raw = json.dumps({"inputs": [{"text": "a"}]}).ljust(size).encode()
    reply = await strict.client.post("/v1/embed", content=raw, headers=JSON)
    assert reply.status_code == status


async def test_f09_a_head_that_does_not_end_is_cut_off(strict: WebServer) -> None:
    async with unharmed(strict.running):
        wires = [await Wire.open(strict) for _ in range(50)]
        begun = time.monotonic()
        for wire in wires[:40]:
            await wire.send("GET /healthz HTTP/1.1\r\nhost: 127")
        assert await asyncio.gather(*(wire.rest() for wire in wires)) == [b""] * 50
        assert time.monotonic() - begun < 6
        assert (await strict.client.get("/healthz")).status_code == 200


async def test_f09_a_head_that_drips_is_cut_off(strict: WebServer) -> None:
    wire = await Wire.open(strict)
    begun = time.monotonic()
    with contextlib.suppress(ConnectionError):
        for number in range(100):
            await wire.send(f"x-{number}: a\r\n" if number else "GET / HTTP/1.1\r\n")
            await asyncio.sleep(0.05)
    assert time.monotonic() - begun < 4


async def test_f09_the_second_head_of_a_connection_is_bounded_too(strict: WebServer) -> None:
    wire = await Wire.open(strict)
    await wire.send("GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    assert (await wire.reply()).endswith(b"ok\n")
    await wire.send("GET /healthz HT")
    assert await wire.rest(3) == b""


async def test_f09_a_body_that_drips_is_refused(strict: WebServer) -> None:
    async with unharmed(strict.running):
        wire = await Wire.open(strict)
        await wire.send(HEAD + "content-length: 1000\r\n\r\n{")
        reply = await wire.reply()
        assert b" 408 " in reply.splitlines()[0]
        assert b"the message did not arrive" in reply
        assert await wire.rest(3) == b""  # what is left of the body is not waited for


async def test_a_caller_who_leaves_in_the_middle_of_a_body_holds_nothing(
    strict: WebServer,
) -> None:
    async def fault() -> None:
        wire = await Wire.open(strict)
        await wire.send(HEAD + "content-length: 1000\r\n\r\n{")
        wire.close()

    await survives(strict.running, fault)


async def test_f27_a_caller_who_leaves_while_the_engine_works(shared_web: WebServer) -> None:
    raw = json.dumps({"inputs": [{"image": encoded()}]})
    async with unharmed(shared_web.running):
        with blocked(shared_web.running):
            wire = await Wire.open(shared_web)
            await wire.send(HEAD + f"content-length: {len(raw)}\r\n\r\n{raw}")
            assert await eventually(shared_web.running.engine.entered.is_set)
            wire.close()
            gauge = "sparseclip_calls_in_flight{}"
            assert await eventually(lambda: shared_web.running.gauges()[gauge] == 0)


async def test_f28_who_reads_nothing_is_cut_off(strict: WebServer) -> None:
    body = {"input": ["dog"] * 256, "embedding_types": ["sparse", "float"]}
    raw = json.dumps(body)
    head = HEAD.replace("/v1/embed ", "/v1/embeddings ") + f"content-length: {len(raw)}\r\n\r\n"
    async with unharmed(strict.running):
        wire = await Wire.open(strict)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(40):  # pipelined: more than the buffers of the system hold
            await asyncio.wait_for(wire.send(head + raw), 5)
        gauge = "sparseclip_calls_in_flight{}"
        assert await eventually(lambda: strict.running.gauges()[gauge] == 0, 20)
        wire.close()


async def test_f28_who_reads_no_page_is_cut_off_as_well(strict: WebServer) -> None:
    wire = await Wire.open(strict)
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    listener: Any = strict.running.server._http
    connections = listener._state.connections
    assert await eventually(lambda: len(connections) > 0)
    [connection] = [c for c in connections if c.client == wire.writer.get_extra_info("sockname")]
    for _ in range(60):
        await wire.send("GET /docs HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * 4)
    assert await eventually(lambda: connection not in connections, 20)
    wire.close()


async def test_f25_a_deadline_of_the_caller(shared_web: WebServer) -> None:
    with blocked(shared_web.running):
        reply = await shared_web.client.post(
            "/v1/embed",
            json={"inputs": [{"image": encoded()}]},
            headers={"sparseclip-timeout": "0.2"},
        )
    assert reply.status_code == 504
    checked(reply)
    passed = {"sparseclip-timeout": "0", **JSON}
    reply = await shared_web.client.post("/v1/embed", content=b"{}", headers=passed)
    assert reply.status_code == 504
    for text in ("nan", "a", "inf"):
        reply = await shared_web.client.get("/v1/models", headers={"sparseclip-timeout": text})
        assert reply.status_code == 400
        assert checked(reply)["field"] == "sparseclip-timeout"


async def test_a_full_server_says_when_to_come_again(tiny_bundle: Path) -> None:
    body = {"inputs": [{"image": encoded()}]}
    async with web(tiny_bundle, limits={"calls_in_flight": 1}) as opened:
        async with unharmed(opened.running):
            with blocked(opened.running):
                first = asyncio.ensure_future(opened.post("/v1/embed", body))
                assert await eventually(opened.running.engine.entered.is_set)
                reply = await opened.client.post("/v1/embed", json=body)
                assert (await opened.client.get("/healthz")).status_code == 200
            await first
        assert reply.status_code == 429
        assert reply.headers["retry-after"] == "1"
        assert reply.headers["retry-after-ms"] == "500"
        assert checked(reply)["retry_after"] == 0.5


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"],
)
async def test_a_body_of_another_type_is_not_read(shared_web: WebServer, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    reply = await shared_web.client.post("/v1/embed", content=b"{}", headers=headers)
    assert reply.status_code == 415
    checked(reply)


NOT_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"hello\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\n\r\n",  # no host
    b"GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    b"GET /healthz HTTP/9.9\r\nhost: a\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
    b"GET /healthz HTTP/1.1\r\nhost : a\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nhost: a\x00b\r\n\r\n",
]
SMUGGLED = "GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
AMBIGUOUS = [
    HEAD + f"content-length: 5\r\ncontent-length: 6\r\n\r\n00000{SMUGGLED}",
    HEAD + f"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    HEAD + f"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    HEAD + f"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    HEAD + f"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{SMUGGLED}",
    HEAD + f"content-length: +5\r\n\r\n00000{SMUGGLED}",
    HEAD + f"content-length: -1\r\n\r\n{SMUGGLED}",
    HEAD + f"transfer-encoding: chunked\r\n\r\nzz\r\n{SMUGGLED}",
]


@pytest.mark.parametrize("raw", [*NOT_HTTP, *(text.encode() for text in AMBIGUOUS)])
async def test_what_is_not_http_is_refused_and_closed(strict: WebServer, raw: bytes) -> None:
    async with unharmed(strict.running):
        wire = await Wire.open(strict)
        await wire.send(raw)
        reply = await wire.rest(5)
        assert reply == b"" or reply.split()[1] in (b"400", b"431")
        assert b'"object":"list"' not in reply  # the second request was no request
        assert_clean(reply.decode("latin-1").partition("\r\n\r\n")[2])


async def test_a_chunk_that_is_no_chunk_ends_the_connection(strict: WebServer) -> None:
    async def fault() -> None:
        wire = await Wire.open(strict)
        await wire.send(HEAD + "transfer-encoding: chunked\r\n\r\n1\r\n{\r\nzz\r\n")
        assert await wire.rest(5) is not None

    await survives(strict.running, fault, repeats=20)


async def test_an_image_that_is_an_address_opens_no_connection(
    shared_web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-16: a spy sees that the server looks nothing up."""
    asked: list[Any] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", lambda *a, **k: asked.append(a))
    for url in ("http://127.0.0.1:1/a", "file:///etc/passwd", "ftp://a/b", "//a/b", "gopher://a"):
        for body in (
            {"input": [url], "modality": "image"},
            {"input": [{"image": url}]},
            {"input": [url]},
        ):
            reply = await shared_web.client.post("/v1/embeddings", json=body)
            assert reply.status_code == (200 if body == {"input": [url]} else 400)
    assert asked == []
    await shared_web.post("/v1/embeddings", {"input": [data_uri()], "modality": "image"})
