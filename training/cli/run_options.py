"""The options of every command that trains a recipe, and the way such a command runs."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from bundle.progress import line_when_stopped

if TYPE_CHECKING:
    from training.core.recipe_file import BaseRecipe

    R = TypeVar("R", bound=BaseRecipe)


_GOES_ON = "it goes on from its last checkpoint, if there is one"


class RunOptions(NamedTuple):
    """The values of the options."""

    folder: str
    """The default of `output`; RECIPE in it stands for the recipe's name."""
    output: Path | None
    overrides: Sequence[str]
    stop_after: int | None
    show: bool


def run_options(folder: str, example: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds --output, --set, --stop-after and --show to a command, which gets them as one RunOptions
    named `options`. `folder` is the default of --output, `example` an override for the help."""
    added = (
        click.option(
            "--output",
            type=click.Path(file_okay=False, path_type=Path),
            help=f"Folder of the run: checkpoints, log, TensorBoard.  [default: {folder}]",
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="SECTION.KEY=VALUE",
            help=f"Change one value of the recipe, such as {example}. May be repeated.",
        ),
        click.option(
            "--stop-after",
            type=int,
            help="Stop after this step. The command without this option finishes the run.",
        ),
        click.option("--show", is_flag=True, help="Print the whole recipe and stop."),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def collected(
            output: Path | None,
            overrides: Sequence[str],
            stop_after: int | None,
            show: bool,
            **arguments: Any,
        ) -> Any:
            options = RunOptions(folder, output, overrides, stop_after, show)
            return command(options=options, **arguments)

        for option in reversed(added):
            collected = option(collected)
        return collected

    return decorate


def show_log() -> None:
    """Shows a run's own lines, such as its precision, and only warnings of the libraries below."""
    logging.basicConfig(format="%(message)s")
    for room in ("training", "mllm_adapter"):
        logging.getLogger(room).setLevel(logging.INFO)


def run_recipe(
    recipe_type: type[R],
    name: str,
    options: RunOptions,
    train: Callable[[R, Path, int | None], Path],
) -> Path | None:
    """Loads a recipe and trains it. Returns the result of `train`, or None with --show.

    An error that the user can correct ends the command with one line.
    """
    import yaml

    from training.core.resume import TrainingError
    from training.data.data_recipe import DataError

    try:
        recipe = recipe_type.load(name, options.overrides)
        if options.show:
            click.echo(yaml.safe_dump(recipe.to_dict(), sort_keys=False), nl=False)
            return None
        show_log()
        run = options.output or Path(options.folder.replace("RECIPE", recipe.name))
        with line_when_stopped(lambda: f"stopped. Run the same command again: {_GOES_ON}"):
            return train(recipe, run, options.stop_after)
    except (ValueError, DataError, TrainingError) as error:  # SchemaError, CheckpointError too
        raise click.ClickException(str(error)) from None
