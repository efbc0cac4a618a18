"""Which input a location is."""

from __future__ import annotations

from typing import Literal

from serving.export.inputs.base import Input, InputError
from serving.export.inputs.folder import Folder, PathList
from serving.export.inputs.table import SUFFIXES as TABLES
from serving.export.inputs.table import Table
from serving.export.inputs.webdataset import Tars
from serving.storage.location import Place

Kind = Literal["auto", "folder", "webdataset", "table", "list"]


def open_input(location: str, kind: Kind = "auto", column: str = "", id_column: str = "") -> Input:
    """Opens an input. Raises InputError or PlaceError, saying what is wrong with which location.

    `auto` goes by the name: a tar file, a table, a folder that holds either, any other folder, and
    any other file as a list of paths.
    """
    place = Place.of(location)
    if not place.exists():
        raise InputError(f"{location}: not found")
    chosen = _kind(place) if kind == "auto" else kind
    if chosen == "table":
        if not column:
            raise InputError("column: name the column that holds the images or the texts")
        return Table(place, column, id_column)
    if column or id_column:
        raise InputError(f"column: {location} is no table")
    if chosen == "webdataset":
        return Tars(place)
    if chosen == "list":
        return PathList(place)
    if not place.is_folder():
        raise InputError(f"{location}: not a folder")
    return Folder(place)


def _kind(place: Place) -> Kind:
    if not place.is_folder():
        if place.path.endswith(".tar"):
            return "webdataset"
        return "table" if place.path.endswith(TABLES) else "list"
    for path, _ in place.walk():
        if path.endswith(".tar"):
            return "webdataset"
        if path.endswith(TABLES):
            return "table"
    return "folder"
