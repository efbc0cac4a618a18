"""The folder of a bundle on a command line."""

from __future__ import annotations

from pathlib import Path

import click


class BundlePath(click.Path):
    """A folder that may be a bundle, by the names of its files. Any other folder is refused with
    the name of the argument or the option, before the command begins."""

    def __init__(self) -> None:
        super().__init__(exists=True, file_okay=False, path_type=Path)

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path:
        """See click.ParamType."""
        from bundle.store import why_no_bundle

        path: Path = super().convert(value, param, ctx)  # type: ignore[arg-type, assignment]
        problem = why_no_bundle(path)
        if problem:
            self.fail(f"{self.name.title()} {click.format_filename(path)!r} {problem}.", param, ctx)
        return path
