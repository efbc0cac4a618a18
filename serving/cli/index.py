"""`sparseclip index EXPORT DATABASE`: an export's codes into a vector database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from serving.cli.output import watched

if TYPE_CHECKING:
    from serving.index.databases.base import Row

BATCH = 500
"""Rows of one call of a database."""

_DATABASE_OPTIONS: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
    click.option("--name", default="sparseclip", show_default=True, help="Collection or table."),
    click.option(
        "--database-token",
        envvar="SPARSECLIP_DATABASE_TOKEN",
        show_envvar=True,
        help="The key of a Qdrant or Milvus server.",
    ),
]


def with_collection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say what in a database is meant."""
    for option in reversed(_DATABASE_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("source", metavar="EXPORT")
@click.argument("database")
@with_collection
@click.option("--hnsw", is_flag=True, help="pgvector: also an index, which finds most, faster.")
def index(source: str, database: str, name: str, database_token: str | None, hnsw: bool) -> None:
    """Put the codes of EXPORT, as `sparseclip export` wrote them, into DATABASE.

    DATABASE is qdrant:FOLDER or qdrant:URL, milvus:FILE.db or milvus:URL, pgvector:DSN, or
    opensearch:FOLDER and elasticsearch:FOLDER, which get files for those databases' bulk calls.
    Run again, it puts in the same rows by their ids. Other models' codes in it are refused.
    """
    from serving.export.job import ExportError
    from serving.index.databases.base import SinkError
    from serving.index.databases.choose import opened
    from serving.index.export_rows import Rows
    from serving.storage.location import PlaceError

    began = time.monotonic()
    try:
        rows = Rows.open(source, watched)
        with opened(database, name, token=database_token, hnsw=hnsw) as sink:
            sink.prepare(rows.origin)
            for batch in _shown(rows.batches(BATCH), rows.total):
                sink.load(batch)
            sink.finish()
    except (ExportError, PlaceError, SinkError) as error:
        raise click.ClickException(str(error)) from None
    rate = rows.total / max(time.monotonic() - began, 1e-9)
    click.echo(f"{rows.total:,} rows of {rows.origin.model} in {name}; {rate:,.0f} rows/s")


def _shown(batches: Iterator[list[Row]], total: int) -> Iterator[list[Row]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        BarColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        for batch in batches:
            yield batch
            progress.update(task, advance=len(batch))
