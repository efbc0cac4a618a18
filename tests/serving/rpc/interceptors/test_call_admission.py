"""Which calls are admitted: while the server starts, runs and drains, and beyond its bounds."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Gauge

from serving.auth.tokens import ANONYMOUS, Principal
from serving.core.errors import ErrorKind, ServingError
from serving.core.limits import LimitsConfig
from serving.core.metrics import Metrics
from serving.rpc.interceptors.call_admission import CallAdmission, ChatAdmission
from serving.rpc.interceptors.method_policy import Policy


def admission_of(*, is_open: bool = True, **limits: int) -> CallAdmission:
    admission = CallAdmission(LimitsConfig(**limits), Metrics())  # type: ignore[arg-type]
    if is_open:
        admission.open()
    return admission


def refusal(
    admission: CallAdmission, size: int = 1, principal: Principal = ANONYMOUS
) -> ServingError:
    """The error of a call that must be refused."""
    with pytest.raises(ServingError) as caught, admission.admit(principal, size, Policy()):
        pass
    return caught.value


async def test_calls_are_refused_while_the_server_starts_and_drains() -> None:
    admission = admission_of(is_open=False)
    error = refusal(admission)
    assert (error.kind, error.message) == (ErrorKind.UNAVAILABLE, "the server is starting")
    admission.open()
    with admission.admit(ANONYMOUS, 1, Policy()):
        admission.drain()
        assert refusal(admission).message == "the server is shutting down"
        with admission.admit(ANONYMOUS, 1, Policy(admission=False)):  # health is still answered
            assert admission.calls == 1
        assert not await admission.wait_until_empty(0.01)
    assert await admission.wait_until_empty(0.01)


async def test_calls_and_their_bytes_are_bounded() -> None:
    admission = admission_of(calls_in_flight=2, bytes_in_flight=100)
    with admission.admit(ANONYMOUS, 60, Policy()):
        error = refusal(admission, size=50)
        assert (error.kind, error.message) == (ErrorKind.EXHAUSTED, "too many bytes in flight")
        assert error.retry_after is not None
        with admission.admit(ANONYMOUS, 40, Policy()):
            assert refusal(admission, size=0).message == "too many calls"
    with admission.admit(ANONYMOUS, 1_000, Policy()):  # alone, a large message is admitted
        pass
    assert admission.calls == 0


async def test_a_call_that_its_quota_refuses_takes_no_slot() -> None:
    admission = admission_of()
    principal = Principal(name="slow", concurrent_calls=1)
    with admission.admit(principal, 1, Policy()):
        assert refusal(admission, principal=principal).kind is ErrorKind.EXHAUSTED
        assert admission.calls == 1
    with admission.admit(principal, 1, Policy()):
        pass


async def test_a_principal_that_changed_gets_a_new_quota() -> None:
    admission = admission_of()
    before = Principal(name="a", requests_per_second=0.001, burst=1.0)
    with admission.admit(before, 1, Policy()):
        pass
    assert refusal(admission, principal=before).message == "too many requests"
    after = Principal(name="a", requests_per_second=0.001, burst=2.0)
    with admission.admit(after, 1, Policy()) as quota:
        assert quota.principal is after


def test_conversations_have_a_bound_of_their_own() -> None:
    gauge = Gauge("chats", "Conversations.", registry=CollectorRegistry())
    admission = ChatAdmission(2, gauge)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(admission.admit())
        with pytest.raises(ServingError) as caught, admission.admit():
            pass
        assert (caught.value.kind, caught.value.retry_after) == (ErrorKind.EXHAUSTED, 1.0)
        assert gauge._value.get() == 2
    assert gauge._value.get() == 0
    with admission.admit():
        pass
