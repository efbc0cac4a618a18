"""What is known of the call that the current task answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from serving.auth.quota import Quota
from serving.auth.tokens import Principal


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerCall:
    """Set by the interceptors before a handler runs."""

    method: str
    principal: Principal
    quota: Quota
    started: float
    """In the event loop's time, as the deadline."""
    deadline: float

    @property
    def elapsed(self) -> float:
        """Seconds since its first message was parsed."""
        return asyncio.get_running_loop().time() - self.started


_CALL: ContextVar[ServerCall] = ContextVar("call")


def current_call() -> ServerCall:
    """The call that this task, or the task that made it, answers."""
    return _CALL.get()


@contextmanager
def answering(call: ServerCall) -> Iterator[None]:
    """Makes `call` the current one."""
    token = _CALL.set(call)
    try:
        yield
    finally:
        _CALL.reset(token)
