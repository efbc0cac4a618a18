"""The options of commands that read a user's own pairs."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import click

from training.loading.held_out_rule import HeldOutRule

if TYPE_CHECKING:
    from training.loading.pair_data import PairData

_FIELD = re.compile(r"\bdata\.(path|kind|split|held_out|image_column|caption_column)\b")


class PairOptions(NamedTuple):
    """The values of the options."""

    kind: str | None
    """None where the user named none, as of the others."""
    image_column: str | None
    caption_column: str | None
    held_out: HeldOutRule | None

    def open(self, path: Path, held_out: HeldOutRule = "auto") -> PairData:
        """The data at a path. `held_out` is the rule where the user named none.

        Raises DataError, also for an option that nothing would read, or PluginError.
        """
        from training.data.data_recipe import DataError
        from training.loading.pair_data import PairData
        from training.loading.sources import AUTO
        from training.loading.sources.base import Columns

        data = PairData(
            path,
            kind=self.kind or AUTO,
            columns=Columns(image=self.image_column or "", caption=self.caption_column or ""),
            held_out=self.held_out or held_out,
        )
        if data.is_built and self.given:
            raise DataError(f"{self.given[0]}: {data.name} was built by `sparseclip data build`")
        if data.has_splits and self.held_out is not None:
            raise DataError(f"--held-out: {data.name} has splits of its own")
        return data

    @property
    def given(self) -> list[str]:
        """The options that the user named."""
        names = ("--kind", "--image-column", "--caption-column", "--held-out")
        return [name for name, value in zip(names, self, strict=True) if value is not None]

    def refuse(self, why: str) -> None:
        """Ends the command where the user named one of the options, which nothing reads here."""
        if self.given:
            raise click.UsageError(f"{self.given[0]}: {why}")


def pair_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --kind, --image-column and --caption-column, as a recipe has them under `data`. The
    command gets them, and the value of --held-out if it has this option, as one PairOptions named
    `read_as`."""
    from training.loading.sources import AUTO, PAIR_SOURCES

    @functools.wraps(command)
    def collected(
        kind: str | None,
        image_column: str | None,
        caption_column: str | None,
        held_out: HeldOutRule | None = None,
        **arguments: Any,
    ) -> Any:
        read_as = PairOptions(kind, image_column, caption_column, held_out)
        return command(read_as=read_as, **arguments)

    added = (
        click.option(
            "--kind",
            type=click.Choice([AUTO, *PAIR_SOURCES.names]),
            help="Kind of your own data.  [default: auto, what their files tell]",
        ),
        click.option("--image-column", help="Column that holds the images."),
        click.option("--caption-column", help="Column that holds the captions."),
    )
    for option in reversed(added):
        collected = option(collected)
    return collected


def held_out_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --held-out, of commands that split data without a run that says how."""
    return click.option(
        "--held-out",
        type=click.Choice(get_args(HeldOutRule)),
        help="How your own data without splits are split: groups keeps images that look alike and"
        " equal captions on one side, image goes by each image alone.  [default: auto, groups up"
        " to 16 GiB]",
    )(command)


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
