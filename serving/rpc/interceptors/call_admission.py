"""Bounds on calls in flight: all of them, those of each principal, and conversations."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from prometheus_client import Gauge

from serving.auth.quota import Quota
from serving.auth.tokens import Principal
from serving.core.errors import ErrorKind, ServingError, shutting_down
from serving.core.limits import LimitsConfig
from serving.core.metrics import Metrics
from serving.rpc.call_context import RpcContext
from serving.rpc.interceptors.method_policy import Policy

HEALTH_MESSAGE_BYTES = 1024
"""Size of the message of a health check, which holds the name of a service."""
HEALTH_READING, HEALTH_READ_S = 16, 1.0
"""Health checks whose message is being received at the same time, and how long each may take."""
_HEALTH_BUSY_S = 0.05
"""How long each may take when others wait. The message of a health check comes with its headers."""


class _HealthTurns:
    """The turns of health checks. Callers without a token who send no message give up their turns
    soon when others wait."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(HEALTH_READING)
        self._limits: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A turn while the block runs. Raises TimeoutError when it ends before the block."""
        if self._turns.locked():
            soon = asyncio.get_running_loop().time() + _HEALTH_BUSY_S
            for limit in self._limits:
                if not limit.expired():
                    limit.reschedule(min(limit.when() or soon, soon))
        async with self._turns:
            seconds = _HEALTH_BUSY_S if self._turns.locked() else HEALTH_READ_S
            async with asyncio.timeout(seconds) as limit:
                self._limits.add(limit)
                try:
                    yield
                finally:
                    self._limits.discard(limit)


class CallAdmission:
    """Counts the calls of one port and their bytes. None is admitted while the server starts or
    drains."""

    def __init__(self, limits: LimitsConfig, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self.is_open = False
        """Whether calls are admitted."""
        # Health has turns of its own: it needs no token, and must hold up no other call.
        self._reading = asyncio.Semaphore(limits.calls_reading)
        self._reading_health = _HealthTurns()
        self._bytes = 0
        self._quotas: dict[str, Quota] = {}
        self._no_calls = asyncio.Event()
        self._no_calls.set()
        self.calls = 0
        """Calls in flight."""
        self.watches = 0
        """Watches of health. They end when their callers like."""
        self.draining = asyncio.Event()
        """Set when the server begins to end: streams then stop reading."""

    def open(self) -> None:
        """Admits calls from now on."""
        self.is_open = True

    def drain(self) -> None:
        """Admits no more calls; those in flight go on."""
        self.is_open = False
        self.draining.set()

    async def wait_until_empty(self, seconds: float) -> bool:
        """Waits until no call is in flight. False when that takes longer than `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._no_calls.wait()
        except TimeoutError:
            return False
        return True

    def check_open(self, policy: Policy) -> None:
        """Raises ServingError for a call that counts, while none is admitted."""
        if policy.admission and not self.is_open:
            if self.draining.is_set():
                raise shutting_down()
            raise ServingError(ErrorKind.UNAVAILABLE, "the server is starting")

    @contextmanager
    def admit(self, principal: Principal, policy: Policy) -> Iterator[Quota]:
        """Holds a slot for a call. Raises ServingError."""
        quota = self._quota(principal)
        if not policy.admission:
            with contextlib.nullcontext() if policy.bounded else self._watch():
                yield quota
            return
        self.check_open(policy)
        if self.calls >= self._limits.calls_in_flight:
            raise ServingError(ErrorKind.EXHAUSTED, "too many calls", retry_after=0.5)
        quota.start_call()
        self._count(1)
        try:
            yield quota
        finally:
            quota.end_call()
            self._count(-1)

    @contextmanager
    def _watch(self) -> Iterator[None]:
        if self.watches >= self._limits.watches:
            raise ServingError(ErrorKind.EXHAUSTED, "too many watches", retry_after=1.0)
        self._count_watches(1)
        try:
            yield
        finally:
            self._count_watches(-1)

    async def receive(self, context: RpcContext, policy: Policy) -> bytes:
        """The one message of a call.

        Calls wait here for their turn: gRPC takes memory for a message while it arrives. Raises
        ServingError.
        """
        try:
            if policy.admission:
                async with self._reading, asyncio.timeout(self._limits.read_s):
                    with self._metrics.reading:
                        raw = await context.read()
            else:
                async with self._reading_health.turn():
                    raw = await context.read()
        except TimeoutError:
            raise ServingError(ErrorKind.EXPIRED, "the message did not arrive") from None
        if not isinstance(raw, bytes):  # the caller has ended its side without one
            raise ServingError(ErrorKind.INVALID, "the call holds no message")
        if len(raw) > HEALTH_MESSAGE_BYTES and not policy.admission:
            raise ServingError(ErrorKind.INVALID, f"more than {HEALTH_MESSAGE_BYTES} bytes")
        return raw

    @contextmanager
    def hold_bytes(self, size: int) -> Iterator[None]:
        """Counts the bytes of a message until the block ends. Raises ServingError."""
        # A single message that is larger than the bound is admitted while nothing else is.
        if self._bytes and self._bytes + size > self._limits.bytes_in_flight:
            raise ServingError(ErrorKind.EXHAUSTED, "too many bytes in flight", retry_after=0.5)
        self._hold(size)
        try:
            yield
        finally:
            self._hold(-size)

    def _hold(self, size: int) -> None:
        self._bytes += size
        self._metrics.bytes_in_flight.inc(size)

    def _count(self, change: int) -> None:
        self.calls += change
        self._metrics.in_flight.inc(change)
        if self.calls:
            self._no_calls.clear()
        else:
            self._no_calls.set()

    def _count_watches(self, change: int) -> None:
        self.watches += change
        self._metrics.watches.inc(change)

    def _quota(self, principal: Principal) -> Quota:
        quota = self._quotas.get(principal.name)
        # A changed token file makes a new principal of the same name, whose quota starts afresh.
        if quota is None or quota.principal != principal:
            quota = self._quotas[principal.name] = Quota(principal)
        return quota


class ChatAdmission:
    """Counts conversations in flight, from their admission to their last event.

    They have a bound of their own because they last much longer than other calls.
    """

    def __init__(self, slots: int, gauge: Gauge) -> None:
        self._slots = slots
        self._gauge = gauge
        self._in_flight = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Holds a slot for one conversation. Raises ServingError when none is free."""
        if self._in_flight >= self._slots:
            raise ServingError(ErrorKind.EXHAUSTED, "too many conversations", retry_after=1.0)
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self._in_flight += change
        self._gauge.inc(change)
