"""The options of commands that read a user's own pairs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import click

_FIELD = re.compile(r"\bdata\.(path|kind|split|image_column|caption_column)\b")


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


@contextlib.contextmanager
def errors_as_typed(path: str = "--data") -> Iterator[None]:
    """Errors of data that a user named on the command line name its options, and no field of a
    recipe. `path` is what stands for the data: an option, or an argument."""
    from training.data.data_recipe import DataError

    try:
        yield
    except DataError as error:
        raise DataError(_FIELD.sub(lambda field: _typed(field[1], path), str(error))) from None


def _typed(field: str, path: str) -> str:
    return path if field == "path" else f"--{field.replace('_', '-')}"
