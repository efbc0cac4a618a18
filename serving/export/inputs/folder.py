"""Images in and below a folder, and images that a list names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from bundle.image_header import IMAGE_SUFFIXES
from serving.export.inputs.base import Content, Entry, InputError, Modality, Unread
from serving.storage.location import Part, Place, read_many
from serving.storage.parallel import mapped

GONE = "not found"
UNREADABLE = "cannot be read"


class Folder:
    """Every JPEG, PNG and WebP file in and below a folder, by path."""

    modality: Modality = "image"
    files: Mapping[str, str] = MappingProxyType({})

    def __init__(self, place: Place) -> None:
        self._place = place

    def entries(self) -> Iterator[Entry]:
        """See Input.entries."""
        for path, stamp in self._place.walk():
            if path.lower().endswith(IMAGE_SUFFIXES):
                yield Entry(path, path, stamp)

    def read(self, entries: Sequence[Entry]) -> Iterator[Content]:
        """See Input.read."""
        yield from _read([self._place.at(entry.source) for entry in entries])


class PathList:
    """The files that a text file names, a line each: a path, or an id, a tab and a path.

    A path is relative to the list's folder, or a URL of an object store. A file that is not there
    is an entry all the same.
    """

    modality: Modality = "image"
    files: Mapping[str, str] = MappingProxyType({})

    def __init__(self, place: Place) -> None:
        self._place = place

    def entries(self) -> Iterator[Entry]:
        """See Input.entries."""
        try:
            lines = self._place.read().decode().splitlines()
        except UnicodeDecodeError:
            raise InputError(f"{self._place.name}: not a list of paths: not UTF-8") from None
        named = [(id, path) for id, path in map(_named, lines) if path]
        stamps = mapped(self._stamp, (path for _, path in named))
        for (id, path), stamp in zip(named, stamps, strict=True):
            yield Entry(id, path, stamp)

    def read(self, entries: Sequence[Entry]) -> Iterator[Content]:
        """See Input.read."""
        yield from _read([self._at(entry.source) for entry in entries])

    def _stamp(self, path: str) -> str:
        try:
            return self._at(path).stamp()
        except OSError:
            return GONE

    def _at(self, path: str) -> Place:
        return Place.of(path) if "://" in path else self._place.parent.at(path)


def _named(line: str) -> tuple[str, str]:
    """Id and path."""
    first, tab, rest = line.partition("\t")
    path = (rest if tab else first).strip()
    return first if tab else path, path


def _read(places: Sequence[Place]) -> Iterator[Content]:
    for found in read_many([Part(place) for place in places]):
        if isinstance(found, FileNotFoundError):
            yield Unread(GONE)
        else:
            yield Unread(UNREADABLE) if isinstance(found, OSError) else found
