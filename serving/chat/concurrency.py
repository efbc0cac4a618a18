"""How many conversations a server answers at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from serving.core.errors import ErrorKind, ServingError


class ChatAdmission:
    """Counts conversations, from admission to their last event."""

    def __init__(self, capacity: int, gauge: Gauge) -> None:
        self._capacity = capacity
        self._gauge = gauge
        self._inside = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Holds a place for one conversation. Raises ServingError when there is none."""
        if self._inside >= self._capacity:
            raise ServingError(ErrorKind.EXHAUSTED, "too many conversations", retry_after=1.0)
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self._inside += change
        self._gauge.inc(change)
