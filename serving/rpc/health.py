"""grpc.health.v1, service by service. A watcher that does not read disturbs nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable

from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.core.errors import ErrorKind, ServingError
from serving.rpc.call_context import RpcContext

_STATES = health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # without types
    """Answers for the services of one port; the empty name stands for the whole server."""

    def __init__(self, services: Iterable[str]) -> None:
        self._serving = dict.fromkeys(("", *services), False)
        self._changed = asyncio.Event()

    def set_serving(self, serving: bool, without: Collection[str] = ()) -> None:
        """Sets the state of every service and wakes those who watch; `without` names services that
        are not served in any case."""
        self._serving = {name: serving and name not in without for name in self._serving}
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: RpcContext
    ) -> health_pb2.HealthCheckResponse:
        """The state of a service. Raises ServingError for one that this port does not have."""
        if request.service not in self._serving:
            raise ServingError(ErrorKind.NOT_FOUND, "no such service")
        return _STATES(status=self._state(request.service))

    async def List(  # noqa: N802
        self, request: health_pb2.HealthListRequest, context: RpcContext
    ) -> health_pb2.HealthListResponse:
        """The state of every service."""
        statuses = {name: _STATES(status=self._state(name)) for name in self._serving}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: RpcContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The state of a service now, and whenever it changes."""
        last = None
        while True:
            # Taken before the state: a change in between then wakes the wait below at once.
            changed = self._changed
            state = self._state(request.service)
            if state != last:
                yield _STATES(status=state)
                last = state
            await changed.wait()

    def _state(self, service: str) -> int:
        serving = self._serving.get(service)
        if serving is None:
            return int(_STATES.SERVICE_UNKNOWN)
        return int(_STATES.SERVING if serving else _STATES.NOT_SERVING)
