"""The option of commands that write a version of a model."""

from __future__ import annotations

from pathlib import Path

import click

models_option = click.option(
    "--models",
    "models_dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("models"),
    show_default=True,
    help="Folder in which NAME/VERSION is written.",
)
