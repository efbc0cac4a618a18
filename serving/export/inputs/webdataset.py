"""WebDataset: samples in tar files, read where they lie."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Self

from bundle.image_header import IMAGE_SUFFIXES
from serving.export.inputs.base import (
    TAR_SUFFIX,
    UNREADABLE,
    Content,
    InputEntry,
    InputError,
    Modality,
    Unread,
)
from serving.storage.location import Part, Place, read_many


class Tars:
    """The images of plain tar files; an entry's id is its name there without the suffix.

    The list of entries takes the headers only. What is read later are the bytes of an image, from
    the place that the header told.
    """

    has_columns: ClassVar[bool] = False
    modality: Modality = "image"

    def __init__(self, folder: Place, files: Mapping[str, str]) -> None:
        """`files` are the tar files in `folder`, and their stamps."""
        self._folder, self.files = folder, files

    @classmethod
    def open(cls, location: Place, column: str = "", id_column: str = "") -> Self:
        """See Input.open. The location is a tar file, or a folder that holds some."""
        return cls(*location.files((TAR_SUFFIX,)))

    def entries(self) -> Iterator[InputEntry]:
        """See Input.entries."""
        for file, stamp in self.files.items():
            try:
                with (
                    self._folder.at(file).open() as stream,
                    tarfile.open(fileobj=stream, mode="r:") as tar,
                ):
                    for member in tar:
                        if member.isfile() and member.name.lower().endswith(IMAGE_SUFFIXES):
                            start, end = member.offset_data, member.offset_data + member.size
                            key = member.name.rpartition(".")[0]
                            yield InputEntry(f"{file}/{key}", f"{file}:{start}:{end}", stamp)
            except tarfile.TarError as error:
                raise InputError(f"{file}: not a plain tar file: {error}") from None

    def read(self, entries: Sequence[InputEntry]) -> Iterator[Content]:
        """See Input.read."""
        parts = [self._part(entry) for entry in entries]
        for part, found in zip(parts, read_many(parts), strict=True):
            whole = isinstance(found, bytes) and part.start + len(found) == part.end
            yield found if isinstance(found, bytes) and whole else Unread(UNREADABLE)

    def _part(self, entry: InputEntry) -> Part:
        file, start, end = entry.source.rsplit(":", 2)
        return Part(self._folder.at(file), int(start), int(end))
