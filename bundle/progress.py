"""Long work shows that it goes on: a bar on a terminal, and a line now and then where stderr is
none. When it is stopped, it says how to go on."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

LINE_EVERY_S = 30.0
"""Seconds between two lines."""


class Advance(Protocol):
    """Says how far the work is."""

    def __call__(self, count: int = 1, note: str | None = None) -> None:
        """`count` more items are done; `note` is what else there is to say from now on."""


@contextlib.contextmanager
def show_progress(
    text: str,
    total: int | None,
    unit: str = "",
    *,
    done: int = 0,
    leave: bool = False,
    interval: float = LINE_EVERY_S,
) -> Iterator[Advance]:
    """Shows on stderr how far the block is.

    `text` says what is done, and `unit` what is counted, such as `images`. `total` is None where
    nobody knows how many there are; `done` of them were done before. With `leave` the bar stays
    when the block ends; where there is none, the last state is a line.
    """
    show = _bar if sys.stderr.isatty() else _lines
    with show(_Work(text, total, unit, done), leave, interval) as advance:
        yield advance


class _Work:
    """How far the work is."""

    def __init__(self, text: str, total: int | None, unit: str, done: int) -> None:
        self.text, self.total, self.unit = text, total, unit
        self.done, self.note = done, ""
        self._first, self._began = done, time.monotonic()

    def advance(self, count: int, note: str | None) -> None:
        self.done += count
        self.note = self.note if note is None else note

    @property
    def count(self) -> str:
        if self.total is None and not self.done:
            return ""
        total = "" if self.total is None else f" of {self.total:,}"
        return f"{self.done:,}{total} {self.unit}".rstrip()

    def line(self) -> str:
        seconds = time.monotonic() - self._began
        parts = [self.count, self.note, f"{seconds:,.0f} s"]
        new = self.done - self._first
        if self.total is not None and new > 0 and self.done < self.total:
            parts.append(f"about {seconds / new * (self.total - self.done):,.0f} s left")
        return f"{self.text}: {', '.join(filter(None, parts))}"


@contextlib.contextmanager
def _bar(work: _Work, leave: bool, _: float) -> Iterator[Advance]:
    # Only a terminal needs it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description} {task.fields[count]}", markup=False),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=not leave) as progress:
        task = progress.add_task(
            work.text, total=work.total, completed=work.done, count=work.count, note=""
        )

        def advance(count: int = 1, note: str | None = None) -> None:
            work.advance(count, note)
            progress.update(task, completed=work.done, count=work.count, note=work.note)

        yield advance


@contextlib.contextmanager
def _lines(work: _Work, leave: bool, interval: float) -> Iterator[Advance]:
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(interval):
            _print(work.line())

    def advance(count: int = 1, note: str | None = None) -> None:
        work.advance(count, note)

    # A thread of its own writes, so that a step that takes minutes does not silence it.
    thread = threading.Thread(target=write, daemon=True, name="progress lines")
    thread.start()
    try:
        yield advance
    finally:
        stop.set()
        thread.join()
    if leave:
        _print(work.line())


def _print(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more
        print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def line_when_stopped(line: Callable[[], str]) -> Iterator[None]:
    """Writes `line()` to stderr when Ctrl-C or SIGTERM ends the block."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        _print(line())
        raise
