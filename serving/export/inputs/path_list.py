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
    LeftOut,
    Modality,
    read_files,
)
from serving.storage.location import Location
from serving.storage.parallel import map_in_threads


class PathList:
    """The files that a text file names: on each line a path, or an id, a tab and a path.

    A path is relative to the list's folder, or a URL of an object store. A file that is not there
    is an entry all the same: it goes into quarantine.
    """

    has_columns: ClassVar[bool] = False
    modality: Modality = "image"
    files: Mapping[str, str] = MappingProxyType({})

    def __init__(self, file: Location) -> None:
        self._file = file

    @classmethod
    def open(cls, location: Location, column: str = "", id_column: str = "") -> Self:
        """See Input.open."""
        return cls(location)

    def entries(self, left_out: LeftOut) -> Iterator[InputEntry]:
        """See Input.entries."""
        try:
            lines = self._file.read().decode().splitlines()
        except UnicodeDecodeError:
            raise InputError(f"{self._file.name}: not a list of paths: not UTF-8") from None
        named = [(id, path) for id, path in map(_id_and_path, lines) if path]
        fingerprints = map_in_threads(self._fingerprint, (path for _, path in named))
        for (id, path), fingerprint in zip(named, fingerprints, strict=True):
            yield InputEntry(id, path, fingerprint)

    def read(self, entries: Sequence[InputEntry]) -> Iterator[Content]:
        """See Input.read."""
        yield from read_files([self._at(entry.source) for entry in entries])

    def _fingerprint(self, path: str) -> str:
        try:
            return self._at(path).fingerprint()
        except OSError:
            return NOT_FOUND

    def _at(self, path: str) -> Location:
        return Location.parse(path) if "://" in path else self._file.parent.at(path)


def _id_and_path(line: str) -> tuple[str, str]:
    first, tab, rest = line.partition("\t")
    path = (rest if tab else first).strip()
    return first if tab else path, path
