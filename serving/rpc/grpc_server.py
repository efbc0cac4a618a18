"""grpc.aio's server, with its own way of accepting and answering calls.

grpc.aio accepts one call of a method in two turns of the event loop. A busy machine has few turns
in a second, so that calls would be late before anyone knows of them. It also decodes the name of an
unknown method as UTF-8, in the loop that accepts calls: a name that is not UTF-8 ends the server.
So calls are accepted here, many in one turn, and nobody looks at the name of an unknown method.

grpc.aio makes three tasks of a call, and asks gRPC at once whether its caller leaves. Here a unary
call is let in or refused before it has a task, is one task, and its caller is watched only if the
call is not over soon: refusing costs less.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

import grpc

from serving.rpc.call_context import RpcContext, ServerCall

# The stubs leave it out. Whether mypy finds it depends on what else it checks.
cygrpc: Any = importlib.import_module("grpc._cython.cygrpc")

ACCEPTED_AT_ONCE = 32
"""Calls of one method that are accepted in one turn of the event loop."""

_WATCH_AFTER_S, _WATCH_UNARY_AFTER_S = 0.003, 0.02
"""A call that is not over by then is cancelled when its caller leaves. Watching costs as much as
sending a reply, so a call with one reply has more time."""

_MAX_UNSENT = 256
"""Replies that are sent together with the status, after their calls hold nothing any more. A caller
may leave them unread, so there are no more than these."""

_GATHER_S = 0.003
"""How long a refusal waits for others."""


class CallAnswerer(Protocol):
    """What becomes of calls."""

    def admit(self, method: str, context: RpcContext) -> ServerCall:
        """Lets in a call of a known method, or raises."""

    async def answer(
        self, call: ServerCall, handler: Any, context: RpcContext, *, return_last: bool
    ) -> bytes | None:
        """Answers a call that was let in, or ends it. With `return_last` it may return the last
        reply, for the server to send together with the status."""

    async def refuse(self, method: str, context: RpcContext, error: Exception) -> None:
        """Ends a call that was not let in."""

    async def refuse_unknown(self, context: RpcContext) -> None:
        """Ends a call of a method that the server does not have."""


class _AioServer(cygrpc.AioServer):  # type: ignore[misc]  # without types
    """Accepts calls and answers them by itself."""

    def __init__(self, answerer: CallAnswerer, options: tuple[tuple[str, Any], ...]) -> None:
        super().__init__(asyncio.get_running_loop(), None, (), (), options, None)
        self._answerer = answerer
        self._methods: dict[str, Any] = {}
        self._refusals: list[Coroutine[Any, Any, None]] = []
        """Calls that are refused within the next moment."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsent = 0
        """Calls that hold nothing any more, and whose reply is being sent."""

    def add_registered_method_handlers(self, handlers: dict[str, Any]) -> None:
        """Adds methods: full names and their handlers."""
        super().add_registered_method_handlers(handlers)
        self._methods.update(handlers)

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        """What grpc.aio waits for to accept a call of a method; None stands for unknown methods.

        It is done only when the server stops, and then raises what grpc.aio expects.
        """
        accept = self._accept_unknown if method is None else functools.partial(self._accept, method)
        loop = asyncio.get_running_loop()
        return asyncio.gather(*(loop.create_task(accept()) for _ in range(ACCEPTED_AT_ONCE)))

    async def _accept(self, name: bytes) -> None:
        method = name.decode()
        handler = self._methods[method]
        while True:
            state = await self._request_registered_call(name)
            context = _context(state)
            try:
                call = self._answerer.admit(method, context)
            except Exception as error:
                refusal = self._answerer.refuse(method, context, error)
                if handler.request_streaming:
                    self._start(self._watched(state, refusal))
                else:
                    self._refuse_soon(refusal)
                continue
            answer = self._ended(state, context, call, handler)
            if handler.request_streaming:
                self._start(self._watched(state, answer))
            else:
                after_s = _WATCH_AFTER_S if handler.response_streaming else _WATCH_UNARY_AFTER_S
                self._start(self._watched_later(state, answer, after_s))

    async def _accept_unknown(self) -> None:
        while True:
            state = await self._request_call()
            self._start(self._watched(state, self._answerer.refuse_unknown(_context(state))))

    async def _ended(self, state: Any, context: Any, call: ServerCall, handler: Any) -> None:
        """Answers a call, and then sends the status OK, together with the last reply where there is
        one: a caller who has it knows that the call holds nothing any more."""
        loop = asyncio.get_running_loop()
        return_last = self._unsent < _MAX_UNSENT
        reply = await self._answerer.answer(call, handler, context, return_last=return_last)
        if reply is None:
            await cygrpc._finish_handler_with_stream_responses(
                state, _no_more_replies, None, context, loop
            )
            return
        self._unsent += 1
        try:
            await cygrpc._finish_handler_with_unary_response(
                state, _last_reply, reply, context, None, loop
            )
        finally:
            self._unsent -= 1

    def _watched(self, state: Any, answer: Coroutine[Any, Any, None]) -> Any:
        """A call whose caller is watched from the beginning. A stream that is answered sooner than
        its caller has sent anything hides the answer from callers of grpc.aio."""
        return cygrpc._schedule_rpc_coro(answer, state, asyncio.get_running_loop(), "call")

    async def _watched_later(
        self, state: Any, answer: Coroutine[Any, Any, None], after_s: float
    ) -> None:
        loop = asyncio.get_running_loop()
        watch = loop.call_later(after_s, self._watch, asyncio.current_task(), state)
        try:
            await _quietly(answer)
        finally:
            watch.cancel()

    def _watch(self, task: asyncio.Task[Any] | None, state: Any) -> None:
        """Cancels the task of a call when its caller leaves."""
        loop = asyncio.get_running_loop()
        self._start(cygrpc._handle_cancellation_from_core(task, state, loop))

    def _refuse_soon(self, refusal: Coroutine[Any, Any, None]) -> None:
        """Refuses a call together with those that come in the next moment: on a machine that is
        full, many small writes and the turns between them would cost more than the refusals."""
        if not self._refusals:
            asyncio.get_running_loop().call_later(_GATHER_S, self._refuse_all)
        self._refusals.append(refusal)

    def _refuse_all(self) -> None:
        refusals, self._refusals = self._refusals, []
        for refusal in refusals:
            self._start(_quietly(refusal))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _quietly(answer: Coroutine[Any, Any, None]) -> None:
    try:
        await answer
    except asyncio.CancelledError:
        pass  # the caller has left
    except cygrpc.BaseError as error:  # the call has ended with another status
        # gRPC keeps the error with the call. Its frames hold the call in turn: such a circle stays
        # until garbage is collected, which holds up every call.
        error.__traceback__ = error.__context__ = None


def _context(state: Any) -> Any:
    """What a handler gets. Messages are bytes to it: nothing is parsed or serialized here."""
    return cygrpc._ServicerContext(state, None, None, asyncio.get_running_loop())


async def _no_more_replies(_: None, context: RpcContext) -> None:
    pass


async def _last_reply(reply: bytes, context: RpcContext) -> bytes:
    return reply


def create_server(options: Sequence[tuple[str, Any]], answerer: CallAnswerer) -> grpc.aio.Server:
    """A server whose calls `answerer` answers."""
    server: Any = grpc.aio.server()
    server._server = _AioServer(answerer, tuple(options))
    return server  # type: ignore[no-any-return]


_CAUSED_BY_CALLERS = (
    "ExecuteBatchError raised in core",  # a caller has hung up before it had its reply
    "Invalid encoding on",  # a header is not UTF-8; the line would hold it, and it may be a token
)


def _is_fault(record: logging.LogRecord) -> bool:
    """Whether a line of grpc.aio's log is about more than what a caller did."""
    return not record.getMessage().startswith(_CAUSED_BY_CALLERS)


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_fault)
