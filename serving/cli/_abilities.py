"""What commands say to a dense model, which has no concepts."""

from __future__ import annotations

import click

from bundle.manifest import NO_CONCEPTS
from sparseclip import ModelInfo


def refuse_concepts(info: ModelInfo, **options: object) -> None:
    """Ends the command with one line where an option about concepts is used on a dense model.

    Each option is named as Python names it, with its value; one that is empty, 0 or None is not
    used.
    """
    for name, value in options.items():
        if info.kind == "dense" and value:
            raise click.ClickException(f"--{name.replace('_', '-')}: {NO_CONCEPTS}")
