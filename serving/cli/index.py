"""`sparseclip index EXPORT DATABASE`: an export's codes or dense vectors into a vector database."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from bundle.progress import show_progress
from serving.cli._output import watched

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
    """Put the codes of EXPORT, as `sparseclip export` wrote them, into DATABASE. Of an export
    without codes, such as one of a dense model, put the dense vectors.

    DATABASE is qdrant:FOLDER, qdrant:URL, milvus:FILE.db, milvus:URL, pgvector:DSN,
    opensearch:FOLDER or elasticsearch:FOLDER. For the last two the command writes files for the
    database's bulk call. Running the command again after `sparseclip export --update` puts in what
    is new or changed and removes what is gone. Rows of other exports stay: a row whose id is theirs
    is left out, and the exit code is then 1. A collection of another model's codes or vectors is
    refused.
    """
    from bundle.plugins import PluginError
    from serving.export.job import ExportError
    from serving.index.database_address import open_database
    from serving.index.databases.base import DatabaseError, SearchableDatabase
    from serving.index.export_rows import ExportRows
    from serving.index.indexing import index_rows
    from serving.storage.location import LocationError

    began = time.monotonic()
    try:
        rows = ExportRows.open(source, watched)
        with (
            open_database(database, name, token=database_token, hnsw=hnsw) as collection,
            show_progress("indexing", rows.total) as advance,
        ):
            changes = index_rows(rows, collection, advance)
            holds = "written to files"
            if isinstance(collection, SearchableDatabase):
                holds = f"it holds {collection.count():,}"
    except (DatabaseError, ExportError, LocationError, PluginError) as error:
        raise click.ClickException(str(error)) from None
    # Dense vectors have no concepts that could be missing.
    blank = f", {changes.blank:,} without a concept" if rows.export.holds_codes else ""
    rate = rows.total / max(time.monotonic() - began, 1e-9)
    click.echo(
        f"{rows.total:,} rows of {rows.origin.model} in {name}; {changes.new:,} new, "
        f"{changes.changed:,} changed, {changes.kept:,} as they were, {changes.removed:,} removed"
        f"{blank}; {holds}; {rate:,.0f} rows/s"
    )
    if changes.foreign:
        raise click.ClickException(
            f"{changes.foreign:,} rows were left out: another export has rows of the same ids in "
            f"{name}, such as {', '.join(map(repr, changes.samples))}. Export with --prefix, or "
            "index into another --name"
        )
