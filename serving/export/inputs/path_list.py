"""Images that a text file names, one on each line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Self

from serving.export.inputs.base import (
    NOT_FOUND,
    Content,
    InputEntry,
    InputError,
    Modality,
    read_files,
)
from serving.storage.location import Place
from serving.storage.parallel import mapped


class PathList:
    """The files that a text file names: on each line a path, or an id, a tab and a path.

    A path is relative to the list's folder, or a URL of an object store. A file that is not there
    is an entry all the same: it goes into quarantine.
    """

    has_columns: ClassVar[bool] = False
    modality: Modality = "image"
    files: Mapping[str, str] = MappingProxyType({})

    def __init__(self, file: Place) -> None:
        self._file = file

    @classmethod
    def open(cls, location: Place, column: str = "", id_column: str = "") -> Self:
        """See Input.open."""
        return cls(location)

    def entries(self) -> Iterator[InputEntry]:
        """See Input.entries."""
        try:
            lines = self._file.read().decode().splitlines()
        except UnicodeDecodeError:
            raise InputError(f"{self._file.name}: not a list of paths: not UTF-8") from None
        named = [(id, path) for id, path in map(_id_and_path, lines) if path]
        stamps = mapped(self._stamp, (path for _, path in named))
        for (id, path), stamp in zip(named, stamps, strict=True):
            yield InputEntry(id, path, stamp)

    def read(self, entries: Sequence[InputEntry]) -> Iterator[Content]:
        """See Input.read."""
        yield from read_files([self._at(entry.source) for entry in entries])

    def _stamp(self, path: str) -> str:
        try:
            return self._at(path).stamp()
        except OSError:
            return NOT_FOUND

    def _at(self, path: str) -> Place:
        return Place.of(path) if "://" in path else self._file.parent.at(path)


def _id_and_path(line: str) -> tuple[str, str]:
    first, tab, rest = line.partition("\t")
    path = (rest if tab else first).strip()
    return first if tab else path, path
