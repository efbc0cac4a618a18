"""grpc.aio's server, with a fault mended that lets one caller end it.

In the loop that accepts calls, grpc.aio decodes the name of an unknown method as UTF-8. A name that
is not UTF-8 ends that loop, and with it the server. So calls of unknown methods are accepted here,
where nobody looks at the name. Known methods are not affected: gRPC compares their names byte by
byte.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not in the stubs

from serving.rpc.call_context import RpcContext

OnUnknown = Callable[[RpcContext], Awaitable[None]]
"""Ends a call of an unknown method."""


class _AioServer(cygrpc.AioServer):  # type: ignore[misc]  # without types
    """Accepts calls of known methods as grpc.aio does, and calls of unknown ones by itself."""

    def __init__(self, on_unknown: OnUnknown, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._on_unknown = on_unknown
        self._tasks: set[asyncio.Task[None]] = set()

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        if method is None:
            return asyncio.get_running_loop().create_task(self._accept_unknown())
        accepted: asyncio.Future[Any] = super()._make_request_call_future(method)
        return accepted

    async def _accept_unknown(self) -> None:
        """Answers calls until the server stops, which raises as grpc.aio expects it."""
        loop = asyncio.get_running_loop()
        while True:
            state = await self._request_call()
            context = cygrpc._ServicerContext(state, None, None, loop)
            answer = cygrpc._schedule_rpc_coro(self._on_unknown(context), state, loop, "unknown")
            task = loop.create_task(answer)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def create_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor[Any, Any]],
    options: Sequence[tuple[str, Any]],
    on_unknown: OnUnknown,
) -> grpc.aio.Server:
    """A server that calls `on_unknown` for every call of a method that was not added to it."""
    server: Any = grpc.aio.server()
    loop = asyncio.get_running_loop()
    server._server = _AioServer(
        on_unknown, loop, None, (), tuple(interceptors), tuple(options), None
    )
    return server  # type: ignore[no-any-return]


_CAUSED_BY_CALLERS = (
    "ExecuteBatchError raised in core",  # a caller has hung up before it had its reply
    "Invalid encoding on",  # a header is not UTF-8; the line would hold it, and it may be a token
)


def _is_fault(record: logging.LogRecord) -> bool:
    """Whether a line of grpc.aio's log is about more than what a caller did."""
    return not record.getMessage().startswith(_CAUSED_BY_CALLERS)


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_fault)
