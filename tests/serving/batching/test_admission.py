"""What is let into a batcher, by what its runs have taken so far."""

from __future__ import annotations

import asyncio

import pytest

from serving.batching.admission import AdmissionConfig, ItemAdmission
from serving.core.errors import ErrorKind, ServingError
from serving.core.metrics import Metrics


def room(*, capacity: int = 100, max_ahead_s: float = 60.0) -> ItemAdmission:
    """One whose runs of 4 took 0.4 s each, apart from one that was stalled."""
    config = AdmissionConfig(capacity=capacity, max_ahead_s=max_ahead_s)
    made = ItemAdmission(config, Metrics().batcher("image").slots, asyncio.Event())
    for run_s in (0.4, 0.4, 5.0, 0.4):
        made.observe(run_s, run_s / 4)
    return made


def let_in(tested: ItemAdmission, count: int, seconds: float) -> bool:
    """Whether a call with so much time left is let in; it leaves at once."""
    try:
        with tested.admit(count, asyncio.get_running_loop().time() + seconds):
            return True
    except ServingError as error:
        refusal = error
    assert refusal.kind is ErrorKind.EXHAUSTED
    assert refusal.retry_after is not None
    assert 0.1 <= refusal.retry_after <= 5.0
    return False


async def test_a_call_whose_deadline_would_pass_is_refused() -> None:
    tested = room()
    assert let_in(tested, 1, 0.01)  # nothing is ahead: it may try
    with tested.admit(9, asyncio.get_running_loop().time() + 60):
        # Ten items of 0.1 s each and the run that goes on: 1.4 s.
        assert not let_in(tested, 1, 1.3)
        assert let_in(tested, 1, 1.5)
        assert not let_in(tested, 10, 2.0)
    assert tested.admitted == 0


async def test_a_call_is_refused_for_too_much_work_or_no_place() -> None:
    tested = room(max_ahead_s=1.0)
    with tested.admit(10, asyncio.get_running_loop().time() + 60):
        assert let_in(tested, 1, 60)
        with tested.admit(1, asyncio.get_running_loop().time() + 60):
            assert not let_in(tested, 1, 60)
    tested = room(capacity=12)
    with tested.admit(10, asyncio.get_running_loop().time() + 60):
        assert let_in(tested, 2, 60)
        assert not let_in(tested, 3, 60)


async def test_before_the_first_run_only_places_count() -> None:
    config = AdmissionConfig(capacity=4, max_ahead_s=0.001)
    tested = ItemAdmission(config, Metrics().batcher("image").slots, asyncio.Event())
    with tested.admit(3, asyncio.get_running_loop().time() + 60):
        assert let_in(tested, 1, 0.01)
        assert not let_in(tested, 2, 60)


async def test_streams_wait_for_half_of_the_places_and_no_deadline() -> None:
    tested = room(capacity=4)
    entered: list[int] = []
    leave = asyncio.Event()

    async def item(number: int) -> None:
        async with tested.admit_when_free():
            entered.append(number)
            await leave.wait()

    tasks = [asyncio.create_task(item(n)) for n in range(3)]
    await asyncio.sleep(0.01)
    assert entered == [0, 1]
    with pytest.raises(ServingError), tested.admit(3, asyncio.get_running_loop().time() + 60):
        pass
    leave.set()
    await asyncio.gather(*tasks)
    assert entered == [0, 1, 2]
    assert tested.admitted == 0
