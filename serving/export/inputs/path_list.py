"""Images that a text file names, one on each line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

from serving.export.inputs._image_files import ImageFile, read_image_files
from serving.export.inputs._unique_ids import UniqueIds
from serving.export.inputs.base import (
    Content,
    InputEntry,
    InputError,
    LeftOut,
    Modality,
    image_size_problem,
)
from serving.storage.file_names import spell, unspell
from serving.storage.file_tree import StoredFile, look_up
from serving.storage.location import Location, LocationError
from serving.storage.parallel import map_in_threads

MAX_LINE_BYTES = 65_536
"""Of a longer line no more is read."""
_BLOCK_BYTES = 2**20


class _Line(NamedTuple):
    """A line that names an image."""

    number: int
    """From 1 on."""
    id: str
    path: str
    problem: str = ""


class PathList:
    """The files that a text file names: on each line a path, or an id, a tab and a path.

    A path is relative to the list's folder, or a URL of an object store. A line that names no file
    that can be read is an entry all the same: it goes into quarantine.
    """

    has_columns: ClassVar[bool] = False
    modality: Modality = "image"
    files: Mapping[str, str] = MappingProxyType({})

    def __init__(self, file: Location) -> None:
        self._file = file

    @classmethod
    def open(cls, location: Location, column: str = "", id_column: str = "") -> Self:
        """See Input.open."""
        if problem := look_up(location).problem:
            raise InputError(f"{location.path}: {problem}")
        return cls(location)

    def entries(self, left_out: LeftOut) -> Iterator[InputEntry]:
        """See Input.entries."""
        ids = UniqueIds()
        for line, file in map_in_threads(self._look_up, self._lines(left_out)):
            problem = line.problem or file.problem or image_size_problem(file.size)
            yield InputEntry(ids.claim(line.id), line.path, file.fingerprint, problem)

    def read(self, entries: Sequence[InputEntry]) -> Iterator[Content]:
        """See Input.read."""
        files = [ImageFile(self._at(e.source), e.fingerprint) for e in entries]
        return read_image_files(files)

    def _lines(self, left_out: LeftOut) -> Iterator[_Line]:
        with self._file.open() as stream:
            for number, data in enumerate(_split(stream), start=1):
                if number == 1 and b"\0" in data:
                    raise InputError(f"{self._file.name}: not a list of paths in UTF-8")
                if len(data) > MAX_LINE_BYTES:
                    place = f"{spell(self._file.name)}:{number}"
                    problem = f"line {number}: more than {MAX_LINE_BYTES} bytes"
                    yield _Line(number, place, place, problem)
                elif not data.strip():
                    left_out.add("blank lines")
                else:
                    yield _parse(number, data)

    def _look_up(self, line: _Line) -> tuple[_Line, StoredFile]:
        nothing = StoredFile(line.path, 0, "")
        if line.problem:
            return line, nothing
        try:
            location = self._at(line.path)
        except LocationError as error:
            return line._replace(problem=f"line {line.number}: {error}"), nothing
        return line, look_up(location)

    def _at(self, path: str) -> Location:
        path = unspell(path)
        return Location.parse(path) if "://" in path else self._file.parent.at(path)


def _split(stream: Any) -> Iterator[bytes]:
    """The lines of a file, which end at \\n or \\r\\n. Of one that is too long, some is given."""
    rest, is_first = b"", True
    while block := stream.read(_BLOCK_BYTES):
        if is_first:
            block, is_first = block.removeprefix(b"\xef\xbb\xbf"), False  # a mark of UTF-8
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
        rest = rest[: MAX_LINE_BYTES + 2]
    if rest:
        yield rest


def _parse(number: int, data: bytes) -> _Line:
    first, tab, rest = data.decode("utf-8", "surrogateescape").partition("\t")
    path = spell(rest if tab else first)
    id = spell(first) or path
    return _Line(number, id, path, "" if path else f"line {number}: no path")
