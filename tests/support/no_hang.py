"""A bound on the time of a step that might never end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

LIMIT_S = 60
"""A step that takes longer hangs."""


@contextmanager
def no_hang() -> Iterator[None]:
    """Raises TimeoutError in a block that takes longer than LIMIT_S."""

    def stop(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
