"""How many connections there may be, and which gives way to a new one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.serving.http.support import WebServer, encoded, web
from tests.serving.http.test_limits import HEAD, Wire
from tests.serving.support.running_server import blocked, eventually, unharmed

pytestmark = pytest.mark.asyncio(loop_scope="module")

PING = "GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
MOST = 4


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def narrow(tiny_bundle: Path) -> AsyncIterator[WebServer]:
    async with web(tiny_bundle, limits={"http_connections": MOST}) as opened:
        yield opened


async def asks(opened: WebServer) -> Wire:
    """A connection that has had an answer."""
    wire = await Wire.open(opened)
    await wire.send(PING)
    assert (await wire.reply()).endswith(b"ok\n")
    return wire


async def test_who_says_nothing_keeps_nobody_out(narrow: WebServer) -> None:
    async with unharmed(narrow.running):
        idle = [await Wire.open(narrow) for _ in range(10 * MOST)]
        for _ in range(3):
            await (await asks(narrow)).send("GET /healthz HT")  # begins another, and waits
        ends = [asyncio.ensure_future(wire.rest()) for wire in idle]
        await asyncio.wait(ends, timeout=1)
        assert sum(not end.done() for end in ends) < MOST
        for end in ends:
            end.cancel()
        for wire in idle:
            wire.close()


async def test_the_one_that_has_waited_longest_gives_way(narrow: WebServer) -> None:
    first, second, *others = [await asks(narrow) for _ in range(MOST)]
    await first.send(PING)  # so that the second has waited longest
    await first.reply()
    new = await asks(narrow)
    assert await second.rest(5) == b""
    for wire in (first, *others, new):
        await wire.send(PING)
        assert (await wire.reply()).endswith(b"ok\n")
        wire.close()


async def test_calls_in_flight_are_not_cut_off(narrow: WebServer) -> None:
    raw = json.dumps({"inputs": [{"image": encoded()}]})
    async with unharmed(narrow.running):
        with blocked(narrow.running):
            busy = [await Wire.open(narrow) for _ in range(MOST)]
            for wire in busy:
                await wire.send(HEAD + f"content-length: {len(raw)}\r\n\r\n{raw}")
            gauge = "sparseclip_calls_in_flight{}"
            assert await eventually(lambda: narrow.running.gauges()[gauge] == MOST)
            late = await Wire.open(narrow)
            assert await late.rest(5) == b""
        for wire in busy:
            assert b" 200 " in (await wire.reply()).splitlines()[0]
            wire.close()
