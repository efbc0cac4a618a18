"""The images that a command line names: files and folders, never addresses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from sparseclip._items import is_address

SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".webp"})


def expand(arguments: Sequence[str]) -> list[str]:
    """Files as they are; a folder as the images in and below it, by name.

    A file that is missing stays in the list: it becomes a row with its error. Raises UsageError
    for an address and for a folder without images.
    """
    found: list[str] = []
    for argument in arguments:
        if is_address(argument):
            raise click.UsageError(f"{argument}: addresses are not fetched, name a file instead")
        if not Path(argument).is_dir():
            found.append(argument)
            continue
        inside = sorted(
            str(path)
            for path in Path(argument).rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not inside:
            raise click.UsageError(f"{argument}: no JPEG, PNG or WebP file in this folder")
        found += inside
    return found


def concept_key(text: str) -> int | str:
    """A concept by id when the text is a number, by name otherwise."""
    return int(text) if text.isascii() and text.isdigit() else text
