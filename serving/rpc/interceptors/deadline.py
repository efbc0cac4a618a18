"""How long a call may take."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import grpc

from serving.core.errors import expired
from serving.core.limits import LimitsConfig
from serving.rpc.interceptors.policy import Policy


class Span(NamedTuple):
    """In the event loop's time."""

    started: float
    deadline: float


def deadline_of(
    context: grpc.aio.ServicerContext[Any, Any], policy: Policy, limits: LimitsConfig
) -> Span:
    """The caller's deadline within the server's bounds, or the default one.

    Raises ServingError for one that has passed.
    """
    now = asyncio.get_running_loop().time()
    remaining: float | None = context.time_remaining()
    if remaining is None:
        remaining = getattr(limits, policy.deadline)
    if remaining <= 0:
        raise expired()
    return Span(now, now + min(remaining, limits.max_deadline_s))
