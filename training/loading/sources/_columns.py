"""Which columns of a table or a list hold the images and the captions."""

from __future__ import annotations

from collections.abc import Sequence

from training.data.data_recipe import DataError, closest
from training.loading.sources.base import printable

PATHS = ("file_name", "filename", "filepath", "file_path", "image_path", "path", "image", "img")
"""Usual names of a column of paths, the most usual first."""

IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes")
"""Usual names of a column of encoded images."""

CAPTIONS = ("text", "caption", "captions", "title", "txt", "alt_text", "alt", "sentences")
"""Usual names of a column of captions."""


def choose(columns: Sequence[str], wanted: str, usual: Sequence[str], field: str, file: str) -> str:
    """The column that the user named, or else the first one with a usual name, in any case.

    `field` is what the user sets to name one. Raises DataError for a name that is not there, when
    there is no usual one, and for a name that several columns have.
    """
    name = _choose(columns, wanted, usual, field, file)
    if (number := columns.count(name)) > 1:
        raise DataError(f"{field}: {printable(file)} has {number} columns {name!r}")
    return name


def _choose(
    columns: Sequence[str], wanted: str, usual: Sequence[str], field: str, file: str
) -> str:
    if wanted:
        if wanted not in columns:
            hint = closest(wanted, columns)
            raise DataError(f"{field}: {printable(file)} has no column {wanted!r}{hint}")
        return wanted
    by_name = {column.lower(): column for column in reversed(columns)}
    found = next((by_name[name] for name in usual if name in by_name), None)
    if found is None:
        named = ", ".join(printable(column) for column in columns[:20]) or "none"
        raise DataError(f"{field}: name a column of {printable(file)}, which has {named}")
    return found
