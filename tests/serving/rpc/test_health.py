"""Health by service, and those who watch it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from serving.core.errors import ErrorKind, ServingError
from serving.rpc.health import HealthService

STATES = health_pb2.HealthCheckResponse
CONTEXT: Any = None


def request(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


async def test_services_start_down_and_have_states_of_their_own() -> None:
    health = HealthService(("embedding", "chat"))
    assert (await health.Check(request(""), CONTEXT)).status == STATES.NOT_SERVING
    health.set_serving(True, without=("chat",))
    states = [(await health.Check(request(n), CONTEXT)).status for n in ("", "embedding", "chat")]
    assert states == [STATES.SERVING, STATES.SERVING, STATES.NOT_SERVING]
    with pytest.raises(ServingError) as caught:
        await health.Check(request("no such service"), CONTEXT)
    assert caught.value.kind is ErrorKind.NOT_FOUND


async def test_a_watcher_sees_the_state_now_and_every_change() -> None:
    health = HealthService(("embedding",))
    watch = health.Watch(request("embedding"), CONTEXT)
    unknown = health.Watch(request("no such service"), CONTEXT)
    assert (await anext(watch)).status == STATES.NOT_SERVING
    assert (await anext(unknown)).status == STATES.SERVICE_UNKNOWN
    change = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    health.set_serving(False)  # no change: nothing is sent
    await asyncio.sleep(0.01)
    assert not change.done()
    health.set_serving(True)
    assert (await change).status == STATES.SERVING
