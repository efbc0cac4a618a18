"""Long work shows that it goes on: a line now and then where stderr is no terminal. When it is
stopped, it says how to go on."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

LINE_EVERY_S = 30.0
"""Seconds between two lines."""


@contextlib.contextmanager
def progress_lines(line: Callable[[], str], interval: float = LINE_EVERY_S) -> Iterator[None]:
    """Writes `line()` to stderr every `interval` seconds until the block ends, unless stderr is a
    terminal, which has a bar."""
    if sys.stderr.isatty():
        yield
        return
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(interval):
            with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more
                print(line(), file=sys.stderr, flush=True)

    # A thread of its own writes, so that a step that takes minutes does not silence it.
    thread = threading.Thread(target=write, daemon=True, name="progress lines")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def line_when_stopped(line: Callable[[], str]) -> Iterator[None]:
    """Writes `line()` to stderr when Ctrl-C or SIGTERM ends the block."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more
            print(line(), file=sys.stderr, flush=True)
        raise
