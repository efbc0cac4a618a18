"""Images in and below a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Self

from bundle.image_formats import IMAGE_SUFFIXES
from serving.export.inputs.base import (
    Content,
    InputEntry,
    InputError,
    LeftOut,
    Modality,
    read_files,
)
from serving.storage.location import Location


class ImageFolder:
    """Every JPEG, PNG and WebP file in and below a folder, by path."""

    has_columns: ClassVar[bool] = False
    modality: Modality = "image"
    files: Mapping[str, str] = MappingProxyType({})

    def __init__(self, folder: Location) -> None:
        self._folder = folder

    @classmethod
    def open(cls, location: Location, column: str = "", id_column: str = "") -> Self:
        """See Input.open."""
        if not location.is_folder():
            raise InputError(f"{location.path}: not a folder")
        return cls(location)

    def entries(self, left_out: LeftOut) -> Iterator[InputEntry]:
        """See Input.entries."""
        for path, fingerprint in self._folder.walk():
            if path.lower().endswith(IMAGE_SUFFIXES):
                yield InputEntry(path, path, fingerprint)
            else:
                left_out.add_name(path)

    def read(self, entries: Sequence[InputEntry]) -> Iterator[Content]:
        """See Input.read."""
        yield from read_files([self._folder.at(entry.source) for entry in entries])
