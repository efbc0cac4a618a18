"""WebDataset: samples in tar files, read where they lie."""

from __future__ import annotations

import contextlib
import functools
import gzip
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

from serving.export.inputs._container_files import ContainerFiles, file_entry
from serving.export.inputs._gzip_ranges import GzipRanges
from serving.export.inputs._tar_members import TarMember, tar_members
from serving.export.inputs._unique_ids import UniqueIds
from serving.export.inputs.base import (
    CUT_SHORT,
    IMAGE_NAMES,
    TAR_NAMES,
    Content,
    InputEntry,
    LeftOut,
    Modality,
    Unreadable,
    image_size_problem,
    is_named,
)
from serving.storage.file_names import spell
from serving.storage.file_tree import StoredFile
from serving.storage.local_tree import NOT_A_FILE, problem_of
from serving.storage.location import Location
from serving.storage.parallel import FileRange, read_ranges

GZIP_NAMES = (".gz", ".tgz")
OPEN_FILES = 4
"""Compressed files whose state is kept: entries of one file follow each other."""


class Tars:
    """The images of tar files. An entry's id is its file and its name there; where a tar file has
    a name twice, the second one has `#2` behind it.

    Listing the entries reads the headers only. Each image is read later, at the offset that its
    header has.
    """

    has_columns: ClassVar[bool] = False
    modality: Modality = "image"

    def __init__(self, found: ContainerFiles) -> None:
        self._found, self.files = found, found.fingerprints
        self._gzip = functools.lru_cache(OPEN_FILES)(lambda file: GzipRanges(found.at(file)))

    @classmethod
    def open(cls, location: Location, column: str = "", id_column: str = "") -> Self:
        """See Input.open. The location is a tar file, or a folder that holds some."""
        return cls(ContainerFiles.find(location, TAR_NAMES))

    def entries(self, left_out: LeftOut) -> Iterator[InputEntry]:
        """See Input.entries."""
        left_out.update(self._found.left_out)
        for file in self._found.files:
            whole = file_entry(file)
            if whole.problem:
                yield whole
                continue
            ids = UniqueIds()
            try:
                for member in self._members(file):
                    entry = _entry(file, member)
                    if entry:
                        yield entry._replace(id=ids.claim(entry.id))
                    elif not member.is_folder:
                        left_out.add_name(member.name)
            except OSError as error:  # it is gone, or protected
                yield file_entry(file, problem_of(error))

    def read(self, entries: Sequence[InputEntry]) -> Iterator[Content]:
        """See Input.read."""
        ranges = [_range(entry) for entry in entries]
        plain = [
            FileRange(self._found.at(file), start, end)
            for file, start, end in ranges
            if not is_named(file, GZIP_NAMES)
        ]
        read_plain = read_ranges(plain)
        read = [
            self._inflate(file, start, end) if is_named(file, GZIP_NAMES) else next(read_plain)
            for file, start, end in ranges
        ]
        problems = self._found.problems_now(
            (file, entry.fingerprint) for entry, (file, *_) in zip(entries, ranges, strict=True)
        )
        for data, (file, start, end) in zip(read, ranges, strict=True):
            if file in problems:
                yield Unreadable(problems[file])
            elif isinstance(data, OSError):
                yield Unreadable(problem_of(data))
            else:
                yield data if len(data) == end - start else Unreadable(CUT_SHORT)

    def _members(self, file: StoredFile) -> Iterator[TarMember]:
        with contextlib.ExitStack() as files:
            stream: Any = files.enter_context(self._found.at(file.path).open())
            size: int | None = file.size
            if is_named(file.path, GZIP_NAMES):
                stream, size = files.enter_context(gzip.GzipFile(fileobj=stream)), None
            yield from tar_members(stream, size)

    def _inflate(self, file: str, start: int, end: int) -> bytes | OSError:
        try:
            return self._gzip(file).read(start, end)
        except OSError as error:
            return error
        except zlib.error:
            return OSError("damaged")


def _entry(file: StoredFile, member: TarMember) -> InputEntry | None:
    """The entry of a member, or of a part that is none; None for a member that is no image."""
    source = f"{file.path}:{member.start}:{member.end}"
    if not member.name:
        return InputEntry(source, source, file.fingerprint, member.problem)
    if not is_named(member.name, IMAGE_NAMES) or member.is_folder:
        return None
    size = member.end - member.start
    problem = member.problem or (image_size_problem(size) if member.is_file else NOT_A_FILE)
    return InputEntry(f"{file.path}/{spell(member.name)}", source, file.fingerprint, problem)


def _range(entry: InputEntry) -> tuple[str, int, int]:
    file, start, end = entry.source.rsplit(":", 2)
    return file, int(start), int(end)
