"""`sparseclip serve`: the server, with every field of ServerConfig as a flag."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from serving.cli._config_options import SectionedCommand, options, values
from serving.core.config import ServerConfig, load_config
from serving.core.errors import StartupError


@click.command(cls=SectionedCommand)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A TOML, JSON or YAML file with these fields; flags override it.",
)
def serve(config: Path | None, **given: Any) -> None:
    """Serve a bundle over gRPC, and over HTTP with --http-port, until SIGTERM or Ctrl-C."""
    from serving import lifecycle
    from serving.front_ends.supervisor import serve_front_ends

    try:
        resolved = load_config(config, values(ServerConfig, given))
    except StartupError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(serve_front_ends(resolved) if resolved.front_ends else lifecycle.serve(resolved))


serve.params.extend(options(ServerConfig))
