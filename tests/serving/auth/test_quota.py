"""How much one principal may use."""

from __future__ import annotations

import asyncio

import pytest

from serving.auth.quota import Quota
from serving.auth.tokens import Principal
from serving.core.errors import ErrorKind, ServingError


def test_quota_is_a_token_bucket() -> None:
    now = 0.0
    principal = Principal(name="a", requests_per_second=2.0, burst=3.0, concurrent_calls=4)
    quota = Quota(principal, clock=lambda: now)
    for _ in range(3):
        quota.start_call()
        quota.end_call()
    with pytest.raises(ServingError) as caught:
        quota.start_call()
    assert caught.value.kind is ErrorKind.EXHAUSTED
    assert caught.value.retry_after == pytest.approx(0.5)
    now = 0.5
    quota.start_call()
    now = 100.0
    for _ in range(3):
        quota.start_call()
    now = 200.0
    with pytest.raises(ServingError, match="same time"):
        quota.start_call()


def test_without_bounds_nothing_is_refused() -> None:
    quota = Quota(Principal(name="a"), clock=lambda: 0.0)
    for _ in range(1_000):
        quota.start_call()
    assert quota.calls == 1_000


async def test_an_item_of_a_stream_waits_for_the_quota_and_is_not_refused() -> None:
    loop = asyncio.get_running_loop()
    quota = Quota(Principal(name="a", requests_per_second=20.0, burst=1.0), clock=loop.time)
    started = loop.time()
    for _ in range(4):
        await quota.charge_item()
    # One from the bucket, then three at 20 per second.
    assert 0.14 <= loop.time() - started < 2
