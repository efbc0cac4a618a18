"""Which items share a run, and when a second run begins beside the first."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from bundle import bounded_log
from serving.batching.batcher import Batcher, BatcherConfig
from serving.batching.item_admission import AdmissionConfig, Permits
from serving.batching.item_results import EmbeddedItem
from serving.core.errors import ServingError
from serving.core.metrics import Metrics
from serving.engines.base import EngineError
from serving.engines.outputs import OutputRow
from tests.serving.support.running_server import eventually


class Gated:
    """Runs of a batcher that wait for `open`; an item's number comes back as its norm."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.batches: list[list[int]] = []

    @property
    def sizes(self) -> list[int]:
        """How many items each run had."""
        return list(map(len, self.batches))

    def __call__(self, inputs: NDArray[Any]) -> list[OutputRow | EngineError]:
        self.batches.append([int(row[0]) for row in inputs])
        assert self.open.wait(30)
        nothing = np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.float32)
        return [
            OutputRow(
                indices=nothing[0],
                values=nothing[1],
                active=0,
                norm=float(row[0]),
                dense=nothing[1],
                patches=None,
            )
            for row in inputs
        ]


def batcher_of(gate: Gated, *, wait_s: float, runs: int = 1) -> Batcher:
    """A batcher of batches of 4."""
    admission = AdmissionConfig(slots=64, max_ahead_s=60.0)
    config = BatcherConfig(
        graph="image", admission=admission, max_batch=4, runs=runs, wait_s=wait_s
    )
    return Batcher(gate, config, Metrics().batcher("image"), lambda succeeded: None)


@pytest_asyncio.fixture
async def gated() -> AsyncIterator[tuple[Batcher, Gated]]:
    """A batcher of batches of 4 and two runs at a time, and its gate, closed."""
    gate = Gated()
    batcher = batcher_of(gate, runs=2, wait_s=0.002)
    yield batcher, gate
    gate.open.set()
    await batcher.close()


def submit(
    batcher: Batcher, permits: Permits, numbers: range
) -> list[asyncio.Future[EmbeddedItem]]:
    deadline = asyncio.get_running_loop().time() + 30
    return [batcher.submit(np.array([n], dtype=np.float32), deadline, permits) for n in numbers]


async def test_idle_runs_share_what_there_is(gated: tuple[Batcher, Gated]) -> None:
    batcher, gate = gated
    with batcher.admission.admit(6, math.inf) as permits:
        futures = submit(batcher, permits, range(6))
        assert await eventually(lambda: gate.sizes == [3, 3])
        gate.open.set()
        assert [(await future).row.norm for future in futures] == list(range(6))


async def test_a_second_run_waits_for_what_is_coming(gated: tuple[Batcher, Gated]) -> None:
    batcher, gate = gated
    with batcher.admission.admit(5, math.inf) as permits:
        futures = submit(batcher, permits, range(1))
        assert await eventually(lambda: gate.sizes == [1])  # the engine was idle
        futures += submit(batcher, permits, range(1, 3))
        await asyncio.sleep(0.05)
        assert gate.sizes == [1]
        futures += submit(batcher, permits, range(3, 4))
        permits.use()  # the last one could not be decoded
        assert await eventually(lambda: gate.sizes == [1, 3])
        gate.open.set()
        assert [(await future).row.norm for future in futures] == list(range(4))


async def test_a_full_batch_does_not_wait(gated: tuple[Batcher, Gated]) -> None:
    batcher, gate = gated
    with batcher.admission.admit(20, math.inf) as permits:
        futures = submit(batcher, permits, range(1))
        assert await eventually(lambda: gate.sizes == [1])
        futures += submit(batcher, permits, range(1, 9))
        assert await eventually(lambda: gate.sizes == [1, 4])
        await asyncio.sleep(0.05)
        assert gate.sizes == [1, 4]  # both are busy: four wait
        gate.open.set()
        assert [(await future).row.norm for future in futures] == list(range(9))
        assert gate.sizes == [1, 4, 4]


async def test_what_waits_is_taken_when_a_run_ends(gated: tuple[Batcher, Gated]) -> None:
    batcher, gate = gated
    with batcher.admission.admit(9, math.inf) as permits:
        futures = submit(batcher, permits, range(1))
        assert await eventually(lambda: gate.sizes == [1])
        futures += submit(batcher, permits, range(1, 3))  # six are still being decoded
        gate.open.set()
        assert [(await future).row.norm for future in futures] == list(range(3))
        assert gate.sizes == [1, 2]


async def test_interactive_items_come_before_bulk_ones_and_leave_them_a_share() -> None:
    gate = Gated()
    batcher = batcher_of(gate, wait_s=0.0)
    try:
        with (
            batcher.admission.admit(1, math.inf) as first,
            batcher.admission.admit(12, math.inf, "bulk") as bulk,
            batcher.admission.admit(6, math.inf) as interactive,
        ):
            futures = submit(batcher, first, range(1))
            assert await eventually(lambda: gate.sizes == [1])  # the run is busy
            futures += submit(batcher, bulk, range(20, 32))
            futures += submit(batcher, interactive, range(10, 16))
            gate.open.set()
            await asyncio.gather(*futures)
    finally:
        await batcher.close()
    order = [number for batch in gate.batches[1:] for number in batch]
    assert order == [10, 11, 12, 20, 13, 14, 15, 21, *range(22, 32)]


@pytest.mark.parametrize("pays", [True, False])
async def test_an_idle_engine_waits_for_what_is_coming_only_where_it_pays(pays: bool) -> None:
    gate = Gated()
    gate.open.set()
    batcher = batcher_of(gate, wait_s=30.0)
    for number in range(8):
        batcher._delay.on_item(-100 + number * (0.001 if pays else 0.1), others=number < 7)
    for items in (1, 2):
        batcher._delay.on_run(items, 0.02 + items * 0.001)
    try:
        with batcher.admission.admit(2, math.inf) as permits:
            [first] = submit(batcher, permits, range(1))
            if pays:
                for _ in range(20):
                    await asyncio.sleep(0)
                assert batcher._idle  # no run has begun
            else:
                await first
            await asyncio.gather(first, *submit(batcher, permits, range(1, 2)))
            assert gate.sizes == ([2] if pays else [1, 1])
    finally:
        await batcher.close()


async def test_a_broken_engine_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Every item fails, and the log says how many did."""

    def run(inputs: NDArray[Any]) -> list[OutputRow | EngineError]:
        return [EngineError("broken") for _ in inputs]

    count = 1000
    admission = AdmissionConfig(slots=count, max_ahead_s=60.0)
    config = BatcherConfig(graph="image", admission=admission, max_batch=32, runs=1, wait_s=0.0)
    batcher = Batcher(run, config, Metrics().batcher("image"), lambda succeeded: None)
    with batcher.admission.admit(count, math.inf) as permits:
        answers = await asyncio.gather(
            *submit(batcher, permits, range(count)), return_exceptions=True
        )
    assert {type(answer) for answer in answers} == {ServingError}
    await batcher.close()
    first = bounded_log.FIRST_LINES
    assert caplog.messages == [
        *["engine: broken"] * first,
        f"{count - first} more lines like this one: engine: broken",
    ]
