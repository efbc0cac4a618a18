"""Images in and below a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Self

from serving.export.inputs._image_files import ImageFile, read_image_files
from serving.export.inputs.base import (
    IMAGE_NAMES,
    Content,
    InputEntry,
    InputError,
    LeftOut,
    Modality,
    image_size_problem,
    is_named,
)
from serving.storage.file_names import spell, unspell
from serving.storage.file_tree import walk_files
from serving.storage.location import Location


class ImageFolder:
    """Every file of an image's ending in and below a folder, by path."""

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
        for file in walk_files(self._folder, left_out.add):
            if is_named(file.path, IMAGE_NAMES) or file.path.endswith("/"):
                path = spell(file.path)
                problem = file.problem or image_size_problem(file.size)
                yield InputEntry(path, path, file.fingerprint, problem)
            else:
                left_out.add_name(file.path)

    def read(self, entries: Sequence[InputEntry]) -> Iterator[Content]:
        """See Input.read."""
        return read_image_files(
            [ImageFile(self._folder.at(unspell(e.source)), e.fingerprint) for e in entries]
        )
