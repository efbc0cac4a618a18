"""Pictures in and below a folder, and pictures that a list names."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from serving.export.inputs.base import Content, Entry, InputError, Modality, Unread
from serving.export.place import Place

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
GONE = "not found"
UNREADABLE = "cannot be read"


class Folder:
    """Every JPEG, PNG and WebP file in and below a folder, by path."""

    modality: Modality = "image"

    def __init__(self, place: Place) -> None:
        self._place = place

    def entries(self) -> Iterator[Entry]:
        """See Input.entries."""
        for path, stamp in self._place.walk():
            if path.lower().endswith(SUFFIXES):
                yield Entry(path, path, stamp)

    def read(self, entries: Sequence[Entry]) -> Iterator[Content]:
        """See Input.read."""
        yield from (_read(self._place.at(entry.source)) for entry in entries)


class PathList:
    """The files that a text file names, a line each: a path, or an id, a tab and a path.

    Paths are relative to the list's folder. A file that is not there is an entry all the same.
    """

    modality: Modality = "image"

    def __init__(self, place: Place) -> None:
        self._place = place

    def entries(self) -> Iterator[Entry]:
        """See Input.entries."""
        try:
            lines = self._place.read().decode().splitlines()
        except UnicodeDecodeError:
            raise InputError(f"{self._place.name}: not a list of paths: not UTF-8") from None
        for line in lines:
            first, tab, rest = line.partition("\t")
            path = (rest if tab else first).strip()
            if not path:
                continue
            try:
                stamp = self._at(path).stamp()
            except OSError:
                stamp = GONE
            yield Entry(first if tab else path, path, stamp)

    def read(self, entries: Sequence[Entry]) -> Iterator[Content]:
        """See Input.read."""
        yield from (_read(self._at(entry.source)) for entry in entries)

    def _at(self, path: str) -> Place:
        return self._place.parent.at(posixpath.normpath(path))


def _read(place: Place) -> Content:
    try:
        return place.read()
    except FileNotFoundError:
        return Unread(GONE)
    except OSError:
        return Unread(UNREADABLE)
