"""`sparseclip health`: whether a server answers calls."""

from __future__ import annotations

import sys
from dataclasses import replace

import click

from serving.cli._connection import Target, target_options
from sparseclip import Health

_DEFAULT_SERVER = "localhost:50051"


@click.command()
@click.option(
    "--service",
    default="",
    metavar="NAME",
    help="One service, such as sparseclip.v1.ChatService. Default: the server as a whole.",
)
@target_options(timeout=5.0)
def health(target: Target, service: str) -> None:
    """Say whether a server answers calls. The exit code is 0 only if it does.

    Without --server it asks localhost:50051, and needs no token.
    """
    if target.bundle or target.model:
        raise click.UsageError("health asks a server: --bundle and --model have no meaning")
    server = _DEFAULT_SERVER if target.server is None else target.server
    with replace(target, server=server, token=None).open() as client:
        state = client.health(service)
    click.echo(state.name)
    sys.exit(state is not Health.SERVING)
