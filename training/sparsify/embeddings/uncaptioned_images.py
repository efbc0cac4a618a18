"""Images of a folder without captions, for heads that need none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Self

from training.data.data_recipe import DataError
from training.loading.pair_data import PairData
from training.loading.sources._files import FileList, ListedFile, inside, read_image, walk
from training.loading.sources._names import is_image
from training.loading.sources.base import (
    BadPair,
    BadPairError,
    Columns,
    Found,
    Pair,
    PairSource,
    printable,
)


class ImageFiles(FileList):
    """All images in and below a folder. Their pairs have no captions, so that nothing else than
    sparsify takes them: it is in no table."""

    @classmethod
    def open(cls, path: Path, columns: Columns) -> Self:
        """See PairSource.open."""
        if not path.is_dir():
            raise DataError(f"data.path: {path.name} is not a folder")
        names = list(walk(path))
        entries = [ListedFile(name, name, None) for name in names if is_image(name)]
        return cls(path, entries, (name for name in names if not is_image(name)))

    def _read(self, entries: Iterable[ListedFile]) -> Iterator[Found]:
        for entry in entries:
            key = printable(entry.key)
            try:
                yield Pair(key, read_image(inside(self._folder, entry.path)), ())
            except BadPairError as reason:
                yield BadPair(key, str(reason))


class UncaptionedImages(PairData):
    """A folder of images as data whose pairs have no captions, so that nothing could be measured
    on held-out ones: their split is `all`."""

    def __init__(self, path: Path) -> None:
        """Raises DataError when there is no such folder."""
        super().__init__(path, held_out="image")

    @cached_property
    def kind(self) -> str:
        """See PairData."""
        return "images"

    def _open(self, path: Path) -> PairSource:
        return ImageFiles.open(path, self.columns)
