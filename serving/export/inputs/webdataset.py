"""WebDataset: samples in tar files, read where they lie."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Self

from bundle.image_formats import IMAGE_SUFFIXES
from serving.export.inputs.base import (
    TAR_SUFFIX,
    UNREADABLE,
    Content,
    InputEntry,
    InputError,
    LeftOut,
    Modality,
    Unreadable,
)
from serving.storage.location import Location
from serving.storage.parallel import FileRange, read_ranges


class Tars:
    """The images of plain tar files. An entry's id is its file, and its name there without the
    suffix.

    Listing the entries reads the headers only. Each image is read later, at the offset that its
    header has.
    """

    has_columns: ClassVar[bool] = False
    modality: Modality = "image"

    def __init__(self, folder: Location, files: Mapping[str, str]) -> None:
        """`files` are the names and fingerprints of the tar files in `folder`."""
        self._folder, self.files = folder, files

    @classmethod
    def open(cls, location: Location, column: str = "", id_column: str = "") -> Self:
        """See Input.open. The location is a tar file, or a folder that holds some."""
        return cls(*location.files((TAR_SUFFIX,)))

    def entries(self, left_out: LeftOut) -> Iterator[InputEntry]:
        """See Input.entries."""
        for file, fingerprint in self.files.items():
            try:
                with (
                    self._folder.at(file).open() as stream,
                    tarfile.open(fileobj=stream, mode="r:") as tar,
                ):
                    for member in tar:
                        if member.isfile() and member.name.lower().endswith(IMAGE_SUFFIXES):
                            start, end = member.offset_data, member.offset_data + member.size
                            key = member.name.rpartition(".")[0]
                            source = f"{file}:{start}:{end}"
                            yield InputEntry(f"{file}/{key}", source, fingerprint)
                        elif member.isfile():
                            left_out.add_name(member.name)
            except tarfile.TarError as error:
                raise InputError(f"{file}: not a plain tar file: {error}") from None

    def read(self, entries: Sequence[InputEntry]) -> Iterator[Content]:
        """See Input.read."""
        ranges = [self._range(entry) for entry in entries]
        for file_range, data in zip(ranges, read_ranges(ranges), strict=True):
            # A tar file that was cut off gives fewer bytes than its header says.
            if isinstance(data, bytes) and file_range.start + len(data) == file_range.end:
                yield data
            else:
                yield Unreadable(UNREADABLE)

    def _range(self, entry: InputEntry) -> FileRange:
        file, start, end = entry.source.rsplit(":", 2)
        return FileRange(self._folder.at(file), int(start), int(end))
