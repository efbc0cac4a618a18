"""Options that every command that trains a recipe has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def run_options(folder: str, example: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--output, --set, --stop-after and --show; `folder` and `example` are for the help."""
    options = (
        click.option(
            "--output",
            type=click.Path(file_okay=False, path_type=Path),
            help=f"The run's folder: checkpoints, log, TensorBoard. Default: {folder}.",
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="SECTION.KEY=VALUE",
            help=f"Changes one value of the recipe, such as {example}. May be repeated.",
        ),
        click.option("--stop-after", type=int, help="End after so many steps; run again to go on."),
        click.option("--show", is_flag=True, help="Print the resolved recipe and stop."),
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add
