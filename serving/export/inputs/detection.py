"""Which kind of input a location is."""

from __future__ import annotations

from collections import Counter

from serving.export.inputs import AUTO, INPUTS
from serving.export.inputs.base import (
    IMAGE_NAMES,
    TABLE_NAMES,
    TAR_NAMES,
    Input,
    InputError,
    is_named,
)
from serving.storage.file_tree import look_up, walk_names
from serving.storage.location import Location

NAMES = {"folder": IMAGE_NAMES, "webdataset": TAR_NAMES, "table": TABLE_NAMES}
"""Endings of the files that tell a kind."""


def open_input(location: str, kind: str = AUTO, column: str = "", id_column: str = "") -> Input:
    """Opens an input of a kind that INPUTS names; AUTO stands for what `detect_kind` finds.

    Raises InputError or LocationError, saying what is wrong with which location, or PluginError.
    """
    opened = Location.parse(location)
    if not opened.exists():
        raise InputError(f"{location}: not found")
    if not opened.is_folder() and (problem := look_up(opened).problem):
        raise InputError(f"{location}: {problem}")
    plugin = INPUTS.load(detect_kind(opened) if kind == AUTO else kind)
    if (column or id_column) and not plugin.has_columns:
        option = "--column" if column else "--id-column"
        raise InputError(f"{option}: {location} is no table")
    return plugin.open(opened, column, id_column)


def detect_kind(location: Location) -> str:
    """The kind of an input by the names of its files: a tar file, a table, and any other file as a
    list of paths; a folder of tar files, one of tables, and any other folder as one of images.

    Raises InputError for a folder that holds files of several kinds, and for an image.
    """
    if not location.is_folder():
        kinds = [kind for kind, endings in NAMES.items() if is_named(location.name, endings)]
        if "folder" in kinds:
            raise InputError(f"{location.path}: an image; name a folder, or a list of paths")
        return kinds[0] if kinds else "list"
    counts = {kind: Counter[str]() for kind in NAMES}
    for name in walk_names(location):
        for kind, endings in NAMES.items():
            if is_named(name, endings):
                counts[kind][next(x for x in endings if is_named(name, (x,)))] += 1
    found = [kind for kind, names in counts.items() if names]
    if len(found) > 1:
        told = "; ".join(
            f"--kind {kind}: {', '.join(f'{n:,} {x}' for x, n in counts[kind].most_common())}"
            for kind in found
        )
        raise InputError(f"{location.path}: a mix of kinds, of which --kind takes one. {told}")
    return found[0] if found else "folder"
