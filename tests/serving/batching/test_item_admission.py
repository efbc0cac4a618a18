"""What a batcher admits, by what its runs have taken so far."""

from __future__ import annotations

import asyncio

import pytest

from serving.batching.item_admission import AdmissionConfig, ItemAdmission
from serving.core.errors import ErrorKind, ServingError
from serving.core.metrics import Metrics


def admission_of(*, slots: int = 100, max_ahead_s: float = 60.0) -> ItemAdmission:
    """Admission to a batcher whose runs of 4 took 0.4 s each, apart from one that was stalled."""
    config = AdmissionConfig(slots=slots, max_ahead_s=max_ahead_s)
    admission = ItemAdmission(config, Metrics().batcher("image").slots, asyncio.Event())
    for run_s in (0.4, 0.4, 5.0, 0.4):
        admission.times.observe(run_s, 4, runs=1, admitted=4, now=0.0)
    return admission


def is_admitted(admission: ItemAdmission, count: int, seconds: float) -> bool:
    """Whether a call with this much time left is admitted; it leaves at once."""
    try:
        with admission.admit(count, asyncio.get_running_loop().time() + seconds):
            return True
    except ServingError as error:
        refusal = error
    assert refusal.kind is ErrorKind.EXHAUSTED
    assert refusal.retry_after is not None
    assert 0.1 <= refusal.retry_after <= 5.0
    return False


async def test_a_call_whose_deadline_would_pass_is_refused() -> None:
    admission = admission_of()
    assert is_admitted(admission, 1, 0.01)  # nothing is ahead: it may try
    with admission.admit(9, asyncio.get_running_loop().time() + 60):
        # Ten items of 0.1 s each and the run that goes on: 1.4 s.
        assert not is_admitted(admission, 1, 1.3)
        assert is_admitted(admission, 1, 1.5)
        assert not is_admitted(admission, 10, 2.0)
    assert admission.admitted == 0


async def test_a_call_is_refused_for_too_much_work_or_no_free_slot() -> None:
    admission = admission_of(max_ahead_s=1.0)
    with admission.admit(10, asyncio.get_running_loop().time() + 60):
        assert is_admitted(admission, 1, 60)
        with admission.admit(1, asyncio.get_running_loop().time() + 60):
            assert not is_admitted(admission, 1, 60)
    admission = admission_of(slots=12)
    with admission.admit(10, asyncio.get_running_loop().time() + 60):
        assert is_admitted(admission, 2, 60)
        assert not is_admitted(admission, 3, 60)


async def test_before_the_first_run_only_slots_count() -> None:
    config = AdmissionConfig(slots=4, max_ahead_s=0.001)
    admission = ItemAdmission(config, Metrics().batcher("image").slots, asyncio.Event())
    with admission.admit(3, asyncio.get_running_loop().time() + 60):
        assert is_admitted(admission, 1, 0.01)
        assert not is_admitted(admission, 2, 60)


async def test_streams_wait_for_half_of_the_slots_and_have_no_deadline() -> None:
    admission = admission_of(slots=4)
    entered: list[int] = []
    leave = asyncio.Event()

    async def item(number: int) -> None:
        async with admission.admit_when_free():
            entered.append(number)
            await leave.wait()

    tasks = [asyncio.create_task(item(n)) for n in range(3)]
    await asyncio.sleep(0.01)
    assert entered == [0, 1]
    with pytest.raises(ServingError), admission.admit(3, asyncio.get_running_loop().time() + 60):
        pass
    leave.set()
    await asyncio.gather(*tasks)
    assert entered == [0, 1, 2]
    assert admission.admitted == 0


async def test_slots_that_one_call_frees_go_to_every_stream_item_that_fits() -> None:
    admission = admission_of(slots=8)
    entered: list[int] = []
    leave = asyncio.Event()

    async def item(number: int) -> None:
        async with admission.admit_when_free():
            entered.append(number)
            await leave.wait()

    with admission.admit(8, asyncio.get_running_loop().time() + 60):
        tasks = [asyncio.create_task(item(n)) for n in range(6)]
        await asyncio.sleep(0.01)
        assert entered == []
    await asyncio.sleep(0.01)
    assert entered == [0, 1, 2, 3]
    leave.set()
    await asyncio.gather(*tasks)
    assert admission.admitted == 0


async def test_bulk_work_fills_half_of_a_queue_and_little_of_it_is_ahead_of_other_calls() -> None:
    admission = admission_of(slots=40, max_ahead_s=4.0)
    later = asyncio.get_running_loop().time() + 60
    with pytest.raises(ServingError), admission.admit(21, later, "bulk"):
        pass
    with admission.admit(20, later, "bulk"):
        with pytest.raises(ServingError), admission.admit(1, later, "bulk"):
            pass
        # Three items of 0.1 s each, one bulk item between them, and the run that goes on: 0.8 s.
        assert is_admitted(admission, 3, 0.9)
        assert not is_admitted(admission, 3, 0.7)
    assert admission.admitted == 0
