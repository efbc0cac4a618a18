"""The images that a command line names: files and folders, never addresses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bundle.image_formats import IMAGE_SUFFIXES
from sparseclip._image_files import is_address


def expand(arguments: Sequence[str]) -> list[str]:
    """The files that are named, and in place of a folder the images in and below it, by path.

    A file that does not exist stays in the list, and becomes a row with its error. Raises
    UsageError for an address, and for a folder without images.
    """
    paths: list[str] = []
    for argument in arguments:
        if is_address(argument):
            raise click.UsageError(f"{argument}: addresses are not fetched, name a file instead")
        if not Path(argument).is_dir():
            paths.append(argument)
            continue
        inside = sorted(
            str(path)
            for path in Path(argument).rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        )
        if not inside:
            raise click.UsageError(f"{argument}: no JPEG, PNG or WebP file in this folder")
        paths += inside
    return paths


def concept_key(text: str) -> int | str:
    """A concept by id when the text is a number, by name otherwise."""
    return int(text) if text.isascii() and text.isdigit() else text
