"""When a call is sent again, and after how long."""

from __future__ import annotations

import random

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseclip import CallError, RetryPolicy

RETRYABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
BUSY = CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_only_two_codes_are_retried(code: grpc.StatusCode) -> None:
    delay = RetryPolicy().delay(CallError(code, ""), attempt=1, remaining=10, rng=random.Random(0))
    assert (delay is not None) == (code in RETRYABLE)


@given(attempt=st.integers(1, 20), seed=st.integers(0, 2**16))
def test_waits_are_jittered_below_a_doubling_ceiling(attempt: int, seed: int) -> None:
    policy = RetryPolicy(attempts=100, first_delay=0.1, max_delay=3.0)
    delay = policy.delay(BUSY, attempt=attempt, remaining=10, rng=random.Random(seed))
    assert delay is not None
    assert 0 <= delay <= min(3.0, 0.1 * 2 ** (attempt - 1))


def test_two_clients_do_not_wait_in_step() -> None:
    policy = RetryPolicy()
    delays = {
        policy.delay(BUSY, attempt=3, remaining=10, rng=random.Random(seed)) for seed in range(20)
    }
    assert len(delays) == 20


@given(seed=st.integers(0, 2**16))
def test_a_named_delay_is_a_floor(seed: int) -> None:
    error = CallError(grpc.StatusCode.UNAVAILABLE, "", retry_after=1.5)
    delay = RetryPolicy().delay(error, attempt=1, remaining=10, rng=random.Random(seed))
    assert delay is not None
    assert 1.5 <= delay <= 1.6


def test_no_wait_outlasts_the_deadline() -> None:
    error = CallError(grpc.StatusCode.UNAVAILABLE, "", retry_after=1.5)
    assert RetryPolicy().delay(error, attempt=1, remaining=1.4, rng=random.Random(0)) is None


def test_attempts_are_bounded() -> None:
    policy = RetryPolicy(attempts=3)
    rng = random.Random(0)
    tries = [policy.delay(BUSY, attempt=n, remaining=9, rng=rng) for n in (1, 2, 3)]
    assert [entry is None for entry in tries] == [False, False, True]


def test_a_call_that_the_server_asks_for_again_is_sent_until_its_deadline() -> None:
    asked = CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", retry_after=1.0)
    policy, rng = RetryPolicy(attempts=3), random.Random(0)
    assert policy.delay(asked, attempt=2_000, remaining=9, rng=rng) is not None
    assert policy.delay(asked, attempt=2, remaining=0.9, rng=rng) is None
    assert RetryPolicy(attempts=1).delay(asked, attempt=1, remaining=9, rng=rng) is None
