"""When a failed call is sent again, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass

import grpc

from sparseclip.errors import CallError

RETRYABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential back-off with full jitter, for UNAVAILABLE and RESOURCE_EXHAUSTED alone."""

    attempts: int = 5
    """How often a call is sent in all; 1 never retries."""
    first_delay: float = 0.1
    """Seconds: the upper end of the first wait. It doubles with every attempt."""
    max_delay: float = 5.0
    """Seconds: no upper end grows beyond this."""

    def delay(
        self, error: CallError, *, attempt: int, remaining: float, rng: random.Random
    ) -> float | None:
        """Seconds to wait after failed attempt number `attempt` (from 1), or None to give up.

        A server that names a delay (RetryInfo) is never asked sooner; the jitter comes on top.
        None as well when the wait would outlast the `remaining` seconds of the deadline.
        """
        if error.code not in RETRYABLE or attempt >= self.attempts:
            return None
        ceiling = min(self.max_delay, self.first_delay * 2.0 ** (attempt - 1))
        wait = (error.retry_after or 0.0) + rng.uniform(0.0, ceiling)
        return wait if wait < remaining else None
