"""Files of a folder: found in a fixed order, and read only when they are regular and small."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from training.data.data_recipe import DataError
from training.loading.sources import _reasons
from training.loading.sources._captions import captions_of
from training.loading.sources._names import endings
from training.loading.sources.base import (
    MAX_IMAGE_BYTES,
    BadPair,
    BadPairError,
    Found,
    Pair,
    printable,
)

ENTRIES_PER_PIECE = 1000


def walk(folder: Path) -> Iterator[str]:
    """Paths, relative and with slashes, of what is in and below a folder and is no folder, sorted.

    Links to folders are followed, each folder once. Names that begin with a dot are left out.
    """
    seen: set[tuple[int, int]] = set()
    folders, files = [PurePosixPath()], list[str]()
    while folders:
        at = folders.pop()
        try:
            status = os.stat(folder / at)
            entries = list(os.scandir(folder / at))
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                folders.append(at / entry.name)
            else:
                files.append(str(at / entry.name))
    return iter(sorted(files))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nobody may look
        return False


def read_file(
    path: Path,
    limit: int = MAX_IMAGE_BYTES,
    reasons: _reasons.FileReasons = _reasons.IMAGE,
) -> bytes:
    """The bytes of a regular file of at most `limit` bytes. Raises BadPairError, with one of
    `reasons`, for any other."""
    try:
        # Opening a FIFO waits for a writer, unless it is told not to.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        raise BadPairError(reasons.not_found) from None
    except (OSError, ValueError):  # ValueError: a NUL in the path
        raise BadPairError(_reasons.UNREADABLE) from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadPairError(reasons.not_a_file)
        if status.st_size > limit:
            raise BadPairError(reasons.too_large)
        try:
            return file.read(limit)
        except OSError:
            raise BadPairError(_reasons.UNREADABLE) from None


def read_image(path: Path) -> bytes:
    """The bytes of an image. Raises BadPairError."""
    data = read_file(path)
    if not data:
        raise BadPairError(_reasons.EMPTY_IMAGE)
    return data


def inside(folder: Path, name: object) -> Path:
    """The file of `folder` that a list or a table names.

    Raises BadPairError for a path that is absolute or leads out of the folder. A URL is a path of
    no file.
    """
    if not isinstance(name, str) or not name.strip():
        raise BadPairError(_reasons.NO_IMAGE)
    path = PurePosixPath(name.strip())
    if path.is_absolute() or ".." in path.parts:
        raise BadPairError(_reasons.OUTSIDE)
    return folder / path


class ListedFile(NamedTuple):
    """One pair of a list of files: where its image is and what its captions are, unchecked."""

    key: str
    path: str
    captions: object
    """What `captions_of` takes, or a BadPairError that says why there is none."""


class FileList:
    """The pieces of a source whose images are files. Each piece is spread over all entries, so
    that a class or a folder is not read as one block."""

    def __init__(
        self, folder: Path, entries: Sequence[ListedFile], others: Iterable[str] = ()
    ) -> None:
        """`others` are files of the folder that are not read."""
        self._folder, self._entries = folder, entries
        self.left_out: Mapping[str, int] = endings(others)
        number = -(-len(entries) // ENTRIES_PER_PIECE)
        self.pieces: Sequence[str] = [str(i) for i in range(number)]

    def count(self, piece: str) -> int:
        """See PairSource.count."""
        return len(self._of(piece))

    def read(self, piece: str) -> Iterator[Found]:
        """See PairSource.read."""
        yield from self._read(self._of(piece))

    def _of(self, piece: str) -> Sequence[ListedFile]:
        return self._entries[int(piece) :: len(self.pieces)]

    def _read(self, entries: Iterable[ListedFile]) -> Iterator[Found]:
        for entry in entries:
            key = printable(entry.key)
            try:
                if isinstance(entry.captions, BadPairError):
                    raise entry.captions
                captions = captions_of(entry.captions)
                yield Pair(key, read_image(inside(self._folder, entry.path)), captions)
            except BadPairError as reason:
                yield BadPair(key, str(reason))


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON object in a file. Raises DataError."""
    try:
        content = json.loads(read_file(path))
    except (BadPairError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise DataError(f"data.path: {path.parent.name}/{path.name} is no JSON object")
    return content
