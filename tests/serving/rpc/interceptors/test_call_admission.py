"""Which calls are admitted: while the server starts, runs and drains, and beyond its bounds."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import grpc
import pytest
from prometheus_client import CollectorRegistry, Gauge

from serving.auth.tokens import ANONYMOUS, Principal
from serving.core.errors import ErrorKind, ServingError
from serving.core.limits import LimitsConfig
from serving.core.metrics import Metrics
from serving.rpc.interceptors.call_admission import CallAdmission, ChatAdmission
from serving.rpc.interceptors.method_policy import Policy, policy_of


def admission_of(
    metrics: Metrics | None = None, *, is_open: bool = True, **limits: float
) -> CallAdmission:
    admission = CallAdmission(LimitsConfig(**limits), metrics or Metrics())  # type: ignore[arg-type]
    if is_open:
        admission.open()
    return admission


def gauge(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name)


def refusal(admission: CallAdmission, principal: Principal = ANONYMOUS) -> ServingError:
    """The error of a call that must be refused."""
    with pytest.raises(ServingError) as caught, admission.admit(principal, Policy()):
        pass
    return caught.value


class Context:
    """Stands for gRPC's: the message arrives when it is put in."""

    def __init__(self, message: object = None) -> None:
        self._arrived = asyncio.get_running_loop().create_future()
        if message is not None:
            self._arrived.set_result(message)

    async def read(self) -> object:
        return await self._arrived


async def test_calls_are_refused_while_the_server_starts_and_drains() -> None:
    admission = admission_of(is_open=False)
    error = refusal(admission)
    assert (error.kind, error.message) == (ErrorKind.UNAVAILABLE, "the server is starting")
    admission.open()
    with admission.admit(ANONYMOUS, Policy()):
        admission.drain()
        assert refusal(admission).message == "the server is shutting down"
        with admission.admit(ANONYMOUS, Policy(admission=False)):  # health is still answered
            assert admission.calls == 1
        assert not await admission.wait_until_empty(0.01)
    assert await admission.wait_until_empty(0.01)


async def test_calls_are_bounded() -> None:
    admission = admission_of(calls_in_flight=2)
    with admission.admit(ANONYMOUS, Policy()), admission.admit(ANONYMOUS, Policy()):
        error = refusal(admission)
        assert (error.kind, error.message) == (ErrorKind.EXHAUSTED, "too many calls")
        assert error.retry_after is not None
    assert admission.calls == 0


async def test_watches_of_health_have_a_bound_of_their_own() -> None:
    metrics = Metrics()
    admission = admission_of(metrics, calls_in_flight=1, watches=2)
    watch, check = (policy_of(f"/grpc.health.v1.Health/{name}") for name in ("Watch", "Check"))
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(admission.admit(ANONYMOUS, watch))
        with pytest.raises(ServingError) as caught, admission.admit(ANONYMOUS, watch):
            pass
        assert (caught.value.kind, caught.value.message) == (
            ErrorKind.EXHAUSTED,
            "too many watches",
        )
        assert caught.value.retry_after is not None
        with admission.admit(ANONYMOUS, check), admission.admit(ANONYMOUS, Policy()):
            assert gauge(metrics, "sparseclip_health_watches") == 2
    assert admission.watches == gauge(metrics, "sparseclip_health_watches") == 0


async def received(admission: CallAdmission, context: Context) -> bytes:
    return await admission.receive(context, Policy())  # type: ignore[arg-type]


async def test_bytes_are_bounded() -> None:
    admission = admission_of(bytes_in_flight=100)
    with admission.hold_bytes(60), admission.hold_bytes(40):
        with pytest.raises(ServingError) as caught, admission.hold_bytes(1):
            pass
        assert caught.value.message == "too many bytes in flight"
        assert caught.value.retry_after is not None
    with admission.hold_bytes(1_000):  # alone
        pass


async def test_a_call_without_a_message_is_refused() -> None:
    with pytest.raises(ServingError, match="holds no message"):
        await received(admission_of(), Context(grpc.aio.EOF))


async def test_messages_are_received_in_turn_and_in_time() -> None:
    metrics = Metrics()
    admission = admission_of(metrics, calls_reading=1, read_s=0.05)
    slow = asyncio.create_task(received(admission, Context()))
    await asyncio.sleep(0)
    fast = asyncio.create_task(received(admission, Context(b"x")))
    await asyncio.sleep(0)
    assert not fast.done()
    assert gauge(metrics, "sparseclip_calls_reading") == 1
    with pytest.raises(ServingError, match="did not arrive"):
        await slow
    assert await fast == b"x"
    assert gauge(metrics, "sparseclip_calls_reading") == 0


async def test_a_call_that_its_quota_refuses_takes_no_slot() -> None:
    admission = admission_of()
    principal = Principal(name="slow", concurrent_calls=1)
    with admission.admit(principal, Policy()):
        assert refusal(admission, principal=principal).kind is ErrorKind.EXHAUSTED
        assert admission.calls == 1
    with admission.admit(principal, Policy()):
        pass


async def test_a_principal_that_changed_gets_a_new_quota() -> None:
    admission = admission_of()
    before = Principal(name="a", requests_per_second=0.001, burst=1.0)
    with admission.admit(before, Policy()):
        pass
    assert refusal(admission, principal=before).message == "too many requests"
    after = Principal(name="a", requests_per_second=0.001, burst=2.0)
    with admission.admit(after, Policy()) as quota:
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
