"""Which kind of input a location is."""

from __future__ import annotations

from serving.export.inputs import AUTO, INPUTS
from serving.export.inputs.base import TABLE_SUFFIXES, TAR_SUFFIX, Input, InputError
from serving.storage.location import Location


def open_input(location: str, kind: str = AUTO, column: str = "", id_column: str = "") -> Input:
    """Opens an input of a kind that INPUTS names; AUTO stands for what `detect_kind` finds.

    Raises InputError or LocationError, saying what is wrong with which location, or PluginError.
    """
    opened = Location.parse(location)
    if not opened.exists():
        raise InputError(f"{location}: not found")
    plugin = INPUTS.load(detect_kind(opened) if kind == AUTO else kind)
    if (column or id_column) and not plugin.has_columns:
        raise InputError(f"column: {location} is no table")
    return plugin.open(opened, column, id_column)


def detect_kind(location: Location) -> str:
    """The kind of an input by the names of its files: a tar file, a table, a folder that holds one
    of these (the first one decides), any other folder of images, and any other file as a list of
    paths."""
    if not location.is_folder():
        if location.path.endswith(TAR_SUFFIX):
            return "webdataset"
        return "table" if location.path.endswith(TABLE_SUFFIXES) else "list"
    for path, _ in location.walk():
        if path.endswith(TAR_SUFFIX):
            return "webdataset"
        if path.endswith(TABLE_SUFFIXES):
            return "table"
    return "folder"
