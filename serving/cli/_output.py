"""What a command prints: a readable table, or one JSON object per line; and its exit code."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import click
import grpc
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from bundle.progress import show_progress
from serving.storage.file_names import printable, spell
from sparseclip import CallError, ItemStatus

T = TypeVar("T")

_ITEM_ERRORS = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND})
"""Codes of a call that failed because of its item; the next item may succeed."""

_FILE_WIDTH = 10_000
"""Columns of a table in a file or a pipe, where each row stays on one line."""

_MIN_PROGRESS_ITEMS = 8
"""A terminal shows a progress bar from this many items on."""

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line."
)


class ResultWriter:
    """Writes rows: JSON as each row comes, a table when all are there."""

    def __init__(self, *columns: str, as_json: bool) -> None:
        self._as_json = as_json
        self._failures = 0
        self._table = _table(columns)

    @property
    def as_json(self) -> bool:
        """Whether rows are printed as JSON."""
        return self._as_json

    def add(self, record: dict[str, Any], *cells: str) -> None:
        """Adds a row: `record` for JSON, `cells` for the table."""
        if self._as_json:
            if "source" in record:
                record = {**record, "source": spell(record["source"])}
            print_json(record)
        else:
            self._table.add_row(*(escape(printable(spell(cell))) for cell in cells))

    def fail(self, source: str, status: ItemStatus) -> None:
        """Adds a row for an item that failed."""
        self._failures += 1
        if self._as_json:
            error = {"code": status.code.name, "message": status.message}
            print_json({"source": spell(source), "error": error})
        else:
            self._table.add_row(
                escape(printable(spell(source))), f"[red]{escape(status.message)}[/red]"
            )

    def fail_call(self, source: str, error: CallError) -> None:
        """Adds a row for a call about one item that failed.

        Raises the error when the item is not at fault: the next call would fail too.
        """
        if error.code not in _ITEM_ERRORS:
            raise error
        self.fail(source, ItemStatus(code=error.code, message=error.message))

    def close(self) -> None:
        """Prints the table; ends the command with exit code 1 when an item failed."""
        if not self._as_json and self._table.row_count:
            # A column that says nothing about any row takes no room.
            columns = [column for column in self._table.columns if any(column.cells)]
            table = _table(column.header for column in columns)
            for cells in zip(*(column.cells for column in columns), strict=True):
                table.add_row(*cells)
            stdout().print(table)
        if self._failures:
            sys.exit(1)


def _table(headers: Iterable[RenderableType]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


class _OutputConsole(Console):
    def on_broken_pipe(self) -> None:
        """Leaves the end of the command to `plain_end`; Rich itself would end it with 1."""
        raise


def stdout() -> Console:
    """The console that results go to."""
    return _OutputConsole(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)


def print_json(record: dict[str, Any]) -> None:
    """Prints one object on one line."""
    utf8 = (sys.stdout.encoding or "").replace("-", "").lower() == "utf8"
    click.echo(json.dumps(record, ensure_ascii=not utf8))


def progress(items: Iterable[T], *, total: int, text: str) -> Iterator[T]:
    """The items. Shows how many are done; a terminal does so only when they are many."""
    if total < _MIN_PROGRESS_ITEMS and sys.stderr.isatty():
        yield from items
        return
    with show_progress(text, total) as advance:
        for item in items:
            yield item
            advance(1)


def watched(items: Sequence[T], text: str) -> Iterable[T]:
    """The items of a sequence, as `progress` shows them."""
    return progress(items, total=len(items), text=text)


def as_record(value: Any) -> dict[str, Any]:
    """A result without arrays as a JSON object."""
    return dataclasses.asdict(value)


def named(scores: Sequence[tuple[str, float]], *, digits: int = 2) -> str:
    """The cell `name 1.23, name 0.45`."""
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in scores)
