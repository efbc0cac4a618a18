"""`sparseclip index EXPORT DATABASE`: an export's codes into a vector database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from serving.cli._output import watched

if TYPE_CHECKING:
    from serving.index.databases.base import IndexRow

ROWS_PER_CALL = 500
"""Rows of one call of a database."""

_COLLECTION_OPTIONS: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
    click.option(
        "--name",
        default="sparseclip",
        show_default=True,
        help="The collection or table of the database.",
    ),
    click.option(
        "--database-token",
        envvar="SPARSECLIP_DATABASE_TOKEN",
        show_envvar=True,
        help="The key of a Qdrant or Milvus server.",
    ),
]


def with_collection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that name a collection of a database."""
    for option in reversed(_COLLECTION_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("source", metavar="EXPORT")
@click.argument("database")
@with_collection
@click.option(
    "--hnsw",
    is_flag=True,
    help="Also build an HNSW index (pgvector only): searches are faster, but may miss some rows.",
)
def index(source: str, database: str, name: str, database_token: str | None, hnsw: bool) -> None:
    """Put the codes of EXPORT, as `sparseclip export` wrote them, into DATABASE.

    DATABASE is qdrant:FOLDER, qdrant:URL, milvus:FILE.db, milvus:URL, pgvector:DSN,
    opensearch:FOLDER or elasticsearch:FOLDER. For the last two the command writes files for the
    database's bulk call. Rows are stored under their ids, so running the command again stores the
    same rows. A collection that holds another model's codes is refused.
    """
    from bundle.plugins import PluginError
    from serving.export.job import ExportError
    from serving.index.database_address import open_database
    from serving.index.databases.base import DatabaseError
    from serving.index.export_rows import ExportRows
    from serving.storage.location import LocationError

    began = time.monotonic()
    try:
        rows = ExportRows.open(source, watched)
        with open_database(database, name, token=database_token, hnsw=hnsw) as collection:
            collection.prepare(rows.origin)
            for batch in _with_progress(rows.batches(ROWS_PER_CALL), rows.total):
                collection.load(batch)
            collection.finish()
    except (DatabaseError, ExportError, LocationError, PluginError) as error:
        raise click.ClickException(str(error)) from None
    rate = rows.total / max(time.monotonic() - began, 1e-9)
    click.echo(f"{rows.total:,} rows of {rows.origin.model} in {name}; {rate:,.0f} rows/s")


def _with_progress(batches: Iterator[list[IndexRow]], total: int) -> Iterator[list[IndexRow]]:
    """The batches, while a bar shows how many rows are done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        BarColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=total)
        for batch in batches:
            yield batch
            progress.update(bar, advance=len(batch))
