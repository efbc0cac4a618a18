"""Long work shows that it goes on: a bar on a terminal, and elsewhere a line now and then."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

LINE_EVERY_S = 30.0
"""Seconds between two lines."""

_LINE = "{desc}{n_fmt} of {total_fmt} {unit}s, {percentage:.0f}%, {remaining} left{postfix}"


@contextlib.contextmanager
def progress_lines(line: Callable[[], str]) -> Iterator[None]:
    """Writes `line()` to stderr every LINE_EVERY_S seconds until the block ends, unless stderr is a
    terminal, which has a bar."""
    if sys.stderr.isatty():
        yield
        return
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(LINE_EVERY_S):
            with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more
                print(line(), file=sys.stderr, flush=True)

    thread = threading.Thread(target=write, daemon=True, name="progress lines")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def progress_bar(
    total: int, unit: str, *, description: str = "", done: int = 0, leave: bool = True
) -> Iterator[Any]:
    """A tqdm bar on stderr; where that is no terminal, its state as lines, and one at its end.

    With `leave` false nothing stays of it when it ends.
    """
    is_terminal = sys.stderr.isatty()
    bar = tqdm(
        total=total,
        initial=done,
        desc=description,
        unit=unit,
        leave=leave,
        dynamic_ncols=is_terminal,
        file=sys.stderr if is_terminal else io.StringIO(),
        bar_format=None if is_terminal else _LINE,
    )
    with bar, progress_lines(lambda: str(bar)):
        yield bar
    if leave and not is_terminal:
        print(bar, file=sys.stderr, flush=True)
