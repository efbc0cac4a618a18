"""What a command prints: a readable table, or one JSON object a line; and its exit code."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import click
import grpc
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from sparseclip import CallError, ItemStatus

T = TypeVar("T")

_ITEM_FAULTS = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND})

# So wide that a row stays on one line in a file or a pipe.
_UNFOLDED = 10_000

# From this many items on, a terminal shows a progress bar.
_MANY = 8

json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line."
)


class ResultWriter:
    """Rows in the making. JSON goes out row by row, a table at the end."""

    def __init__(self, *columns: str, as_json: bool) -> None:
        self._as_json = as_json
        self._failures = 0
        self._table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            self._table.add_column(column, overflow="fold")

    @property
    def as_json(self) -> bool:
        """The rows are JSON objects."""
        return self._as_json

    def add(self, record: dict[str, Any], *cells: str) -> None:
        """A row: the object for JSON, the cells for the table."""
        if self._as_json:
            print_json(record)
        else:
            self._table.add_row(*(escape(cell) for cell in cells))

    def fail(self, source: str, status: ItemStatus) -> None:
        """A row for an item that failed."""
        self._failures += 1
        if self._as_json:
            error = {"code": status.code.name, "message": status.message}
            print_json({"source": source, "error": error})
        else:
            self._table.add_row(escape(source), f"[red]{escape(status.message)}[/red]")

    def fail_call(self, source: str, error: CallError) -> None:
        """The same for a call about one item. Raises the error when it is not the item's fault."""
        if error.code not in _ITEM_FAULTS:
            raise error
        self.fail(source, ItemStatus(code=error.code, message=error.message))

    def close(self) -> None:
        """Prints the table; ends the command with exit code 1 when an item failed."""
        if not self._as_json and self._table.row_count:
            stdout().print(self._table)
        if self._failures:
            sys.exit(1)


def stdout() -> Console:
    """The console for results."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _UNFOLDED)


def print_json(record: dict[str, Any]) -> None:
    """One object on one line."""
    click.echo(json.dumps(record, ensure_ascii=False))


def progress(items: Iterable[T], *, total: int, text: str) -> Iterator[T]:
    """The items, with a progress bar on stderr when they are many and a person is watching."""
    quiet = total < _MANY or not sys.stderr.isatty()
    yield from track(
        items, description=text, total=total, console=Console(stderr=True), disable=quiet
    )


def watched(items: Sequence[T], text: str) -> Iterable[T]:
    """The same, of items that can be counted."""
    return progress(items, total=len(items), text=text)


def as_record(value: Any) -> dict[str, Any]:
    """A result without arrays as a JSON object."""
    return dataclasses.asdict(value)


def named(scores: Sequence[tuple[str, float]], *, digits: int = 2) -> str:
    """`name 1.23, name 0.45` for a cell."""
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in scores)
