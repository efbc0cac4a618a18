"""The options of commands that read a user's own pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def pair_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --kind, --image-column and --caption-column, as the recipe has them under `data`."""
    from training.loading.sources import AUTO, PAIR_SOURCES

    added = (
        click.option(
            "--kind",
            type=click.Choice([AUTO, *PAIR_SOURCES.names]),
            default=AUTO,
            show_default=True,
            help="Kind of your own data; auto: what their files tell.",
        ),
        click.option("--image-column", default="", help="Column that holds the images."),
        click.option("--caption-column", default="", help="Column that holds the captions."),
    )
    for option in reversed(added):
        command = option(command)
    return command
