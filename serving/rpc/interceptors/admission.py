"""The gate: bounds on calls in work, for the server and for each principal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from serving.auth.quota import Quota
from serving.auth.tokens import Principal
from serving.core.errors import ErrorKind, ServingError
from serving.core.limits import LimitsConfig
from serving.core.metrics import Metrics
from serving.rpc.interceptors.policy import Policy


class CallAdmission:
    """Counts calls and their bytes. Closed while the server starts, and again when it drains."""

    def __init__(self, limits: LimitsConfig, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self.is_open = False
        """Whether calls are let in."""
        self._bytes = 0
        self._quotas: dict[str, Quota] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self.calls = 0
        """Calls in work."""
        self.draining = asyncio.Event()
        """Set when the server ends: streams stop reading."""

    def open(self) -> None:
        """Lets calls in."""
        self.is_open = True

    def drain(self) -> None:
        """Lets no more calls in; those inside go on."""
        self.is_open = False
        self.draining.set()

    async def empty(self, seconds: float) -> bool:
        """Waits until no call is in work; False when that took too long."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    @contextmanager
    def admitting(self, principal: Principal, size: int, policy: Policy) -> Iterator[Quota]:
        """Holds a place for a call whose message has `size` bytes. Raises ServingError."""
        quota = self._quota(principal)
        if not policy.gated:
            yield quota
            return
        if not self.is_open:
            state = "shutting down" if self.draining.is_set() else "starting"
            raise ServingError(ErrorKind.UNAVAILABLE, f"the server is {state}")
        if self.calls >= self._limits.calls_in_flight:
            raise ServingError(ErrorKind.EXHAUSTED, "too many calls", retry_after=0.5)
        if self.calls and self._bytes + size > self._limits.bytes_in_flight:
            raise ServingError(ErrorKind.EXHAUSTED, "too many bytes in work", retry_after=0.5)
        quota.start_call()
        self._count(1, size)
        try:
            yield quota
        finally:
            quota.end_call()
            self._count(-1, -size)

    def _count(self, calls: int, size: int) -> None:
        self.calls += calls
        self._bytes += size
        self._metrics.in_flight.set(self.calls)
        self._metrics.bytes_in_flight.set(self._bytes)
        if self.calls:
            self._empty.clear()
        else:
            self._empty.set()

    def _quota(self, principal: Principal) -> Quota:
        quota = self._quotas.get(principal.name)
        if quota is None or quota.principal != principal:  # the token file may have changed it
            fresh = Quota(principal)
            self._quotas[principal.name] = fresh
            return fresh
        return quota
