"""How far long work is: a bar on a terminal, and a line now and then where stderr is none."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

INTERVAL_S = 30.0
"""Time between two lines where stderr is no terminal: a log shows that the work goes on."""


class Advance(Protocol):
    """Says how far the work is."""

    def __call__(self, count: int, note: str = "") -> None:
        """`count` more items are done; `note` is what else there is to say now."""


@contextmanager
def show_progress(
    text: str, total: int | None, *, interval: float = INTERVAL_S
) -> Iterator[Advance]:
    """Shows how far the block is. `text` says what is done; `total` is None where nobody knows how
    many items there are."""
    if sys.stderr.isatty():
        with _bar(text, total) as advance:
            yield advance
    else:
        with _lines(text, total, interval) as advance:
            yield advance


@contextmanager
def _bar(text: str, total: int | None) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description} {task.fields[count]}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=total is None) as progress:
        done = 0
        task = progress.add_task(text, total=total, count="", note="")

        def advance(count: int, note: str = "") -> None:
            nonlocal done
            done += count
            progress.update(task, completed=done, count=_count(done, total), note=note)

        yield advance


@contextmanager
def _lines(text: str, total: int | None, interval: float) -> Iterator[Advance]:
    done, said = 0, ""
    began, ended = time.monotonic(), threading.Event()

    def advance(count: int, note: str = "") -> None:
        nonlocal done, said
        done, said = done + count, note

    def write() -> None:
        while not ended.wait(interval):
            parts = [_count(done, total), said, f"{time.monotonic() - began:,.0f} s"]
            click.echo(f"{text}: {', '.join(filter(None, parts))}", err=True)

    # A thread of its own writes, so that a step that takes minutes does not silence it.
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield advance
    finally:
        ended.set()
        writer.join()


def _count(done: int, total: int | None) -> str:
    if total is None:
        return f"{done:,}" if done else ""
    return f"{done:,} of {total:,}"
