"""What the interceptors learned about the call that the current task answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc

from serving.auth.quota import Quota
from serving.auth.tokens import Principal

RpcContext = grpc.aio.ServicerContext[Any, Any]
"""What gRPC passes to a handler beside the request; the messages have types of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerCall:
    """One call; the interceptors make it before the handler runs."""

    method: str
    """The full name, `/package.Service/Method`."""
    principal: Principal
    quota: Quota
    started: float
    """When the call was admitted, in the event loop's time."""
    deadline: float
    """When the call must end, in the event loop's time."""
    bounded: bool
    """Whether the call is ended at its deadline."""
    leave: Callable[[], None]
    """Gives back what the call holds; it is called once, when the call has ended."""

    @property
    def elapsed(self) -> float:
        """Seconds since the call was admitted."""
        return asyncio.get_running_loop().time() - self.started


# Tasks inherit it: what a handler starts belongs to the same call.
_CALL: ContextVar[ServerCall] = ContextVar("call")


def current_call() -> ServerCall:
    """The call that this task answers, or that the task which started it answers."""
    return _CALL.get()


@contextmanager
def answering(call: ServerCall) -> Iterator[None]:
    """Makes `call` the current one inside the block."""
    token = _CALL.set(call)
    try:
        yield
    finally:
        _CALL.reset(token)
