"""How much of the server one principal may use: a token bucket and a bound on calls in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from serving.auth.tokens import Principal
from serving.core.errors import ErrorKind, ServingError


class Quota:
    """One principal's use: `burst` requests at once, then `requests_per_second` on average."""

    def __init__(self, principal: Principal, clock: Callable[[], float] = time.monotonic) -> None:
        self.principal = principal
        self.calls = 0
        """Calls in flight."""
        self._clock = clock
        self._level = principal.burst
        self._updated = clock()

    def start_call(self) -> None:
        """Charges for a call. Raises ServingError when the quota is used up."""
        bound = self.principal.concurrent_calls
        if bound is not None and self.calls >= bound:
            raise _exhausted("too many calls at the same time", 0.5)
        delay = self._charge()
        if delay > 0:
            raise _exhausted("too many requests", delay)
        self.calls += 1

    def end_call(self) -> None:
        """Gives back the slot of a call that has ended."""
        self.calls -= 1

    async def charge_item(self) -> None:
        """Charges for an item of a stream, after waiting until the quota allows it."""
        while (delay := self._charge()) > 0:
            await asyncio.sleep(delay)

    def _charge(self) -> float:
        """Takes one request from the bucket. 0, or the seconds to wait before trying again."""
        rate = self.principal.requests_per_second
        if rate is None:
            return 0.0
        now = self._clock()
        self._level = min(self.principal.burst, self._level + (now - self._updated) * rate)
        self._updated = now
        if self._level < 1:
            return (1 - self._level) / rate
        self._level -= 1
        return 0.0


def _exhausted(message: str, retry_after: float) -> ServingError:
    return ServingError(ErrorKind.EXHAUSTED, message, retry_after=retry_after)
