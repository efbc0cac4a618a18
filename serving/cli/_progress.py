"""How far long work is: a bar on a terminal, and a line now and then where stderr is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bundle.progress import LINE_EVERY_S, progress_lines


class Advance(Protocol):
    """Says how far the work is."""

    def __call__(self, count: int, note: str = "") -> None:
        """`count` more items are done; `note` is what else there is to say now."""


@contextmanager
def show_progress(
    text: str, total: int | None, *, interval: float = LINE_EVERY_S
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
    done, said, began = 0, "", time.monotonic()

    def advance(count: int, note: str = "") -> None:
        nonlocal done, said
        done, said = done + count, note

    def line() -> str:
        parts = [_count(done, total), said, f"{time.monotonic() - began:,.0f} s"]
        return f"{text}: {', '.join(filter(None, parts))}"

    with progress_lines(line, interval):
        yield advance


def _count(done: int, total: int | None) -> str:
    if total is None:
        return f"{done:,}" if done else ""
    return f"{done:,} of {total:,}"
