"""F-30: a retry storm after a stall. Times are those of faults.md times 0.4."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.engines.base import EngineOutput
from tests.serving.support.running_server import (
    PNG,
    Running,
    blocked,
    embed_request,
    eventually,
    serving,
    unharmed,
)

SCALE = 0.4
STALL_S, RECOVERY_S = 5 * SCALE, 10 * SCALE
LIMITS = {"queue_s": 2 * SCALE}
BATCH, RUN_S = 4, 0.1
CAPACITY = BATCH / RUN_S
"""Images per second of the engine below, on any machine."""
RATE = CAPACITY / 2
"""New requests per second, all the time."""
ATTEMPTS = 10
"""How often a caller tries; the pause between two attempts never grows."""
PAUSE_S, DEADLINE_S = 0.04, 1.0 * SCALE


@dataclass
class Request:
    """One caller's request, and how it went."""

    born: float
    attempts: int = 0
    answered: float | None = None
    codes: list[grpc.StatusCode] = field(default_factory=list)
    """Codes of the attempts that failed."""


async def want(running: Running, request: Request) -> None:
    """Sends a request until it is answered, up to ten times."""
    while request.attempts < ATTEMPTS:
        request.attempts += 1
        try:
            reply = await running.stub.Embed(embed_request(PNG), timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            request.codes.append(error.code())
            await asyncio.sleep(PAUSE_S)
            continue
        assert reply.results[0].status.code == 0
        request.answered = time.monotonic()
        return


class Callers:
    """New requests at an even rate, whatever becomes of those before."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self.requests: list[Request] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, seconds: float) -> None:
        """Makes requests for this long, and does not wait for their answers."""
        begun = time.monotonic()
        for n in range(round(seconds * RATE)):
            await asyncio.sleep(max(0.0, begun + n / RATE - time.monotonic()))
            request = Request(born=time.monotonic())
            self.requests.append(request)
            self._tasks.append(asyncio.create_task(want(self._running, request)))

    async def finish(self) -> None:
        """Waits for the last ones."""
        await asyncio.gather(*self._tasks)


def goodput(requests: list[Request]) -> float:
    """The share of requests that were answered in the time of one attempt."""
    good = [r.answered is not None and r.answered - r.born <= DEADLINE_S for r in requests]
    return sum(good) / len(good)


def slowly(output: EngineOutput) -> EngineOutput:
    """As if the engine were slow, but no burden for the machine."""
    time.sleep(RUN_S)
    return output


async def test_f30_goodput_is_back_soon_after_a_stall(
    tiny_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch: dict[str, Any] = {"max_images": BATCH}
    async with serving(tiny_bundle, limits=LIMITS, batch=batch) as running, unharmed(running):
        running.engine.change = slowly
        callers = Callers(running)
        await callers.run(2 * SCALE)
        assert await eventually(lambda: goodput(callers.requests) >= 0.9, DEADLINE_S)
        before = len(callers.requests)
        with blocked(running):
            await callers.run(STALL_S)
        stalled = callers.requests[before:]
        assert goodput(stalled) < 0.1
        storm = sum(request.attempts for request in stalled) / len(stalled)
        assert storm > ATTEMPTS / 2, f"no storm: {storm:.1f} attempts a request"
        before = len(callers.requests)
        await callers.run(RECOVERY_S)
        await callers.finish()
        after = callers.requests[before:]
        last = after[-round(SCALE * RATE) :]  # of the last of ten seconds
        assert goodput(last) >= 0.9, [goodput(after), goodput(last)]
        codes = {code for request in callers.requests for code in request.codes}
        assert codes <= {
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        }
        assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
        running.engine.change = lambda output: output
