"""Images of a folder with a caption file beside each: `cat.png` and `cat.txt` or `cat.json`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from training.data.data_recipe import DataError
from training.loading.sources import _reasons
from training.loading.sources._captions import (
    MAX_CAPTION_BYTES,
    captions_of_json,
    captions_of_text,
)
from training.loading.sources._files import FileList, ListedFile, read_file, walk
from training.loading.sources._names import CAPTION_SUFFIXES, split_name
from training.loading.sources.base import BadPairError, Columns, Found


class FilePairs(FileList):
    """Files in and below a folder; those of one name, without its ending, are a pair."""

    @classmethod
    def open(cls, path: Path, columns: Columns) -> Self:
        """See PairSource.open."""
        if not path.is_dir():
            raise DataError(f"data.path: {path.name} is not a folder")
        groups: dict[str, dict[str, str]] = defaultdict(dict)
        repeated, others = [], []
        for name in walk(path):
            key, suffix = split_name(name)
            if not suffix:
                others.append(name)
            elif suffix in groups[key]:  # a.PNG beside a.png
                repeated.append(ListedFile(name, "", BadPairError(_reasons.REPEATED)))
            else:
                groups[key][suffix] = name
        entries = [_entry(key, files) for key, files in groups.items()]
        others += [name for files in groups.values() for name in _images(files)[1:]]
        return cls(path, [*entries, *repeated], others)

    def read(self, piece: str) -> Iterator[Found]:
        """See PairSource.read."""
        yield from self._read(
            entry._replace(captions=self._captions(entry.captions)) for entry in self._of(piece)
        )

    def _captions(self, file: object) -> object:
        if not isinstance(file, str):
            return file
        try:
            data = read_file(self._folder / file, MAX_CAPTION_BYTES, _reasons.CAPTION)
            is_json = file.lower().endswith(".json")
            return captions_of_json(data) if is_json else captions_of_text(data)
        except BadPairError as reason:
            return reason


def _entry(key: str, files: dict[str, str]) -> ListedFile:
    """The captions of an entry are the name of their file, until it is read."""
    images = _images(files)
    caption = files.get(".txt") or files.get(".json")
    if not images:
        return ListedFile(key, "", BadPairError(_reasons.NO_IMAGE))
    return ListedFile(key, images[0], caption or BadPairError(_reasons.NO_CAPTION))


def _images(files: dict[str, str]) -> list[str]:
    """The images of one name. The first is the pair's."""
    return [name for suffix, name in files.items() if suffix not in CAPTION_SUFFIXES]
