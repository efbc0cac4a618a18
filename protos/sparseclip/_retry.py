"""Whether a failed call is retried, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass

import grpc

from sparseclip.errors import CallError

RETRYABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter. Only UNAVAILABLE and RESOURCE_EXHAUSTED are retried."""

    attempts: int = 5
    """How often a call is sent, the first time included; 1 never retries. A call that the server
    refuses and asks for again (RetryInfo) is sent until its deadline."""
    first_delay: float = 0.1
    """Seconds. The first wait is random, up to this; the bound doubles with every attempt."""
    max_delay: float = 5.0
    """Seconds. The bound grows no further than this."""

    def delay(
        self, error: CallError, *, attempt: int, remaining: float, rng: random.Random
    ) -> float | None:
        """Seconds to wait after failed attempt number `attempt` (from 1), or None to give up.

        When the server names a delay (RetryInfo), the random wait is added to it, and it is not the
        number of attempts that ends them. Gives up when the wait would outlast the deadline, which
        is `remaining` seconds away.
        """
        if error.code not in RETRYABLE or self.attempts <= 1:
            return None
        if attempt >= self.attempts and error.retry_after is None:
            return None
        ceiling = min(self.max_delay, self.first_delay * 2.0 ** min(attempt - 1, 30))
        wait = (error.retry_after or 0.0) + rng.uniform(0.0, ceiling)
        return wait if wait < remaining else None
