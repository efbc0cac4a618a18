"""Callers that each wait for an answer before they call again."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.base import EmbeddingCaller, RefusedError

WAVES = 3
RETRY_S = 0.1
"""A caller that was refused tries again after so many seconds. Its latency counts from the first
try."""


@dataclass(frozen=True, kw_only=True)
class ClosedBlock:
    """What one block measured."""

    images_per_second: float
    latencies_ms: list[float]
    """Of the calls that were answered in the block."""


async def closed_loop(
    caller: EmbeddingCaller,
    messages: Sequence[bytes],
    *,
    images_each: int,
    concurrency: int,
    seconds: float,
) -> ClosedBlock:
    """Keeps `concurrency` calls in flight for `seconds`, or until there were WAVES for each caller.

    Calls that are still in flight are then awaited, so that they do not run into the next block.
    """
    turns = itertools.cycle(messages)
    answered: list[tuple[float, float]] = []
    started = time.perf_counter()

    least = WAVES * concurrency

    def goes_on() -> bool:
        return time.perf_counter() - started < seconds or len(answered) < least

    async def one_caller() -> None:
        while goes_on():
            begun, message = time.perf_counter(), next(turns)
            while await _is_refused(caller, message):
                await asyncio.sleep(RETRY_S)
            answered.append((begun, time.perf_counter()))

    await asyncio.gather(*(one_caller() for _ in range(concurrency)))
    return block_of(answered, images_each, started, started + seconds, least)


async def _is_refused(caller: EmbeddingCaller, message: bytes) -> bool:
    try:
        await caller.send(message)
    except RefusedError:
        return True
    return False


def block_of(
    answered: list[tuple[float, float]],
    images_each: int,
    started: float,
    end: float,
    least: int,
) -> ClosedBlock:
    """The figures of calls, which are given as begun and answered, in seconds.

    The rate is over the time from the start to the last answer that counts. No answer is left out:
    a server that answers a whole batch at once has worked on all of it from the start. Answers
    after `end` count only where fewer than `least` came before it.
    """
    ordered = sorted(answered, key=lambda call: call[1])
    kept = ordered[: max(least, sum(done <= end for _, done in ordered))]
    return ClosedBlock(
        images_per_second=len(kept) * images_each / (kept[-1][1] - started),
        latencies_ms=[(done - begun) * 1e3 for begun, done in kept],
    )
