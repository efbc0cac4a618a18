"""`sparseclip mcp`: tools for language models, over standard input and output."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from serving.cli._connection import Target, with_target
from serving.cli.index import with_collection


@click.command()
@click.option(
    "--root",
    "roots",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Allow images in and below this folder (repeatable). Without it no file is read.",
)
@click.option(
    "--database",
    metavar="DATABASE",
    help="Search this database, which `sparseclip index` filled, instead of the folders.",
)
@with_collection
@with_target
def mcp(
    target: Target,
    roots: tuple[Path, ...],
    database: str | None,
    name: str,
    database_token: str | None,
) -> None:
    """Serve tools of the Model Context Protocol (MCP) over standard input and output.

    A program with a language model starts this command, and the model then searches, explains and
    compares images. Images are named by paths inside of the allowed folders, never by addresses.
    """
    from mcp.server.mcpserver import MCPServer  # noqa: F401  # a missing library ends it here

    from bundle.plugins import PluginError
    from serving.index.databases.base import DatabaseError, SearchableDatabase
    from serving.tool_server.allowed_folders import AllowedFolders
    from serving.tool_server.image_tools import ImageTools
    from serving.tool_server.mcp_tools import create_server

    with ExitStack() as stack:
        collection: SearchableDatabase | None = None
        if database:
            from serving.index.database_address import open_database

            try:
                opened = stack.enter_context(open_database(database, name, token=database_token))
                opened.origin()
            except (DatabaseError, PluginError) as error:
                raise click.ClickException(str(error)) from None
            if not isinstance(opened, SearchableDatabase):
                raise click.UsageError("--database: one that answers queries is needed")
            collection = opened
        client = stack.enter_context(target.open())
        create_server(ImageTools(client, AllowedFolders(roots), collection)).run()
