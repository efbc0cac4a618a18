"""The images that a command line names: files and folders, never addresses."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from bundle.image_formats import IMAGE_SUFFIXES, UNSUPPORTED_IMAGE_SUFFIXES
from serving.storage.left_out import LeftOut
from serving.storage.local_tree import walk_local
from sparseclip._image_files import is_address


def expand(arguments: Sequence[str]) -> list[str]:
    """The files that are named, and in place of a folder the images in and below it, by path: all
    files whose names have the ending of an image, whether its format is decoded or not.

    A file that cannot be read stays in the list, and becomes a row with its error. What else a
    folder holds is counted on standard error. Raises UsageError for an address, and for a folder
    without images.
    """
    paths: list[str] = []
    for argument in arguments:
        if is_address(argument):
            raise click.UsageError(f"{argument}: addresses are not fetched, name a file instead")
        if not os.path.isdir(argument):
            paths.append(argument)
            continue
        inside, left_out = _images_in(argument)
        if not inside:
            found = f": {left_out}" if left_out else ""
            raise click.UsageError(f"{argument}: no image in this folder{found}")
        if left_out:
            click.echo(f"{argument}: left out {left_out}", err=True)
        paths += inside
    return paths


def _images_in(folder: str) -> tuple[list[str], LeftOut]:
    left_out = LeftOut()
    images: list[str] = []
    for path, problem in walk_local(folder, left_out.add):
        if problem or path.lower().endswith((*IMAGE_SUFFIXES, *UNSUPPORTED_IMAGE_SUFFIXES)):
            images.append(os.path.join(folder, path))
        else:
            left_out.add_name(path)
    return images, left_out


def concept_key(text: str) -> int | str:
    """A concept by id when the text is a number, by name otherwise."""
    return int(text) if text.isascii() and text.isdigit() else text
