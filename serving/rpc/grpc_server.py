"""grpc.aio's server, with a fault mended that lets one caller end it.

In the loop that accepts calls, grpc.aio decodes the name of an unknown method as UTF-8. A name that
is not UTF-8 ends that loop, and with it the server. So calls of unknown methods are accepted here,
where nobody looks at the name. Known methods are not affected: gRPC compares their names byte by
byte.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not in the stubs

from serving.rpc.call_context import RpcContext

OnUnknown = Callable[[RpcContext], Coroutine[Any, Any, None]]
"""Ends a call of an unknown method."""


ACCEPTED_AT_ONCE = 32
"""Calls of one method that are accepted in one turn of the event loop."""


class _AioServer(cygrpc.AioServer):  # type: ignore[misc]  # without types
    """Accepts calls by itself. Answering a call of a known method is left to grpc.aio."""

    def __init__(
        self,
        on_unknown: OnUnknown,
        interceptors: tuple[grpc.aio.ServerInterceptor[Any, Any], ...],
        options: tuple[tuple[str, Any], ...],
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop, None, (), interceptors, options, None)
        self._on_unknown = on_unknown
        self._interceptors = interceptors
        self._methods: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add_registered_method_handlers(self, handlers: dict[str, Any]) -> None:
        """Adds methods: full names and their handlers."""
        super().add_registered_method_handlers(handlers)
        self._methods.update(handlers)

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        """Where grpc.aio accepts the next call of a method; None stands for unknown methods.

        grpc.aio accepts one call of a method in two turns of the event loop. A busy machine has few
        turns in a second, and calls that wait to be accepted are late before anyone knows of them.
        """
        accept = self._accept_unknown if method is None else functools.partial(self._accept, method)
        loop = asyncio.get_running_loop()
        return asyncio.gather(*(loop.create_task(accept()) for _ in range(ACCEPTED_AT_ONCE)))

    async def _accept(self, name: bytes) -> None:
        """Accepts calls of a known method until the server stops; that raises, for grpc.aio."""
        loop = asyncio.get_running_loop()
        method = name.decode()
        resolver = cygrpc._MethodResolver([], self._methods)
        while True:
            state = await self._request_registered_call(name)
            answer = cygrpc._handle_rpc(method, resolver, self._interceptors, state, loop, False)
            self._start(cygrpc._schedule_rpc_coro(answer, state, loop, method))

    async def _accept_unknown(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            state = await self._request_call()
            answer = self._on_unknown(cygrpc._ServicerContext(state, None, None, loop))
            self._start(cygrpc._schedule_rpc_coro(answer, state, loop, "unknown"))

    def _start(self, answer: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(answer)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def create_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor[Any, Any]],
    options: Sequence[tuple[str, Any]],
    on_unknown: OnUnknown,
) -> grpc.aio.Server:
    """A server that calls `on_unknown` for every call of a method that was not added to it."""
    server: Any = grpc.aio.server()
    server._server = _AioServer(on_unknown, tuple(interceptors), tuple(options))
    return server  # type: ignore[no-any-return]


_CAUSED_BY_CALLERS = (
    "ExecuteBatchError raised in core",  # a caller has hung up before it had its reply
    "Invalid encoding on",  # a header is not UTF-8; the line would hold it, and it may be a token
)


def _is_fault(record: logging.LogRecord) -> bool:
    """Whether a line of grpc.aio's log is about more than what a caller did."""
    return not record.getMessage().startswith(_CAUSED_BY_CALLERS)


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_fault)
