"""The rate of answered images."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from benchmarks.serving import served_rate


async def slow_to_end(every_s: float, end_s: float) -> AsyncIterator[int]:
    """Two images every `every_s`; when it is closed, `end_s` pass as for calls in flight."""
    try:
        while True:
            await asyncio.sleep(every_s)
            yield 2
    finally:
        await asyncio.sleep(end_s)


def test_the_wait_for_calls_that_are_not_counted_does_not_count() -> None:
    rate = asyncio.run(served_rate(slow_to_end(0.05, 1.0), seconds=0.4))
    assert rate == pytest.approx(40, rel=0.3)  # with the wait it would be 12
