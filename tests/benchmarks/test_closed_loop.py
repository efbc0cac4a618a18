"""Rates and ratios of callers that wait for answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.beside_peers import over, parity
from benchmarks.closed_loop import block_of, closed_loop


def test_a_batch_that_is_answered_at_once_counts_from_its_start() -> None:
    answered = [(0.0, 2.0)] * 8 + [(2.0, 4.0)] * 8 + [(4.0, 6.0)] * 8
    block = block_of(answered, images_each=2, started=0.0, end=4.5, least=4)
    assert block.images_per_second == pytest.approx(8.0)
    assert block.latencies_ms == [2000.0] * 16


def test_calls_longer_than_the_block_still_give_a_rate() -> None:
    calls = [(0.0, 5.0), (5.0, 10.0), (10.0, 15.0), (15.0, 21.0)]
    block = block_of(calls, images_each=32, started=0.0, end=1.0, least=3)
    assert block.images_per_second == pytest.approx(6.4)


class CountingCaller:
    """Answers after a moment, and counts the calls in flight."""

    def __init__(self) -> None:
        self.in_flight = self.most = 0

    def message(self, images: Sequence[bytes]) -> bytes:
        return b"".join(images)

    async def send(self, message: bytes) -> bytes:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        return message

    def vectors(self, reply: bytes) -> NDArray[np.float32]:
        return np.zeros((1, 1), dtype=np.float32)


def test_as_many_calls_are_in_flight_as_was_asked() -> None:
    caller = CountingCaller()
    work = closed_loop(caller, [b"a", b"b"], images_each=1, concurrency=5, seconds=0.01)
    asyncio.run(work)
    assert caller.most == 5
    assert caller.in_flight == 0


def test_ratios_are_taken_block_by_block() -> None:
    rates = {"one": {"ours": [2.0, 9.0], "peer": [1.0, 3.0]}, "other": {"ours": [1.0]}}
    assert over(rates, "peer") == {"one": {"ours": {"median": 2.5, "min": 2.0, "max": 3.0}}}


def test_parity_does_not_depend_on_length() -> None:
    ours = np.array([[1, 0], [0, 2]], dtype=np.float32)
    theirs = np.array([[3, 0], [1, 1]], dtype=np.float32)
    assert parity(ours, theirs) == {"min": 0.707107, "mean": 0.853553}
